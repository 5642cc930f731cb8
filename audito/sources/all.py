"""All sources. A new one is its own file and one name here; the contract suite then runs on it."""

from __future__ import annotations

from audito.sources import Source
from audito.sources.directory import DirectorySource
from audito.sources.fifo import FifoSource
from audito.sources.journal import JournalSource
from audito.sources.spool import SpooledSource
from audito.sources.stdin import StdinSource
from audito.sources.syslog import SyslogSource

ALL: tuple[type[Source], ...] = (DirectorySource, FifoSource, JournalSource, SpooledSource, StdinSource, SyslogSource)

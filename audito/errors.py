"""Errors that reach an operator. Each knows the exit code that the command line gives for it."""

from __future__ import annotations


class AuditoError(Exception):
    """Base of all errors that audito raises on purpose; exits 1."""

    exit_code = 1


class UsageError(AuditoError):
    """A flag, an environment variable or a configuration file that cannot be meant; exits 2."""

    exit_code = 2


class SourceError(AuditoError):
    """An input that cannot be opened or read now. The daemon retries it; a replay ends with it."""


class SinkError(AuditoError):
    """An output that cannot be opened or written now. The daemon retries it and pauses the sources."""


class StateError(AuditoError):
    """A state file that cannot be read or written. Reported, never fatal."""

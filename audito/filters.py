"""Filters: which actions are written, by ordered rules of the configuration. The first that matches decides.

A rule is one line, ``drop NAME KEY=GLOB…`` or ``keep NAME KEY=GLOB…``. All its keys have to fit; of the globs of one
key any may. What an event does not tell fits no glob, not even ``*``. Rules see what happened before redaction.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache

import msgspec
from msgspec import Struct

from audito.redact import NAME_FORM

FILTERS_MAX = 64
"""Each is looked at for every action, and is a series of /metrics."""

GLOBS_MAX = 256
"""Of one key of one filter."""

IDENTITIES_KEPT = 4_096
"""Logins of which is remembered which rules they fit."""

KEYS = ("action", "object-type", "object", "exe", "key", "uid", "logged-as", "user-id")
"""What a rule can ask for. ``uid``: number or name of who acted; ``logged-as``, ``user-id``: of the login."""

VERBS = ("drop", "keep")
_LOGIN_KEYS = ("logged-as", "user-id")

Test = Callable[[str], object]


class Filter(Struct, frozen=True):
    """One rule. ``globs``: (key, globs of which one has to fit) of each key; ``*`` also stands for slashes."""

    name: str
    drop: bool
    globs: tuple[tuple[str, tuple[str, ...]], ...]


def parse_filter(line: str) -> Filter:
    """A rule from its line; quotes and backslashes are a shell's. Errors: ValueError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f'filter "{line}": {str(error).lower()}') from error
    if len(words) < 2 or words[0] not in VERBS:
        raise ValueError(f'filter "{line}": write it as drop NAME KEY=GLOB... or keep NAME KEY=GLOB...')
    verb, name, *conditions = words
    if not NAME_FORM.fullmatch(name):
        raise ValueError(f'filter "{name}": a name begins with a-z and has up to 63 of a-z, 0-9, - and _')
    globs: dict[str, list[str]] = {}
    for condition in conditions:
        key, equals, glob = condition.partition("=")
        if not equals or not glob:
            raise ValueError(f'filter {name}: "{condition}" is no condition; write it as KEY=GLOB')
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}"
            raise ValueError(f'filter {name}: unknown key "{key}"; {hint}')
        globs.setdefault(key, []).append(glob)
    if not globs:
        raise ValueError(f"filter {name}: it asks for nothing and would {verb} everything; action=* says so")
    for key, some in globs.items():
        if len(some) > GLOBS_MAX:
            raise ValueError(f"filter {name}: key {key}: {len(some)} globs are more than {GLOBS_MAX}")
    return Filter(name, verb == "drop", tuple((key, tuple(some)) for key, some in globs.items()))


def line_of_table(table: Mapping[str, object]) -> str:
    """The line of a TOML table with ``name``, ``do`` and keys whose values are a glob or a list. Errors: ValueError."""
    name = table.get("name", "")
    verb = table.get("do", "")
    if not isinstance(name, str) or not name:
        raise ValueError("it has no name")
    if verb not in VERBS:
        raise ValueError(f'filter {name}: key do: it is "drop" or "keep"')
    words = [verb, name]
    for key, value in table.items():
        if key in ("name", "do"):
            continue
        globs = value if isinstance(value, list) else [value]
        if not globs or not all(isinstance(glob, str) and glob for glob in globs):
            raise ValueError(f"filter {name}: key {key}: it takes a string or a list of strings, and none is empty")
        words += [f"{key.replace('_', '-')}={glob}" for glob in globs]
    return shlex.join(words)


class Filters:
    """The rules, ready for use. ``asks``: whether one asks for exe, key, uid, or who logged in; ``hits``: by name.

    ``before``: those that were in use until now; a rule of the same name goes on with its count.
    """

    def __init__(self, filters: Sequence[Filter], before: Filters | None = None) -> None:
        self._rules = [_Rule(rule) for rule in filters]
        self._dropped_before = 0
        if before is not None:
            self._dropped_before = before.dropped
            for rule in self._rules:
                rule.hits_before = before.hits.get(rule.name, 0)
        asked = {key for rule in filters for key, _ in rule.globs}
        self.asks = ("exe" in asked, "key" in asked, "uid" in asked, not asked.isdisjoint(_LOGIN_KEYS))
        self._logins = lru_cache(IDENTITIES_KEPT)(self._login_fits)

    @property
    def hits(self) -> dict[str, int]:
        """How many actions each rule decided."""
        return {rule.name: rule.hits_before + rule.hits for rule in self._rules}

    @property
    def dropped(self) -> int:
        """Actions that were not written."""
        return self._dropped_before + sum(rule.hits for rule in self._rules if rule.drop)

    def drops(
        self,
        action: str,
        object_type: str | None,
        primary: str | None,
        exe: str | None,
        key: str | None,
        uid: str | None,
        uid_name: str | None,
        subjects: bytes | None,
    ) -> bool:
        """Whether the action is not to be written. ``subjects``: the login's, as JSON; ``key``: 0x01 parts several."""
        facts = (action, object_type, primary, exe)
        logins = None if subjects is None else self._logins(subjects)
        for number, rule in enumerate(self._rules):
            if logins is not None and not logins[number]:
                continue
            for place, fits in rule.tests:
                fact = facts[place]
                if fact is None or not fits(fact):
                    break
            else:
                if rule.key is not None and (key is None or not any(map(rule.key, key.split("\x01")))):
                    continue
                if rule.uid is not None and not any(rule.uid(text) for text in (uid, uid_name) if text is not None):
                    continue
                rule.hits += 1
                return rule.drop
        return False

    def _login_fits(self, subjects: bytes) -> tuple[bool, ...]:
        """Of each rule, whether this login fits what it asks of logins."""
        who = msgspec.json.decode(subjects, type=_Who)
        return tuple(
            all(fits(who.loggedAs if key == "logged-as" else who.userID) for key, fits in rule.logins)
            for rule in self._rules
        )


class _Who(Struct):
    """What of a login's subjects is asked for."""

    loggedAs: str = ""  # noqa: N815  # as it is written out
    userID: str = ""  # noqa: N815


class _Rule:
    """One rule, its globs compiled."""

    def __init__(self, rule: Filter) -> None:
        self.name = rule.name
        self.drop = rule.drop
        self.hits = 0
        self.hits_before = 0
        tests = {key: _test_of(globs) for key, globs in rule.globs}
        self.tests = [(KEYS.index(key), fits) for key, fits in tests.items() if key in KEYS[:4]]
        self.key = tests.get("key")
        self.uid = tests.get("uid")
        self.logins = [(key, fits) for key, fits in tests.items() if key in _LOGIN_KEYS]


def _test_of(globs: Sequence[str]) -> Test:
    """Whether a text fits one of the globs."""
    if not any(set(glob) & set("*?[") for glob in globs):
        return frozenset(globs).__contains__
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match

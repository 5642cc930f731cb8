"""What auditctl(8) prints, read: the kernel's audit status, and what its rules record and hide.

Pure text in, answers out; :mod:`audito.doctor` runs the program. Of a rule it is asked whether it matches all of
some events, none, or some: a field that those events do not decide (a file, a program, an effective user) makes it
some. Source: auditctl(8), audit.rules(7); the kernel's audit_filter_rules(), of whose rules the first that matches
decides.
"""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from audito.tables.audit_rules import ABIS, ARCH_ABIS, RULE, RULES_HEAD
from audito.tables.record_types import RECORD_TYPES

Part = Literal["all", "some", "none"]
"""Of the events in question."""

UNSET = 2**32 - 1
"""-1 as the kernel has it: an auid or session that is nobody's."""

_FIELD = re.compile(r"([a-z0-9_]+)(!=|<=|>=|&=|=|<|>|&)(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Rule(Struct, frozen=True):
    """One loaded rule. ``text``: as it was printed; ``fields``: (name, operator, value), ``-C`` with the name "-C"."""

    text: str
    action: str
    filter: str
    syscalls: tuple[str, ...]
    fields: tuple[tuple[str, str, str], ...]

    @property
    def removal(self) -> str:
        """The command of a shell that takes it away until rules are loaded again."""
        return shlex.join(("auditctl", "-d", *self.text.split()[1:]))


class Coverage(Struct, frozen=True):
    """Which part of the events is recorded. ``blame``: the rules that hide some of them, or record only some."""

    part: Part
    blame: tuple[Rule, ...] = ()


def parse_status(text: str) -> dict[str, int]:
    """The numbers of ``auditctl -s``; older ones print them in one line: ``AUDIT_STATUS: enabled=1 flag=1 pid=…``."""
    pairs = re.findall(r"\b([a-z_]+)[ =]([0-9]+)\b", text)
    return {"failure" if name == "flag" else name: int(value) for name, value in pairs}


def parse_rules(text: str) -> list[Rule]:
    """The rules of ``auditctl -l``, or of a file of rules; what is no rule of a list (``-w``, ``-b``) is passed."""
    rules = (_parse_rule(line.strip()) for line in text.splitlines())
    return [rule for rule in rules if rule is not None]


def _parse_rule(line: str) -> Rule | None:
    words = line.split()
    if len(words) < 2 or words[0] not in ("-a", "-A"):
        return None
    sides = words[1].split(",")
    action = next((side for side in sides if side in ("always", "never", "possible")), "")
    filter_name = next((side for side in sides if side != action), "")
    syscalls: list[str] = []
    fields: list[tuple[str, str, str]] = []
    for option, value in zip(words[2::2], words[3::2], strict=False):
        match = _FIELD.fullmatch(value)
        if option == "-S":
            syscalls += value.split(",")
        elif option == "-F" and match:
            fields.append((match[1], match[2], match[3]))
        elif option == "-C":
            fields.append(("-C", "", value))
    return Rule(line, action, filter_name, tuple(syscalls), tuple(fields))


def same_rule(one: Rule, other: Rule) -> bool:
    """Whether two texts are one rule: ``exit,always`` is ``always,exit``, and ``-k`` is a key's short form."""

    def meaning(rule: Rule) -> tuple[object, ...]:
        fields = {field for field in rule.fields if field[0] != "key"}
        return (rule.action, rule.filter, set(rule.syscalls) or {"all"}, {(n, o, _plain(v)) for n, o, v in fields})

    return meaning(one) == meaning(other)


def _plain(value: str) -> str:
    return "-1" if value in ("unset", str(UNSET)) else value


def syscall_coverage(rules: Iterable[Rule], *, abi: str, syscall: str, auid: int) -> Coverage:
    """Which of the calls of ``syscall`` by sessions of ``auid`` are recorded."""
    parts = [(rule, _syscall_part(rule, abi, syscall, auid)) for rule in rules]
    blame = [rule for rule, part in parts if rule.filter == "task" and rule.action == "never" and part != "none"]
    if any(rule.filter == "task" and rule.action == "never" and part == "all" for rule, part in parts):
        # Asked when a process is made: no call of one that is told never is looked at.
        return Coverage("none", tuple(blame))
    found: Part = "none"
    for rule, part in parts:
        if part == "none" or rule.filter != "exit":
            continue
        if rule.action == "never":
            blame.append(rule)
            if part == "all":
                return Coverage(found, tuple(blame))
        elif part == "all":
            return Coverage("some" if blame else "all", tuple(blame))
        else:
            found = "some"
    return Coverage(found, tuple(blame))


def _syscall_part(rule: Rule, abi: str, syscall: str, auid: int) -> Part:
    """Whether the rule matches these calls."""
    if rule.filter not in ("exit", "task"):
        return "none"
    if rule.filter == "exit" and not {syscall, "all"} & set(rule.syscalls):
        return "none"
    known = {"auid": auid, "loginuid": auid}
    parts: list[Part] = []
    arches = [field for field in rule.fields if field[0] == "arch"]
    for _, op, value in arches:
        parts.append("all" if (ARCH_ABIS.get(value, "") == abi) == (op == "=") else "none")
    if rule.filter == "exit" and not arches and "all" not in rule.syscalls and abi != "b64":
        parts.append("none")  # a name without an architecture is the number that the native one has for it
    for name, op, value in rule.fields:
        if name in known:
            parts.append(_number_part(known[name], op, value))
        elif name == "sessionid":
            parts.append("none" if op == "=" and _plain(value) == "-1" else "all" if _plain(value) == "-1" else "some")
        elif name not in ("arch", "key"):
            parts.append("some")
    return _both(parts)


def _number_part(number: int, op: str, value: str) -> Part:
    """``number op value``, as the kernel compares: unsigned."""
    try:
        other = int(_plain(value)) % 2**32
    except ValueError:
        return "some"  # the name of a user
    compare = _COMPARE.get(op)
    if compare is None:
        return "some"
    return "all" if compare(number % 2**32, other) else "none"


def _both(parts: Iterable[Part]) -> Part:
    """Of conditions that must all hold."""
    found: Part = "all"
    for part in parts:
        if part == "none":
            return "none"
        if part == "some":
            found = "some"
    return found


def hidden_by(rules: Iterable[Rule], record_type: str) -> Coverage:
    """Which of the records of this type rules on the exclude and user lists hide. ``part``: what is hidden."""
    number = RECORD_TYPES[record_type]
    blame: list[Rule] = []
    found: Part = "none"
    for rule in rules:
        is_user = rule.filter == "user" and rule.action == "never" and _is_from_user_space(number)
        if rule.filter != "exclude" and not is_user:
            continue
        part = _both(
            _type_part(number, op, value) if name == "msgtype" else "some"
            for name, op, value in rule.fields
            if name != "key"
        )
        if part != "none":
            blame.append(rule)
            found = "all" if "all" in (part, found) else "some"
    return Coverage(found, tuple(blame))


def _is_from_user_space(number: int) -> bool:
    """Whether programs write records of this type; on their way in the user list is looked at."""
    return 1100 <= number < 1200 or 2100 <= number < 3000


def _type_part(number: int, op: str, value: str) -> Part:
    return _number_part(number, op, str(RECORD_TYPES.get(value, value)))


def abis_of(machine: str) -> tuple[str, ...]:
    """The ways into the kernel of a machine, as ``uname -m`` names it."""
    return ABIS.get(machine, ("b64",))


def rules_text(machine: str) -> str:
    """The rules that audito needs there, as a file for augenrules."""
    return RULES_HEAD + "".join(RULE.format(abi=abi) for abi in abis_of(machine))

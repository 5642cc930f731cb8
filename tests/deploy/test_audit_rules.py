"""deploy/audit as text; tests/e2e/test_deploy.py loads it into the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audito import auditctl
from tests.deploy.programs import DEPLOY

FILES = sorted((DEPLOY / "audit").glob("*.rules"))
ONLY_B32 = {"stime", "umount"}
"""System calls that the 64-bit ABI does not have."""


def rules(path: Path) -> list[str]:
    """The rules of a file, without its comments."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def shape(rule: str) -> tuple[str, frozenset[str]]:
    """A rule less its ABI and less the calls that only one of them has: the rest, and the calls."""
    calls = re.search(r" -S (\S+)", rule)
    rest = re.sub(r" -F arch=b\d\d| -S \S+", "", rule)
    return rest, frozenset(calls[1].split(",")) - ONLY_B32 if calls else frozenset()


def test_both_files_are_there() -> None:
    assert [path.name for path in FILES] == ["audito-cis.rules", "audito-minimal.rules"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_rule_is_there_for_both_abis(path: Path) -> None:
    by_abi = {abi: [shape(rule) for rule in rules(path) if f"arch={abi} " in rule] for abi in ("b64", "b32")}
    assert by_abi["b64"]
    assert by_abi["b64"] == by_abi["b32"]
    assert len(rules(path)) == 2 * len(by_abi["b64"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_only_adds_rules_with_a_key_of_ours(path: Path) -> None:
    """It stands among other files of rules.d: it must not clear the list, lock it, or set what others set."""
    for rule in rules(path):
        assert re.fullmatch(r"-a always,exit (-\S+ \S+ )+-F key=audito-[a-z-]+", rule), rule


def test_minimal_is_what_the_rest_relies_on() -> None:
    (minimal,) = [path for path in FILES if "minimal" in path.name]
    for machine in ("x86_64", "aarch64"):
        assert minimal.read_text(encoding="utf-8") == auditctl.rules_text(machine), (
            "as audito doctor --write-rules has it"
        )
    assert "\n".join(rules(minimal)).count("-S execve,execveat -F auid!=-1 -F key=audito-exec") == 2

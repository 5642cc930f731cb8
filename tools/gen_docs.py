#!/usr/bin/env python3
"""Write what docs/ and deploy/ say and the code knows: flags, metrics, the JSON Schemas of events, minimal audit rules.

``--check`` writes nothing and fails where they are not what this would write. Run it after a change of a series, of a
setting, or of a struct in audito/events.py: ``make schema``.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import fields
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from audito import auditctl, config, events, health, netlink  # noqa: E402
from audito.core import Core, CoreSettings  # noqa: E402
from audito.sources.directory import DirectorySource  # noqa: E402
from audito.sources.fifo import FifoSource  # noqa: E402
from audito.sources.journal import JournalSource  # noqa: E402
from audito.sources.spool import SpooledSource  # noqa: E402
from audito.sources.syslog import SyslogSource  # noqa: E402
from tools.generated import write_or_check  # noqa: E402

RULES = ROOT / "deploy" / "audit" / "audito-minimal.rules"
FLAGS = ROOT / "docs" / "flags.md"
METRICS = ROOT / "docs" / "metrics.md"
EVENTS_SCHEMA = ROOT / "docs" / "events.schema.json"
DECODE_SCHEMA = ROOT / "docs" / "decode.schema.json"

MARK = "<!-- From here on made by tools/gen_docs.py from the help texts in the code: `make schema`. -->\n"
LABEL_VALUES_MAX = 20
"""More are not listed: they are names of patterns."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EVENTS = (events.UserLogin, events.UserAction, events.UserLogout, events.IdentityConflict, events.AuditGap)

TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

NARROWED: dict[tuple[str, str], Any] = {
    ("UserLogin", "component"): Literal["sshd", "auditd"],
    ("UserAction", "component"): Literal["auditd"],
    ("UserLogout", "component"): Literal["auditd", "sshd"],
    ("IdentityConflict", "component"): Literal["sshd"],
    ("AuditGap", "component"): Literal["auditd", "sshd"],
    ("IdentityConflict", "outcome"): Literal["failed"],
    ("UserLogout", "outcome"): Literal["succeeded"],
    ("Source", "type"): Literal["IP", "DNS"],
    ("GapExtra", "reason"): Literal[events.GAP_REASONS],
    ("LoginExtra", "trust"): Literal["low"],
    ("LoginExtra", "correlation"): Literal[events.CORRELATIONS],
    ("ActionExtra", "correlation"): Literal[events.CORRELATIONS],
    ("LogoutExtra", "correlation"): Literal[events.CORRELATIONS],
}
"""Fields that take fewer values than their struct's type says."""

CARRIED: dict[str, type[Struct]] = {
    "source": events.Source,
    "subjects": events.Subjects,
    "target": events.Target,
    "claimedSource": events.Source,
    "claimedSubjects": events.Subjects,
    "extra": events.ActionExtra,
}
"""What stands in a field that the code carries as encoded JSON."""


# -- events


class Shapes:
    """The structs of the events as they are on the wire: what is carried as JSON has its struct again."""

    def __init__(self) -> None:
        self._made: dict[type[Struct], type[Struct]] = {}

    def of(self, struct: type[Struct]) -> type[Struct]:
        """The struct with the types that a reader meets."""
        if struct not in self._made:
            rows = [self._row(struct, field) for field in fields(struct)]
            if struct is events.ActionExtra:
                rows += [self._row(events.Context, field) for field in fields(events.Context)]
            names = {field.name: field.encode_name for field in fields(struct)}
            self._made[struct] = msgspec.defstruct(
                struct.__name__, rows, rename=names, kw_only=True, namespace={"__doc__": first_sentence(struct)}
            )
        return self._made[struct]

    def _row(self, struct: type[Struct], field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
        return field.name, self._type(struct, field.name, field.type), UNSET if is_optional(field.type) else NODEFAULT

    def _type(self, struct: type[Struct], name: str, kind: Any) -> Any:
        if (struct.__name__, name) in NARROWED:
            narrowed = NARROWED[struct.__name__, name]
            return narrowed | UnsetType if is_optional(kind) else narrowed
        if struct in EVENTS and name in ("type", "outcome", "loggedAt"):
            return {"type": Literal[struct.__name__], "outcome": events.Outcome, "loggedAt": TIME}[name]
        if kind is Raw or Raw in get_args(kind):
            return self.of(CARRIED[name])
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.of(kind)
        if get_origin(kind) in (Union, types.UnionType):
            return Union[tuple(self._type(struct, name, part) for part in get_args(kind))]  # noqa: UP007
        return kind


def is_optional(kind: Any) -> bool:
    """Whether a field of this type may be missing."""
    return UnsetType in get_args(kind)


def first_sentence(struct: type[Struct]) -> str:
    """Of its docstring, which goes into the schema."""
    return " ".join((struct.__doc__ or "").split()).partition(". ")[0].removesuffix(".").replace("``", "") + "."


def paths(struct: type[Struct], before: str = "") -> Iterator[tuple[str, bool]]:
    """Each field of an event as a reader names it (``metadata.extra.pid``), and whether it may be missing."""
    for field in fields(struct):
        path = f"{before}{field.encode_name}"
        inner = [part for part in (*get_args(field.type), field.type) if isinstance(part, type)]
        deeper = next((part for part in inner if issubclass(part, Struct)), None)
        yield path, is_optional(field.type)
        if deeper is not None:
            yield from paths(deeper, f"{path}.")


def schema(title: str, *kinds: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of one object of one of these kinds."""
    shapes = Shapes()
    refs, definitions = msgspec.json.schema_components(
        [shapes.of(kind) for kind in kinds], ref_template="#/$defs/{name}"
    )
    which = {"oneOf": list(refs)} if len(refs) > 1 else refs[0]
    return {
        "$schema": DRAFT,
        "title": title,
        "$comment": "Made by tools/gen_docs.py from audito/events.py: make schema.",
        **which,
        "$defs": dict(sorted(definitions.items())),
    }


# -- flags


def flag_row(row: config.Row) -> str:
    """One setting as a row of docs/flags.md."""
    setting = row.setting
    value = "" if setting.is_switch else f" {setting.value}"
    also = "".join(f"<br>`--{name}`" for name in setting.names[1:])
    default = setting.default_text(row.default) or ("off" if setting.is_switch else "none")
    live = "yes" if setting.live else ""
    cells = [f"`--{setting.name}{value}`{also}", default, live, setting.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def flags_text() -> str:
    """The tables of docs/flags.md: the daemon's settings by group, then what replay and doctor have beside them."""
    parts = []
    shared = {row.setting.name for row in config.rows(config.Config)}
    of_doctor = [row for row in config.rows(config.DoctorConfig) if row.setting.name not in shared]
    of_replay = [row for row in config.rows(config.Replay) if row.setting.name not in shared]
    groups: dict[str, list[config.Row]] = {}
    for row in config.rows(config.Config):
        groups.setdefault(config.headings(config.Config)[row.group].title, []).append(row)
    titled = {**groups, "Of audito replay": of_replay, "Of audito doctor": of_doctor}
    for title, rows in titled.items():
        head = "| flag | default | live | does |\n|---|---|---|---|\n"
        parts.append(f"\n## {title}\n{head}" + "".join(map(flag_row, rows)))
    return "".join(parts)


# -- metrics


def all_figures() -> dict[str, int]:
    """Every figure that a daemon can have, whatever its inputs."""
    figures = Core(CoreSettings(host="", machine_id="", boot_id="")).counters()
    pipes: tuple[FifoSource, ...] = tuple(FifoSource(Path("/nowhere"), stream) for stream in health.SOURCES)
    spools = (SpooledSource(pipe, "/nowhere", 1) for pipe in pipes)
    for source in (DirectorySource(Path("/nowhere")), SyslogSource(Path("/nowhere/log")), JournalSource(), *spools):
        figures.update({f"{source.stream}_source_{name}": 0 for name in source.counters()})
    kernel = {f"kernel_{name}": 0 for name in netlink.AuditStatus.__struct_fields__}
    gauges = {name: 0 for name in health.OTHER_HELP if name.removesuffix("_now") in kernel}
    return figures | gauges | {"filter_hits_NAME": 0}


def families() -> list[Metric]:
    """Every family of /metrics with its samples, as prometheus-client's own parser reads them."""
    subject = health.Health(all_figures)
    subject.audit_log = health.AuditLogAge(threshold_s=86_400, modified_s=1.0)
    subject.lag_ms = subject.waiting_bytes = dict.fromkeys(health.SOURCES, 0)
    for component in (*health.SOURCES, "output"):
        subject.set_state(component, "")
    return list(text_string_to_metric_families(subject.metrics().decode()))


def series_name(family: Metric) -> str:
    """As a query names it."""
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def labels_of(family: Metric) -> dict[str, list[str]]:
    """Each label with all its values."""
    found: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            values = found.setdefault(label, [])
            if value not in values:
                values.append(value)
    found.pop("le", None)
    return found


def label_words(label: str, values: list[str]) -> str:
    if len(values) > LABEL_VALUES_MAX or values in (["NAME"], ["86400"]):
        return f"`{label}`"
    return f"`{label}`: {', '.join(values)}"


def metrics_table() -> str:
    rows = ["| series | kind | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(families(), key=lambda family: (not family.name.startswith("audito_"), family.name)):
        labels = "; ".join(label_words(*item) for item in labels_of(family).items())
        rows.append(f"| `{series_name(family)}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows) + "\n"


# -- files


def by_hand(path: Path) -> str:
    """What stands before the mark."""
    return path.read_text(encoding="utf-8").partition(MARK)[0]


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    """Path → what has to stand in it."""
    return {
        METRICS: by_hand(METRICS) + MARK + metrics_table(),
        FLAGS: by_hand(FLAGS) + MARK + flags_text(),
        RULES: auditctl.rules_text("x86_64"),  # as aarch64's
        EVENTS_SCHEMA: text_of(schema("One line of audito's output", *EVENTS)),
        DECODE_SCHEMA: text_of(schema("One line of audito decode", events.DecodedEvent)),
    }


if __name__ == "__main__":
    sys.exit(write_or_check(files(), "make schema"))

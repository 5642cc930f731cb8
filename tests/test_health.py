"""Readiness, heartbeat, the exposition, and HTTP answers as bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from audito import health
from audito.health import AuditLogAge, Health, respond

ROOT = Path(__file__).parent.parent


def samples(subject: Health) -> dict[tuple[str, ...], float]:
    """Every sample of the exposition, read back by prometheus-client's own parser: (name, label, value, …) → value."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(subject.metrics().decode()):
        for sample in family.samples:
            key = (sample.name, *(part for label in sorted(sample.labels.items()) for part in label))
            assert key not in found, "a series is there once"
            found[key] = sample.value
    return found


def test_nothing_is_not_ready() -> None:
    subject = Health(dict)
    assert subject.readyz() == (503, b'{"overall":"not-ready"}\n')


def test_u29_ready_when_every_component_is() -> None:
    subject = Health(dict)
    for name in ("sshd", "audit", "output"):
        subject.set_state(name, "not open yet")
    subject.set_state("audit", "")
    status, body = subject.readyz()
    assert status == 503
    assert msgspec.json.decode(body) == {
        "audit": "ok",
        "output": "not-ready",
        "sshd": "not-ready",
        "overall": "not-ready",
        "reasons": {"output": "not open yet", "sshd": "not open yet"},
    }
    for name in ("sshd", "output"):
        subject.set_state(name, "")
    assert subject.readyz() == (200, b'{"audit":"ok","output":"ok","sshd":"ok","overall":"ok"}\n')
    subject.set_state("output", "full")
    assert subject.readyz()[0] == 503


def test_alive_as_long_as_the_loop_beats() -> None:
    subject = Health(dict)
    subject.beat(50_000)
    assert subject.livez(50_000 + health.HEARTBEAT_MS_MAX) == (200, b"ok\n")
    assert subject.livez(50_001 + health.HEARTBEAT_MS_MAX) == (503, b"no heartbeat for 10001 ms\n")


def test_u30_every_counter_is_exported_from_the_start() -> None:
    subject = Health(lambda: {"lines": 0})
    found = samples(subject)
    for kind in health.ERROR_TYPES:
        assert found["audito_maldito_errors_total", "type", kind] == 0
    for name in subject.counters:
        gauge, counter = f"audito_{name.removesuffix('_now')}", f"audito_{name}_total"
        assert found[(gauge,) if name.endswith("_now") else (counter,)] == 0
    assert found["audito_lines_total",] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_gaps_are_one_family_with_a_label_and_nothing_else_is_in_it() -> None:
    found = samples(Health(lambda: {"gaps_sequence": 3, "gaps_rules_deleted": 0, "audit_source_gaps": 1}))
    assert found["audito_gaps_total", "reason", "sequence"] == 3
    assert found["audito_gaps_total", "reason", "rules_deleted"] == 0
    assert found["audito_audit_source_gaps_total",] == 1
    assert len([key for key in found if key[0] == "audito_gaps_total"]) == 2


def test_every_counter_has_a_help_text() -> None:
    assert set(Health(dict).counters) == set(health.HELP)


def test_u30_what_is_counted_is_exported() -> None:
    figures = {"records": 7, "sessions_now": 3, "sshd_unmatched_lines": 2}
    subject = Health(lambda: figures)
    subject.errors["output"] += 2
    subject.counters["output_bytes"] += 1000
    found = samples(subject)
    assert found["audito_maldito_errors_total", "type", "output"] == 2
    assert found["audito_output_bytes_total",] == 1000
    assert found["audito_records_total",] == 7
    assert found["audito_sessions",] == 3
    assert found["audito_sshd_unmatched_lines_total",] == 2
    figures["records"] = 8
    assert samples(subject)["audito_records_total",] == 8


def test_filters_and_patterns_are_labels() -> None:
    subject = Health(lambda: {"filter_hits_nagios": 3, "filter_hits_all-else": 0, "redacted_mysql": 2, "filtered": 1})
    found = samples(subject)
    assert found["audito_filter_hits_total", "filter", "nagios"] == 3
    assert found["audito_filter_hits_total", "filter", "all-else"] == 0
    assert found["audito_redacted_total", "pattern", "mysql"] == 2
    assert found["audito_filtered_total",] == 1
    assert not [key for key in found if key[0].startswith(("audito_filter_hits_nagios", "audito_redacted_mysql"))]


def test_logins_have_the_labels_of_the_go_daemon() -> None:
    subject = Health(
        lambda: {
            "sshd_logins": 99,
            "sshd_logins_certificate_succeeded": 1,
            "sshd_logins_publickey_succeeded": 2,
            "sshd_logins_publickey_failed": 3,
            "sshd_logins_password_failed": 4,
            "sshd_logins_keyboard-interactive/pam_succeeded": 5,
            "sshd_logins_hostbased_succeeded": 6,
        }
    )
    cells = {
        key[2::2]: value for key, value in samples(subject).items() if key[0] == "audito_maldito_remote_logins_total"
    }
    assert cells == {
        ("ssh-cert", "success"): 1,
        ("ssh-cert", "failure"): 0,
        ("ssh-key", "success"): 2,
        ("ssh-key", "failure"): 3,
        ("password", "success"): 0,
        ("password", "failure"): 4,
        ("unknown", "success"): 11,
        ("unknown", "failure"): 0,
    }


def test_the_cells_of_logins_are_not_exported_twice() -> None:
    """A method is sshd's word, and a name of a series is no place for one with a slash in it."""
    subject = Health(lambda: {"sshd_logins_keyboard-interactive/pam_succeeded": 5})
    assert not [key for key in samples(subject) if key[0].startswith("audito_sshd_logins_")]


def test_the_age_of_the_audit_log() -> None:
    subject = Health(dict)
    subject.audit_log = AuditLogAge(threshold_s=60)
    names = ("audito_maldito_audit_log_check", "audito_maldito_audit_log_modify_time")
    assert not [key for key in samples(subject) if key[0] in names]
    subject.audit_log.look(1000.0, 1060.0)
    found = samples(subject)
    assert found["audito_maldito_audit_log_check", "threshold_time_in_seconds", "60"] == 1
    assert found["audito_maldito_audit_log_modify_time",] == 1000
    subject.audit_log.look(1000.0, 1060.5)
    assert samples(subject)["audito_maldito_audit_log_check", "threshold_time_in_seconds", "60"] == 0


def test_the_latency_is_a_histogram_of_both_sources() -> None:
    subject = Health(dict)
    assert samples(subject)["audito_latency_seconds_count", "source", "sshd"] == 0
    for took_ms in (0, 5, 6, 40, 2_000, 90_000_000, -7):
        subject.latency["audit"].observe(took_ms)
    found = {key[2:]: value for key, value in samples(subject).items() if key[0] == "audito_latency_seconds_bucket"}
    of_audit = {key[0]: value for key, value in found.items() if key[-1] == "audit"}
    assert of_audit["0.005"] == 3, "the upper bound belongs to the bucket"
    assert of_audit["0.01"] == 4
    assert of_audit["0.05"] == 5
    assert of_audit["2.5"] == of_audit["3600.0"] == 6
    assert of_audit["+Inf"] == 7
    assert samples(subject)["audito_latency_seconds_count", "source", "audit"] == 7
    assert samples(subject)["audito_latency_seconds_sum", "source", "audit"] == 90_002.051


def test_how_far_behind_is_told_of_what_is_known() -> None:
    subject = Health(dict)
    names = ("audito_source_lag_seconds", "audito_source_waiting_bytes")
    assert not [key for key in samples(subject) if key[0] in names]
    subject.lag_ms = {"audit": 1500, "sshd": 0}
    subject.waiting_bytes = {"audit": 4096}
    found = samples(subject)
    assert found[names[0], "source", "audit"] == 1.5
    assert found[names[0], "source", "sshd"] == 0
    assert found[names[1], "source", "audit"] == 4096
    assert (names[1], "source", "sshd") not in found


def test_readiness_is_a_series() -> None:
    subject = Health(dict)
    subject.set_state("audit", "")
    subject.set_state("output", "full")
    found = samples(subject)
    assert found["audito_ready", "component", "audit"] == 1
    assert found["audito_ready", "component", "output"] == 0


def test_prometheus_client_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from audito.health import Health; subject = Health(dict); subject.readyz();"
        "assert not [name for name in sys.modules if name.startswith('prometheus')];"
        "subject.metrics(); assert 'prometheus_client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


PAGES: dict[str, health.Page] = {"/readyz": lambda: (503, health.CONTENT_JSON, b"{}\n")}


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n"])
@pytest.mark.parametrize("target", [b"/readyz", b"/readyz?verbose=1", b"/readyz?"])
def test_a_get_is_answered(target: bytes, end: bytes) -> None:
    line_end = end[: len(end) // 2]
    head = b"GET " + target + b" HTTP/1.1" + line_end + b"Host: x" + end
    for split in range(len(head)):
        assert respond(head[:split], PAGES) is None
    assert respond(head, PAGES) == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
        b"Connection: close\r\n\r\n{}\n"
    )


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"404"),
        (b"GET /readyz/ HTTP/1.1", b"404"),
        (b"GET /../etc/passwd HTTP/1.1", b"404"),
        (b"GET /%72eadyz HTTP/1.1", b"404"),
        (b"POST /readyz HTTP/1.1", b"405"),
        (b"HEAD /readyz HTTP/1.1", b"405"),
        (b"GET /readyz", b"400"),
        (b"GET /readyz HTTP/0.9", b"400"),
        (b"GET /readyz HTTP/2.0", b"400"),
        (b"GET http://host/readyz HTTP/1.1", b"400"),
        (b"get /readyz HTTP/1.1", b"400"),
        (b"GET  /readyz HTTP/1.1", b"400"),
        (b"GET /\xff HTTP/1.1", b"400"),
        (b"GET /\x00 HTTP/1.1", b"400"),
        (b"", b"400"),
        (b"\x16\x03\x01\x02", b"400"),
    ],
)
def test_all_else_is_refused(request_line: bytes, status: bytes) -> None:
    answer = respond(request_line + b"\r\n\r\n", PAGES)
    assert answer is not None
    assert answer.split(b" ", 2)[1] == status
    assert (b"\r\nAllow: GET\r\n" in answer) == (status == b"405")


def test_a_head_is_bounded() -> None:
    line = b"GET /readyz HTTP/1.1\r\nX: "
    fits = line.ljust(health.HTTP_HEAD_BYTES_MAX - 4, b"x") + b"\r\n\r\n"
    assert respond(fits, PAGES) == respond(line + b"\r\n\r\n", PAGES)
    too_long = respond(b"x" * (health.HTTP_HEAD_BYTES_MAX + 1), PAGES)
    assert too_long is not None
    assert too_long.startswith(b"HTTP/1.1 431 ")
    assert respond(line.ljust(health.HTTP_HEAD_BYTES_MAX + 10, b"x") + b"\r\n\r\n", PAGES) == too_long


@given(st.binary(max_size=200))
def test_any_bytes_get_no_answer_or_a_whole_one(head: bytes) -> None:
    answer = respond(head, PAGES)
    if answer is None:
        assert b"\n\n" not in head
        assert b"\r\n\r\n" not in head
    else:
        assert answer.startswith(b"HTTP/1.1 ")

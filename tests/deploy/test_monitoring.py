"""The Grafana dashboard and the alerts: every series in them is one that the daemon exports."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.programs import DEPLOY, find, output_of, run
from tests.deploy.running import EXAMPLES, started

DASHBOARD = DEPLOY / "grafana" / "audito.json"
ALERTS = DEPLOY / "prometheus" / "audito.rules.yaml"
KERNEL = ("audito_kernel_lost_total", "audito_kernel_backlog", "audito_kernel_backlog_limit")
HERE = Path(__file__).parent
NAME = re.compile(r"\b(?:audito|process)_[a-zA-Z0-9_:]+")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Each series of a real daemon on a directory and a syslog file, with the names of its labels."""
    directory = tmp_path_factory.mktemp("exported")
    (directory / "audit").mkdir()
    shutil.copy(EXAMPLES / "audit.log", directory / "audit")
    args = [
        *("-metrics", "-healthz", "-audit-metrics", "-audit-dir-path", str(directory / "audit")),
        *("--sshd-log-path", str(EXAMPLES / "sshd.log"), "--output", str(directory / "events")),
        *("--state-dir", str(directory / "state")),
    ]
    with started(directory, args, {}) as daemon:
        daemon.wait_ready()
        text = daemon.get("/metrics")[1].decode()
    # Those of the kernel are exported where it answers: to root, in the first pid namespace.
    series: dict[str, set[str]] = {name: set() for name in KERNEL}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? ", text, re.MULTILINE):
        series.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return series


def panels() -> Iterator[dict[str, Any]]:
    yield from json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


def alert_expressions() -> list[str]:
    """Every query of the alerts, in one line."""
    found = re.findall(r"expr: (.*?)\n +(?:for|labels):", ALERTS.read_text(encoding="utf-8"), re.DOTALL)
    return [" ".join(text.split()) for text in found]


def dashboard_expressions() -> list[str]:
    """Every query of the dashboard, its variables filled in as Grafana does."""
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return [text.replace("$instance", ".*").replace("$__rate_interval", "5m") for text in found]


def test_every_series_of_the_alerts_is_exported(exported: dict[str, set[str]]) -> None:
    named = set(NAME.findall("\n".join(alert_expressions())))
    assert len(named) > 15
    assert named <= set(exported), "what /metrics does not have"


def test_every_series_of_the_dashboard_is_exported(exported: dict[str, set[str]]) -> None:
    named = set(NAME.findall("\n".join(dashboard_expressions())))
    assert len(named) > 30
    assert named <= set(exported), "what /metrics does not have"


def test_every_label_is_one_that_the_series_has(exported: dict[str, set[str]]) -> None:
    alerts = ALERTS.read_text(encoding="utf-8")
    for expression in [*dashboard_expressions(), *alert_expressions()]:
        for name, selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)[=!]", selector)) <= exported[name] | {"instance"}, expression
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            known = set().union(*(exported[name] for name in NAME.findall(expression))) | {"instance"}
            assert set(labels.replace(" ", "").split(",")) <= known, expression
    used = set(re.findall(r"\$labels\.(\w+)", alerts))
    assert used <= set().union(*exported.values()) | {"instance"}


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    identifiers = [panel["id"] for panel in panels()]
    assert len(identifiers) == len(set(identifiers))
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "instance"}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_promtool_takes_the_alerts() -> None:
    assert "19 rules found" in output_of(find("promtool"), "check", "rules", ALERTS)


def test_each_alert_fires_on_what_it_is_for_and_not_in_a_quiet_night(tmp_path: Path) -> None:
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(HERE / "alerts.test.yaml", tmp_path)
    output_of(find("promtool"), "test", "rules", "alerts.test.yaml", cwd=tmp_path)
    told = (HERE / "alerts.test.yaml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    assert len(alerts) == len(set(alerts)) == 19
    for alert in alerts:
        assert told.count(alert) >= 2, f"{alert} is not tested both ways"


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(dashboard_expressions())]
    path = tmp_path / "queries.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    output_of(find("promtool"), "check", "rules", path)
    path.write_text(json.dumps({"groups": [{"name": "wrong", "rules": [{"record": "a", "expr": "sum(x"}]}]}))
    assert run(find("promtool"), "check", "rules", path).returncode != 0

"""The Helm chart and the kustomize base: valid, of one mind, and saying what the daemon understands."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

import audito
from audito import config
from audito.errors import UsageError
from tests.deploy.manifests import (
    Manifest,
    base_daemon_set,
    container_of,
    environment_of,
    helm_template,
    kustomize,
    of_kind,
    pod_spec,
    yaml,
)
from tests.deploy.programs import CHART, DEPLOY, ROOT, find, output_of, run

ALL_ON = ("--set", "podMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true")
OPERATOR = "monitoring.coreos.com/v1"
"""Of kinds that are not Kubernetes' own, no schema comes with the validator."""

# A value for every setting that is not its default, as somebody may write it in YAML.
UNUSUAL: dict[str, Any] = {
    "audit-dir-path": "/logs/audit",
    "auditd-pipe-path": "/pipes/audit",
    "sshd-pipe-path": "/pipes/sshd",
    "sshd-log-path": "/var/log/auth.log",
    "journal-dir": "/var/log/journal",
    "namedpipe": True,
    "output": "/events/audit.log",
    "reject-log": "/events/rejects.log",
    "event-types": ["UserLogin", "UserLogout"],
    "context": ["tty", "parent"],
    "join-window": "1m30s",
    "host": "elsewhere",
    "machine-id": "deadbeefdeadbeefdeadbeefdeadbeef",
    "machine-id-path": "/other/machine-id",
    "boot-id": "7976e0fd8f814024a1542d432ff1a458",
    "state-dir": "/state",
    "spool": "64MiB",
    "metrics": False,
    "healthz": False,
    "http-address": "127.0.0.1:9100",
    "http-server-read-timeout": "2s",
    "http-server-read-header-timeout": "0",
    "audit-metrics": True,
    "audit-seconds-interval": "500ms",
    "audit-log-last-modify-seconds-threshold": 12_000_000,
    "log-level": "debug",
    "user": "65532",
    "config": "/etc/audito/audito.toml",
    "syslog-time-zone": "Europe/Berlin",
    "filter": ["drop noise exe=/usr/bin/true", "keep rest action=*"],
    "redact-off": ["url"],
    "redact-names": ["pin"],
    "redact-pattern": ["digits=[0-9]{16}"],
}
SSHD_INPUTS = ("sshd-pipe-path", "sshd-log-path", "journal-dir")
"""Of these the daemon takes one."""

WRONG = {
    "an unknown flag": {"config": {"no-such-flag": "1"}},
    "an unknown value": {"tolerationss": []},
    "a duration without a unit": {"config": {"join-window": "90"}},
    "a negative duration": {"config": {"join-window": "-1s"}},
    "a level that is none": {"config": {"log-level": "loud"}},
    "a type of event that is none": {"config": {"event-types": ["UserLogin", "Logout"]}},
    "the same as text": {"config": {"event-types": "UserLogin,Logout"}},
    "a number that is text": {"config": {"audit-log-last-modify-seconds-threshold": "soon"}},
    "a switch that is text": {"config": {"metrics": "yes please"}},
    "an address without a port": {"config": {"http-address": "127.0.0.1"}},
    "a relative path": {"config": {"output": "audit.log"}},
    "a relative host path": {"host": {"log": "var/log"}},
    "a digest that is none": {"image": {"digest": "sha256:abc"}},
}


def values_file(directory: Any, values: Any) -> str:
    """A file of values."""
    path = directory / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


def settings() -> dict[str, config.Row]:
    """Every setting of the daemon by its name."""
    return {row.setting.name: row for row in config.rows(config.Config)}


def chart_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def test_helm_finds_nothing_to_complain_of() -> None:
    output_of(find("helm"), "lint", "--strict", CHART)
    output_of(find("helm"), "lint", "--strict", CHART, *ALL_ON)


def test_there_is_a_value_for_every_flag_and_no_other() -> None:
    assert list(chart_values()["config"]) == list(settings())


def test_values_and_schema_are_what_the_settings_say() -> None:
    done = run(sys.executable, "tools/gen_chart.py", "--check")
    assert done.returncode == 0, f"{done.stderr}a setting was changed: run `make chart` and commit what it writes"


def test_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == audito.__version__
    base = yaml.safe_load((DEPLOY / "kustomize" / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert base["images"] == [{"name": "audito", "newTag": audito.__version__}]


@pytest.mark.parametrize("values", WRONG.values(), ids=list(WRONG))
def test_what_the_daemon_would_refuse_is_refused_before_it_is_installed(values: Manifest, tmp_path: Any) -> None:
    done = run(find("helm"), "template", "x", CHART, "--kube-version", "1.31.0", "-f", values_file(tmp_path, values))
    assert done.returncode != 0
    assert "schema" in done.stderr


def loaded(manifest: Manifest, node: str = "node-7") -> config.Config:
    """What the daemon makes of a container's args and environment."""
    container = container_of(manifest)
    return config.load(container["args"], environment_of(container, node), exists=lambda path: False)


def test_the_daemon_understands_the_default_args() -> None:
    understood = loaded(of_kind(helm_template(), "DaemonSet"))
    assert understood == config.load(
        ["--metrics", "--healthz", "--output", "-"],
        {"NODE_NAME": "node-7", "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        exists=lambda path: False,
    )
    assert understood.http.listen == ("", 2112)


@pytest.mark.parametrize("chosen", SSHD_INPUTS)
def test_every_value_reaches_the_daemon(chosen: str, tmp_path: Any) -> None:
    assert set(UNUSUAL) == set(settings()), "a new setting: give it a value here"
    toml = tmp_path / "audito.toml"
    toml.write_text("")
    values = {name: value for name, value in UNUSUAL.items() if name == chosen or name not in SSHD_INPUTS}
    manifests = helm_template("-f", values_file(tmp_path, {"config": {**values, "config": str(toml)}}))
    understood = loaded(of_kind(manifests, "DaemonSet"))
    default = config.Config()
    for name, row in settings().items():
        if name in SSHD_INPUTS and name != chosen:
            continue
        got = getattr(getattr(understood, row.group), row.field)
        if name == "config":
            assert got == str(toml)
        elif name in ("metrics", "healthz"):
            assert got is False
        else:
            assert got != getattr(getattr(default, row.group), row.field), name
            if isinstance(UNUSUAL[name], str) and row.setting.parse in (config.parse_text, config.parse_path):
                assert got == UNUSUAL[name]
    assert understood.audit_check.modified_threshold_s == 12_000_000
    assert understood.events.types == ("UserLogin", "UserLogout")


def test_what_the_schema_takes_the_daemon_takes(tmp_path: Any) -> None:
    spellings = {
        "join-window": ["1s", "1h30m", "0.5s", "100µs"],
        "http-server-read-timeout": ["0", "1.5s"],
        "event-types": ["UserLogin", "UserLogin,UserLogout", "UserLogin, AuditGap"],
        "context": ["none", "tty", "tty,container", "parent, ancestors", ["none"]],
        "http-address": [":1", "[::1]:2112", "0.0.0.0:2112", "localhost:2112"],
        "log-level": ["warn", "fatal"],
        "audit-log-last-modify-seconds-threshold": [0, "60", 86400],
    }
    for name, texts in spellings.items():
        for text in texts:
            manifests = helm_template("-f", values_file(tmp_path, {"config": {name: text}}))
            try:
                loaded(of_kind(manifests, "DaemonSet"))
            except UsageError as error:
                pytest.fail(f"{name}: {text}: {error}")


def test_probes_and_port_follow_the_address() -> None:
    manifests = helm_template("--set", "config.http-address=:9100", *ALL_ON)
    container = container_of(of_kind(manifests, "DaemonSet"))
    assert container["ports"] == [{"name": "http", "containerPort": 9100, "protocol": "TCP"}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert of_kind(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] == "http"


def test_no_probe_where_no_health_is_served() -> None:
    container = container_of(of_kind(helm_template("--set", "config.healthz=false"), "DaemonSet"))
    assert "livenessProbe" not in container
    assert "readinessProbe" not in container


def test_the_state_is_mounted_where_the_daemon_keeps_it() -> None:
    container = container_of(of_kind(helm_template("--set", "config.state-dir=/state"), "DaemonSet"))
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "state"]
    assert mount == {"name": "state", "mountPath": "/state"}


def test_one_container_that_can_read_and_nothing_else() -> None:
    daemon_set = of_kind(helm_template(), "DaemonSet")
    pod, container = pod_spec(daemon_set), container_of(daemon_set)
    assert "initContainers" not in pod
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert pod["automountServiceAccountToken"] is False
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert container["resources"]["requests"]["memory"] == "64Mi"
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    mounts = {m["mountPath"]: (paths[m["name"]], m.get("readOnly", False)) for m in container["volumeMounts"]}
    assert mounts == {
        "/var/log": ("/var/log", True),
        "/run/log/journal": ("/run/log/journal", True),
        "/etc/machine-id": ("/etc/machine-id", True),
        "/etc/os-release": ("/etc/os-release", True),
        "/var/run/audito-maldito": ("/var/run/audito-maldito", False),
    }


@pytest.mark.parametrize("version", ["1.25", "1.31", ""])
@pytest.mark.parametrize("source", ["helm", "helm, all on", "kustomize", "kustomize, monitoring"])
def test_manifests_are_valid(source: str, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make deploy-tools")
    if source.startswith("helm"):
        manifests = helm_template(*(ALL_ON if "all on" in source else ()))
    else:
        manifests = kustomize(DEPLOY / "kustomize" / ("monitoring" if "monitoring" in source else "base"))
    ours = [manifest for manifest in manifests if manifest["apiVersion"] != OPERATOR]
    assert {"DaemonSet", "ServiceAccount"} <= {manifest["kind"] for manifest in ours}
    for manifest in ours:
        kubernetes_validate.validate(manifest, version or kubernetes_validate.latest_version(), strict=True)


def test_the_validator_would_say_so() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make deploy-tools")
    manifest = base_daemon_set()
    container_of(manifest)["volumeMounts"][0]["readonly"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def without_labels(manifest: Manifest) -> Manifest:
    """A manifest less what names the tool that made it."""
    text = re.sub(
        r"(?m)^ *(helm\.sh/chart|app\.kubernetes\.io/(version|managed-by)): .*\n", "", yaml.safe_dump(manifest)
    )
    loaded: Manifest = yaml.safe_load(text)
    return loaded


@pytest.mark.parametrize("kind", ["DaemonSet", "ServiceAccount", "PodMonitor"])
def test_chart_and_kustomize_say_the_same(kind: str) -> None:
    by_helm = of_kind(helm_template(*ALL_ON), kind)
    by_kustomize = of_kind(kustomize(DEPLOY / "kustomize" / "monitoring"), kind)
    assert without_labels(by_helm) == without_labels(by_kustomize)


def test_the_namespace_admits_host_paths() -> None:
    namespace = of_kind(kustomize(DEPLOY / "kustomize" / "base"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_the_chart_carries_the_alerts_and_the_dashboard() -> None:
    manifests = helm_template(*ALL_ON)
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "audito.rules.yaml").read_text(encoding="utf-8"))
    assert of_kind(manifests, "PrometheusRule")["spec"] == alerts
    dashboard = (DEPLOY / "grafana" / "audito.json").read_text(encoding="utf-8")
    assert of_kind(manifests, "ConfigMap")["data"]["audito.json"].strip() == dashboard.strip()


def test_the_documentation_names_values_that_exist() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    values = chart_values()
    named = re.findall(r"--set (\S+?)=", text) + re.findall(r"^\| `([a-zA-Z.]+)` \|", text, re.MULTILINE)
    assert len(named) >= 5
    for name in named:
        at: Any = values
        for part in name.split("."):
            assert part in at, name
            at = at[part]

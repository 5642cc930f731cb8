"""Manifests as Kubernetes would get them, and what of them says how the daemon is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.programs import CHART, DEPLOY, find, output_of

yaml = pytest.importorskip("yaml", reason="PyYAML is not here: make deploy-tools")

Manifest = dict[str, Any]

KUBE_VERSION = "1.31.0"
"""What helm built with `go install` takes for the cluster's version is years old."""

POD_ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
"""What Kubernetes sets in every pod."""


def load(text: str) -> list[Manifest]:
    """The manifests in a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def helm_template(*flags: str, release: str = "audito") -> list[Manifest]:
    """The chart's manifests with these values."""
    command = (find("helm"), "template", release, CHART, "--namespace", "audito", "--kube-version", KUBE_VERSION)
    return load(output_of(*command, *flags))


def kustomize(directory: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    try:
        return load(output_of(find("kubectl"), "kustomize", directory))
    except pytest.skip.Exception:
        return load(output_of(find("kustomize"), "build", directory))


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    """The one manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod_spec(daemon_set: Manifest) -> Manifest:
    """The pod of a DaemonSet."""
    spec: Manifest = daemon_set["spec"]["template"]["spec"]
    return spec


def container_of(daemon_set: Manifest) -> Manifest:
    """The one container of a DaemonSet."""
    (container,) = pod_spec(daemon_set)["containers"]
    return dict(container)


def base_daemon_set() -> Manifest:
    """The DaemonSet of deploy/kustomize as it stands in the file: what needs no program to read."""
    (manifest,) = load((DEPLOY / "kustomize" / "base" / "daemonset.yaml").read_text(encoding="utf-8"))
    return manifest


def environment_of(container: Mapping[str, Any], node: str) -> dict[str, str]:
    """The environment that the kubelet would give this container on a node."""
    environment = dict(POD_ENVIRONMENT)
    for variable in container.get("env", ()):
        if "value" in variable:
            environment[variable["name"]] = variable["value"]
        else:
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
            environment[variable["name"]] = node
    return environment

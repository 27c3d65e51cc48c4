"""The watchdog on Kubernetes: a StatefulSet with a disk of its own, and what keeps it narrow.

Probes ask `/livez` and `/readyz` from inside, by our own command, so that the page may stay on loopback. No file gets
in: the configuration is variables, under a name that its content makes, so that a change rolls out and a rollback
finds what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kms_watchdog.config import Settings
from kms_watchdog.deploying import container
from kms_watchdog.deploying.container import Probing
from kms_watchdog.deploying.handed import Handed

NAME = "kms-watchdog"
NAMESPACE = NAME
MONITORING = "monitoring"
"""The namespace that may scrape."""
TOXIPROXY = "toxiproxy"
POD_IDENTITY = "169.254.170.23/32"
"""Where EKS's agent hands out credentials; with IRSA they come from STS, as all else does from AWS, over HTTPS."""
_LABELS = {"app.kubernetes.io/name": NAME}
_RESTRICTED = "pod-security.kubernetes.io"


def render(settings: Settings, given: Handed) -> Mapping[str, str]:
    """Return files by name; the optional one is for who has the Prometheus operator.

    Raises:
        ConfigError: its port is another one at each start.
    """
    made = _Manifests(settings, given)
    files = {f"{NAME}.yaml": _text(made.all())}
    if container.listens_to_others(settings):
        files["servicemonitor.yaml"] = _text([made.service_monitor()])
    return files


class _Manifests:
    """One estate's objects."""

    def __init__(self, settings: Settings, given: Handed) -> None:
        self._settings, self._given = settings, given
        self._port, self._listens = container.port(settings), container.listens_to_others(settings)
        content = json.dumps(given.values, sort_keys=True).encode()
        self._configuration = f"{NAME}-{hashlib.sha256(content).hexdigest()[:10]}"

    def all(self) -> Sequence[Mapping[str, Any]]:
        return (
            self._namespace(),
            self._service_account(),
            _object(
                "v1", "ConfigMap", self._configuration, immutable=True, data=dict(sorted(self._given.values.items()))
            ),
            self._service(),
            self._stateful_set(),
            self._disruption_budget(),
            self._network_policy(),
        )

    def service_monitor(self) -> Mapping[str, Any]:
        """Return what makes the operator's Prometheus scrape it, as alarms and dashboards expect."""
        monitor = {"targetLabel": "monitor", "replacement": self._settings.estate.name}
        endpoint = {"port": "http", "path": "/metrics", "interval": "15s", "relabelings": [monitor]}
        return _object(
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            NAME,
            spec={"selector": {"matchLabels": _LABELS}, "endpoints": [endpoint]},
        )

    def _namespace(self) -> dict[str, Any]:
        labels = {f"{_RESTRICTED}/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}

    def _service_account(self) -> dict[str, Any]:
        estate = self._settings.estate
        role = f"arn:aws:iam::{estate.account_id}:role/{estate.watchdog_role}"
        made = _object("v1", "ServiceAccount", NAME, automountServiceAccountToken=False)
        made["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": role}
        return made

    def _service(self) -> dict[str, Any]:
        spec = {
            "clusterIP": "None",
            "selector": _LABELS,
            "ports": [{"name": "http", "port": self._port, "targetPort": self._port}],
            "publishNotReadyAddresses": True,  # one that is not ready has most to tell
        }
        return _object("v1", "Service", NAME, spec=spec)

    def _stateful_set(self) -> dict[str, Any]:
        spec = {
            "serviceName": NAME,
            "replicas": 1,
            # Else a rollback waits until the pod that cannot become ready is ready, for ever.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": _LABELS},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": {"metadata": {"labels": _LABELS}, "spec": self._pod()},
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "state"},
                    "spec": {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "2Gi"}}},
                }
            ],
        }
        return _object("apps/v1", "StatefulSet", NAME, spec=spec)

    def _pod(self) -> dict[str, Any]:
        return {
            "serviceAccountName": NAME,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # KMS_WATCHDOG_... is how our own variables begin
            "shareProcessNamespace": True,  # so that somebody reaps what a drill leaves
            "terminationGracePeriodSeconds": container.stop_seconds(self._settings),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": container.USER,
                "runAsGroup": container.USER,
                "fsGroup": container.USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._watchdog(), self._toxiproxy()],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}}],
        }

    def _watchdog(self) -> dict[str, Any]:
        entry, *arguments = container.RUN
        secrets = [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": NAME, "key": key}}}
            for name, key in sorted(self._given.secrets.items())
        ]
        start = Probing(interval_seconds=5, retries=24)
        return {
            "name": "watchdog",
            "image": NAME,
            "command": [entry],
            "args": arguments,
            "envFrom": [{"configMapRef": {"name": self._configuration}}],
            **({"env": secrets} if secrets else {}),
            "ports": [{"name": "http", "containerPort": self._port}],
            "startupProbe": self._probe("/livez", start),
            "livenessProbe": self._probe("/livez", Probing(interval_seconds=10)),
            "readinessProbe": self._probe("/readyz", Probing(interval_seconds=10)),
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": _confined(),
            "volumeMounts": [
                {"name": "state", "mountPath": container.STATE_FOLDER},
                {"name": "scratch", "mountPath": container.SCRATCH_FOLDER},
            ],
        }

    def _probe(self, path: str, probing: Probing) -> dict[str, Any]:
        return {
            "exec": {"command": list(container.probe(self._settings, path))},
            "periodSeconds": probing.interval_seconds,
            "timeoutSeconds": probing.timeout_seconds,
            "failureThreshold": probing.retries,
        }

    def _toxiproxy(self) -> dict[str, Any]:
        """Stand by for drills, as a container like others: one that came before them would be waited for."""
        return {
            "name": TOXIPROXY,
            "image": TOXIPROXY,
            "args": list(container.TOXIPROXY),
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": _confined(),
        }

    def _disruption_budget(self) -> dict[str, Any]:
        """Let nodes be drained: a restart is watched by alarms outside, a drain that hangs by nobody."""
        spec = {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _LABELS},
        }
        return _object("policy/v1", "PodDisruptionBudget", NAME, spec=spec)

    def _network_policy(self) -> dict[str, Any]:
        """Let out to names and to what is configured, and in whoever scrapes, if the page listens to others at all."""
        scrapes = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING}}}
        readers = [{"from": [scrapes], "ports": [{"protocol": "TCP", "port": self._port}]}] if self._listens else []
        names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
        asked = [{"protocol": "TCP", "port": port} for port in container.egress_ports(self._settings)]
        spec = {
            "podSelector": {"matchLabels": _LABELS},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": readers,
            "egress": [
                {"ports": names},
                {"ports": asked},
                {"to": [{"ipBlock": {"cidr": POD_IDENTITY}}], "ports": [{"protocol": "TCP", "port": 80}]},
            ],
        }
        return _object("networking.k8s.io/v1", "NetworkPolicy", NAME, spec=spec)


def _object(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": dict(_LABELS)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


class _Plain(yaml.SafeDumper):
    """Writes each value where it stands."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML calls it so
        """Spell out what stands twice: an anchor is for who writes by hand."""
        return True


def _text(objects: Sequence[Mapping[str, Any]]) -> str:
    head = "# Rendered by kms-watchdog deploy render; changes belong into an overlay.\n"
    return head + yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=120, explicit_start=True)

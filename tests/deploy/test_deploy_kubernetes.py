"""Kubernetes: valid by the published schemas, restricted, and the container reads what the file says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from deploy_kit import ROOT, checker

from kms_watchdog.cli import command
from kms_watchdog.config import load
from kms_watchdog.deploying import container

EXAMPLE = ROOT / "daemon/watchdog.example.toml"
COMMITTED = ROOT / "deploy/kubernetes/kms-watchdog.yaml"
IN_THE_IMAGE = ROOT / "deploy/container/watchdog.toml"
VERSIONS = ("1.30", "1.33", "1.37")
OPEN = """
[estate]
name = "staging"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
home_region = "us-west-2"
[keys.pii]
alias = "alias/pii"
[state]
dir = "state"
[http]
listen = "0.0.0.0:8080"
token = "${TOKEN}"
"""

Render = Callable[[str], Result]
Objects = dict[str, dict[str, Any]]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Run the command over a file of that text."""

    def run(text: str) -> Result:
        config = tmp_path / "watchdog.toml"
        config.write_text(text, encoding="utf-8")
        words = ["deploy", "render", "--format", "kubernetes", "--config", str(config), "--into", str(tmp_path / "out")]
        return CliRunner().invoke(command, words, env={"TOKEN": None})

    return run


def objects(path: Path) -> Objects:
    return {one["kind"]: one for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))}


def pod(found: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = found["StatefulSet"]["spec"]["template"]["spec"]
    return spec


def test_the_committed_manifests_are_what_the_example_makes() -> None:
    """If not: kms-watchdog deploy render --format kubernetes, with the example, --into deploy/kubernetes."""
    words = ["deploy", "render", "--format", "kubernetes", "--config", str(EXAMPLE)]

    assert CliRunner().invoke(command, words).stdout == COMMITTED.read_text(encoding="utf-8")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_published_schemas_take_it(version: str) -> None:
    """Every object, strictly: a misspelt field is refused."""
    command = [checker("kubernetes-validate"), "--strict", "--kubernetes-version", version, str(COMMITTED)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed ") + done.stderr.count(" passed ") == len(objects(COMMITTED)) == 7


def test_the_schemas_would_find_a_misspelt_field(tmp_path: Path) -> None:
    """Else the test above proved nothing."""
    wrong = tmp_path / "wrong.yaml"
    text = COMMITTED.read_text(encoding="utf-8")
    wrong.write_text(text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"), encoding="utf-8")

    done = subprocess.run(
        [checker("kubernetes-validate"), "--strict", str(wrong)], capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert "readonlyRootFilesystem" in done.stdout + done.stderr


def test_the_container_reads_what_the_file_says() -> None:
    """All of it, from the one ConfigMap that the pod names, with the state on the pod's own disk."""
    found = objects(COMMITTED)
    [source] = pod(found)["containers"][0]["envFrom"]

    settings = load(IN_THE_IMAGE, environ=found["ConfigMap"]["data"])
    meant = load(EXAMPLE, environ={})

    assert source["configMapRef"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert settings.model_copy(update={"state": meant.state}) == meant
    assert str(settings.state.dir) == container.STATE_FOLDER


def test_another_configuration_is_another_config_map(render: Render, tmp_path: Path) -> None:
    """Immutable, by a name of its content: pods restart for a change, and a rollback finds the old one."""
    render(OPEN)
    before = objects(tmp_path / "out/kms-watchdog.yaml")["ConfigMap"]
    render(OPEN.replace("alias/pii", "alias/other"))
    after = objects(tmp_path / "out/kms-watchdog.yaml")["ConfigMap"]

    assert before["immutable"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_secrets_are_the_clusters(render: Render, tmp_path: Path) -> None:
    """By name in a Secret that somebody else makes; the ConfigMap holds none."""
    assert render(OPEN).exit_code == 0
    found = objects(tmp_path / "out/kms-watchdog.yaml")

    assert pod(found)["containers"][0]["env"] == [
        {
            "name": "KMS_WATCHDOG__HTTP__TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "kms-watchdog", "key": "http.token"}},
        }
    ]
    assert "KMS_WATCHDOG__HTTP__TOKEN" not in found["ConfigMap"]["data"]
    assert found["ConfigMap"]["data"]["KMS_WATCHDOG__ESTATE__HOME_REGION"] == "us-west-2"


def test_it_is_let_in_whom_it_listens_to(render: Render, tmp_path: Path) -> None:
    """On loopback nobody; else those who scrape, who are told where."""
    assert render(OPEN).exit_code == 0
    found = objects(tmp_path / "out/kms-watchdog.yaml")
    [ingress] = found["NetworkPolicy"]["spec"]["ingress"]
    [endpoint] = objects(tmp_path / "out/servicemonitor.yaml")["ServiceMonitor"]["spec"]["endpoints"]

    assert ingress["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert endpoint["port"] == found["Service"]["spec"]["ports"][0]["name"]
    assert endpoint["relabelings"] == [{"targetLabel": "monitor", "replacement": "staging"}]
    assert objects(COMMITTED)["NetworkPolicy"]["spec"]["ingress"] == []
    assert not (COMMITTED.parent / "servicemonitor.yaml").exists()


def test_it_goes_out_to_names_and_aws_alone() -> None:
    """53, 443, and EKS's agent for credentials."""
    egress = objects(COMMITTED)["NetworkPolicy"]["spec"]["egress"]

    assert sorted(port["port"] for rule in egress for port in rule["ports"]) == [53, 53, 80, 443]
    assert [rule["to"] for rule in egress if "to" in rule] == [[{"ipBlock": {"cidr": "169.254.170.23/32"}}]]


ELSEWHERE = """
[endpoints.us-east-1]
kms = "https://kms.example:8443"
sts = "https://sts.example"
[endpoints.us-west-2]
kms = "https://kms.example:8443"
sns = "https://127.0.0.1:9443"
[otel]
enabled = true
endpoint = "http://collector.example/v1/metrics"
[health]
deadman_url = "${DEADMAN_URL}"
"""


def test_it_goes_out_to_what_is_configured_too(render: Render, tmp_path: Path) -> None:
    """Each port once and in order; what is in the pod itself needs none."""
    done = render(OPEN + ELSEWHERE)

    assert done.exit_code == 0, done.output
    egress = objects(tmp_path / "out/kms-watchdog.yaml")["NetworkPolicy"]["spec"]["egress"]
    assert egress[1] == {"ports": [{"protocol": "TCP", "port": port} for port in (80, 443, 8443)]}


def test_a_rollback_waits_for_no_pod_that_never_becomes_ready() -> None:
    """Kubernetes' default, `OrderedReady`, replaces a pod only once it is ready, which a bad image never is."""
    stateful = objects(COMMITTED)["StatefulSet"]["spec"]

    assert (stateful["podManagementPolicy"], stateful["replicas"]) == ("Parallel", 1)


def test_probes_ask_for_life_and_readiness_apart() -> None:
    """A sick region must restart nothing: only /livez does, by our own command, without a shell."""
    watchdog, toxiproxy = pod(objects(COMMITTED))["containers"]
    probes = {name: watchdog[f"{name}Probe"]["exec"]["command"] for name in ("startup", "liveness", "readiness")}
    settings = load(EXAMPLE, environ={})

    assert probes == {
        "startup": list(container.probe(settings)),
        "liveness": list(container.probe(settings)),
        "readiness": list(container.probe(settings, "/readyz")),
    }
    assert not any("Probe" in name for name in toxiproxy)
    assert "initContainers" not in pod(objects(COMMITTED))  # one would be waited for


def test_pods_are_restricted() -> None:
    """As the standard `restricted` wants it, which the namespace enforces; and nobody talks to Kubernetes."""
    found = objects(COMMITTED)
    spec = pod(found)

    assert found["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == container.USER
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]
    for one in spec["containers"]:
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_what_it_writes_outlives_it() -> None:
    """A disk that one pod has alone, never shared, and kept when the set goes; a stop lets drills restore."""
    stateful = objects(COMMITTED)["StatefulSet"]["spec"]
    [claim] = stateful["volumeClaimTemplates"]

    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert {"name": claim["metadata"]["name"], "mountPath": container.STATE_FOLDER} in pod(objects(COMMITTED))[
        "containers"
    ][0]["volumeMounts"]
    assert pod(objects(COMMITTED))["terminationGracePeriodSeconds"] == 40


def test_nodes_can_be_drained() -> None:
    """One pod at a time may go, a sick one always."""
    budget = objects(COMMITTED)["PodDisruptionBudget"]["spec"]

    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert budget["selector"] == objects(COMMITTED)["StatefulSet"]["spec"]["selector"]

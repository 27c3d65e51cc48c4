"""The local AWS in other people's tests: the fixture, the context manager, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kms_core import Core, CoreConfig, KeyConfig
from kms_local.testing import LocalAws, LocalAwsError, start_local_aws

USERS_TEST = """
import boto3

def test_sealed_in_one_region_opens_in_another(kms_local_aws):
    east, west = (boto3.client("kms", **kms_local_aws.client_settings("kms", r)) for r in ("us-east-1", "us-west-2"))
    key_id = east.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2")
    blob = east.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    assert west.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    (opened,) = [line for line in kms_local_aws.requests() if line["operation"] == "Decrypt"]
    assert opened["region"] == "us-west-2"
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with start_local_aws(tmp_path_factory.mktemp("testing"), flags=("--creating-seconds", "0")) as started:
        yield started


@pytest.mark.slow
def test_the_fixture_serves_a_users_tests(tmp_path: Path) -> None:
    """A conftest.py of one line, and a test that uses two regions."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["kms_local.pytest_plugin"]\n')
    (tmp_path / "test_mine.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_any_sdk_reads_the_environment(aws: LocalAws) -> None:
    """The variables suffice for a client that is told nothing else."""
    program = 'import boto3; print(boto3.client("sts").get_caller_identity()["Arn"]); boto3.client("kms").list_keys()'
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith("AWS_")}}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **aws.environment("eu-west-1")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == f"arn:aws:iam::{aws.account_id}:user/kms-local"
    assert aws.requests()[-1]["region"] == "eu-west-1"


def test_the_core_runs_on_it(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README has it."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # one that other tests have made knows no profile
    for name, value in aws.environment().items():
        if not name.startswith("AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, value)
    east = boto3.client("kms", **aws.client_settings("kms"))
    key_id = east.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    for region in aws.regions[1:]:
        east.replicate_key(KeyId=key_id, ReplicaRegion=region)
    for region in aws.regions:
        client = boto3.client("kms", **aws.client_settings("kms", region))
        client.create_alias(AliasName="alias/mine", TargetKeyId=key_id)
        client.close()
    east.close()
    config = CoreConfig(
        account_id=aws.account_id,
        regions=tuple(aws.regions),
        home_region="us-east-1",
        keys={"mine": KeyConfig(alias="alias/mine")},
        endpoints=aws.urls("kms"),
        ca_bundle=aws.ca_bundle,
    )
    with Core(config) as core:
        message = core.encrypt(b"x", purpose="mine", context={"tenant": "parker"})
        with aws.fault(region="us-east-1", error_code="KMSInternalException"):
            assert core.decrypt(message, purpose="mine", context={"tenant": "parker"}) == b"x"


def test_a_fault_lasts_as_long_as_its_block(aws: LocalAws) -> None:
    """And leaves other faults alone."""
    client = boto3.client("kms", **aws.client_settings("kms"))
    with aws.fault(operation="ListAliases", error_code="KMSInternalException"):
        with aws.fault(operation="ListKeys", error_code="AccessDeniedException"), pytest.raises(ClientError):
            client.list_keys()
        client.list_keys()
        assert [fault["operation"] for fault in aws.admin("GET", "/faults")["faults"]] == ["ListAliases"]
    client.close()


def test_a_fault_may_end_before_its_block(aws: LocalAws) -> None:
    """One that hits once is gone after it, and leaving the block is no error."""
    client = boto3.client("kms", **aws.client_settings("kms"), config=Config(retries={"total_max_attempts": 1}))
    with aws.fault(operation="ListKeys", error_code="AccessDeniedException", times=1):
        with pytest.raises(ClientError):
            client.list_keys()
        client.list_keys()
    client.close()


def test_roles_are_handed_over(aws: LocalAws) -> None:
    """With credentials for each."""
    roles = aws.replace_roles({"RoleDetailList": [{"RoleName": "Reader"}]})
    sts = boto3.client("sts", **aws.client_settings("sts", role="Reader"))

    assert set(roles) == {"Reader"}
    assert ":assumed-role/Reader/" in sts.get_caller_identity()["Arn"]
    assert aws.environment(role="Reader")["AWS_PROFILE"] == "Reader"
    sts.close()


def test_what_the_admin_api_refuses_is_raised(aws: LocalAws) -> None:
    """With its own words."""
    with pytest.raises(LocalAwsError, match="nonsense"), aws.fault(nonsense=1):
        pass
    with pytest.raises(LocalAwsError, match="RoleDetailList"):
        aws.replace_roles({})


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The exception has the command's own line."""
    with (
        pytest.raises(LocalAwsError, match="is not the name of an AWS region"),
        start_local_aws(tmp_path, regions=["nowhere"]),
    ):
        pass


def test_without_toxiproxy_there_is_no_url(tmp_path: Path) -> None:
    """And fewer regions are fewer regions."""
    with start_local_aws(tmp_path / "new", regions=["eu-west-1"], toxiproxy=False) as aws:
        assert aws.regions == ["eu-west-1"]
        with pytest.raises(LocalAwsError, match="no-toxiproxy"):
            _ = aws.toxiproxy_url
    assert not (tmp_path / "new" / "endpoints.json").exists()


def test_a_killed_test_run_leaves_no_server(tmp_path: Path, eventually: Callable[..., None]) -> None:
    """SIGKILL to the process that started it ends the server too."""
    program = (
        "import pathlib, sys\n"
        "from kms_local.testing import start_local_aws\n"
        "with start_local_aws(pathlib.Path(sys.argv[1]), regions=['us-east-1']) as aws:\n"
        "    print(aws.process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    starter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdin is not None
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())

    starter.send_signal(signal.SIGKILL)
    starter.wait(10)

    eventually(lambda: not _alive(pid))
    starter.stdin.close()
    starter.stdout.close()


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False

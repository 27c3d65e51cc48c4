"""`kms-local serve` as a process: its start, its end, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone  # a port that is free again would soon be another test's


def kms_local(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kms_local", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def listens(url: str) -> bool:
    host, _, port = url.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def urls_of(document: dict[str, Any]) -> set[str]:
    regions = document["regions"].values()
    return {url for region in regions for url in region.values()} | {
        document["admin"]["url"],
        document["toxiproxy"]["url"],
    }


def test_endpoints_json_has_its_keys(local_aws: Any) -> None:
    """The address file has exactly the keys that its readers were promised, and only its owner may read it."""
    document = local_aws.endpoints

    assert document.keys() == {"schema", "account_id", "ca_bundle", "credentials", "regions", "toxiproxy", "admin"}
    assert (document["schema"], document["account_id"]) == (1, "123456789012")
    assert document["credentials"].keys() == {"aws_access_key_id", "aws_secret_access_key"}
    assert list(document["regions"]) == ["us-east-1", "us-west-2", "eu-west-1"]
    for region in document["regions"].values():
        assert region.keys() == {"kms", "cloudwatch", "sns", "sts", "iam", "cloudtrail"}
    assert Path(document["ca_bundle"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert stat.S_IMODE((local_aws.directory / "endpoints.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(starts_local_aws: Callable[..., Any], number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: exit code 0, nothing listens any more, and the address file is gone."""
    aws = starts_local_aws("--regions", "us-east-1,eu-west-1")
    urls = urls_of(aws.endpoints)
    assert all(listens(url) for url in urls)
    client = aws.client("kms")
    client.list_keys()  # leaves a connection open

    aws.process.send_signal(number)

    assert aws.process.wait(10) == 0
    assert not any(listens(url) for url in urls)
    assert {path.name for path in aws.directory.iterdir()} == {"requests.ndjson"}


def test_kill_minus_9_leaves_no_toxiproxy(
    starts_local_aws: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    """Nobody can clean up after SIGKILL; the Toxiproxy server ends by itself."""
    aws = starts_local_aws("--regions", "us-east-1")
    toxiproxy = aws.endpoints["toxiproxy"]["url"]
    assert listens(toxiproxy)

    aws.process.kill()

    assert aws.process.wait(10) == -signal.SIGKILL
    eventually(lambda: not listens(toxiproxy))


def test_without_toxiproxy_there_is_none(starts_local_aws: Callable[..., Any]) -> None:
    """`--no-toxiproxy` starts no second process, and names no address for it."""
    assert "toxiproxy" not in starts_local_aws("--regions", "us-east-1", "--no-toxiproxy").endpoints


def test_fixed_ports(starts_local_aws: Callable[..., Any], port_block: int) -> None:
    """`--first-port` puts admin, Toxiproxy and two ports a region one after the other."""
    first = port_block

    found = starts_local_aws("--regions", "us-east-1", "--first-port", str(first)).endpoints

    assert found["admin"]["url"].endswith(f":{first}")
    assert found["toxiproxy"]["url"].endswith(f":{first + 1}")
    assert found["regions"]["us-east-1"]["kms"].endswith(f":{first + 2}")
    assert found["regions"]["us-east-1"]["sns"].endswith(f":{first + 3}")


@pytest.mark.parametrize(
    "offset", [pytest.param(0, id="admin"), pytest.param(1, id="toxiproxy"), pytest.param(2, id="kms")]
)
def test_a_port_in_use_is_one_line_and_nothing_left(tmp_path: Path, port_block: int, offset: int) -> None:
    """A taken port: exit code 2, one clear line on stderr, no directory, nothing listening."""
    directory, first = tmp_path / "aws", port_block
    with socket.create_server(("127.0.0.1", first + offset)):
        ended = kms_local("serve", "--dir", str(directory), "--regions", "us-east-1", "--first-port", str(first))

        assert ended.returncode == 2
        assert str(first + offset) in ended.stderr
        assert "ddress already in use" in ended.stderr
        assert ended.stdout == ""
        assert not directory.exists()
        if offset:
            assert not listens(f"http://127.0.0.1:{first}")


def test_two_servers_do_not_share_a_directory(starts_local_aws: Callable[..., Any]) -> None:
    """The second one is refused, and the first one's files stay."""
    aws = starts_local_aws("--no-toxiproxy")
    before = sorted(path.name for path in aws.directory.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "kms_local", "serve", "--dir", str(aws.directory)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "another server uses the directory" in done.stderr
    assert sorted(path.name for path in aws.directory.iterdir()) == before
    aws.client("kms").list_keys()


def test_a_name_that_no_certificate_holds_is_one_line(tmp_path: Path) -> None:
    """It is said before anything is served."""
    done = kms_local("serve", "--dir", str(tmp_path / "aws"), "--advertise", "bücher.example")

    assert done.returncode == 2
    assert done.stderr.startswith("kms-local serve: cannot make certificates: ")
    assert done.stderr.count("\n") == 1


def test_an_unwritable_directory_is_one_line(tmp_path: Path) -> None:
    """A directory that cannot be made: exit code 2 and one line that names it."""
    file = tmp_path / "file"
    file.touch()

    ended = kms_local("serve", "--dir", str(file / "aws"))

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert str(file / "aws") in ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("--regions", "moon"), id="no-region"),
        pytest.param(("--regions", "us-east-1,us-east-1"), id="twice"),
        pytest.param(("--creating-seconds", "-1"), id="negative"),
        pytest.param(("--account-id", "12"), id="no-account"),
        pytest.param(("--nonsense",), id="unknown-flag"),
    ],
)
def test_bad_flags_are_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """What cannot be meant is exit code 2, before anything is written."""
    ended = kms_local("serve", "--dir", str(tmp_path / "aws"), *flags)

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "aws").exists()


def test_help_lists_the_commands() -> None:
    """`kms-local --help` names every command and shows examples."""
    found = kms_local("--help").stdout

    for expected in ("serve", "toxiproxy", "demo", "Examples:"):
        assert expected in found
    assert "endpoints.json" in kms_local("serve", "--help").stdout


def test_the_state_file_is_json_at_every_moment(starts_local_aws: Callable[..., Any]) -> None:
    """The address file appears in one step: when the ready line is out, it is whole."""
    aws = starts_local_aws("--regions", "us-east-1", "--no-toxiproxy")

    assert json.loads((aws.directory / "endpoints.json").read_text())["schema"] == 1
    assert not list(aws.directory.glob("*.partial"))

"""The commands: exit codes, one line for an error, and what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_kit import KEYS_ALONE, LocalCloud, result
from rich.console import Console

from kms_watchdog import __main__ as entry
from kms_watchdog import healthcheck
from kms_watchdog.commands import once
from kms_watchdog.results import CanaryResult, Outcome
from kms_watchdog.web.server import bind

OK, FAILED, BLIND = result(), result(Outcome.FAILED, error_code="ReadTimeout"), result(Outcome.BLIND)


def run(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return] # options are passed on
        [sys.executable, "-m", "kms_watchdog", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **more,
    )


@pytest.mark.parametrize(
    ("results", "code"),
    [
        pytest.param([OK, OK], 0, id="good"),
        pytest.param([OK, BLIND], 3, id="could-not-tell"),
        pytest.param([BLIND, FAILED], 1, id="bad-found-whatever-else"),
    ],
)
def test_once_ends_with_the_worst_answer(results: list[CanaryResult], code: int) -> None:
    """0 all OK, 1 one FAILED, 3 one BLIND."""
    assert once.exit_code(results) == code


def test_once_prints_a_line_each_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    """Easy to grep."""
    once.show([OK, FAILED], Console(force_terminal=False))

    assert capsys.readouterr().out.splitlines() == [
        "OK round_trip us-east-1 general 20.0ms",
        "FAILED round_trip us-east-1 general 20.0ms timeout ReadTimeout",
    ]


def test_once_draws_a_table_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """For people."""
    once.show([OK, FAILED], Console(force_terminal=True, width=100))

    written = capsys.readouterr().out
    assert "canary" in written
    assert "timeout ReadTimeout" in written


def test_once_as_json(cloud: LocalCloud, tmp_path: Path) -> None:
    """One document; a key that does not exist yet anywhere is a matter of configuration."""
    config = cloud.config(tmp_path, prefix="once")
    missing = cloud.run("once", "--json", config=config)
    cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)

    found = cloud.run("once", "--json", config=config)

    document = json.loads(found.stdout)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    assert "exists in none of the regions" in missing.stderr
    assert (found.returncode, document["outcome"], len(document["results"])) == (0, "OK", 9)
    assert {r["outcome"] for r in document["results"]} == {"OK"}


@pytest.mark.parametrize("command", ["run", "once", "check-config", "provision plan", "provision apply"])
def test_a_broken_configuration_is_one_line_and_2(write_config: Callable[..., Path], command: str) -> None:
    """The same for all commands: file, key, expectation."""
    path = write_config("[http]\nlisen = 'x'\n")

    refused = run(*command.split(), "--config", str(path))

    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"kms-watchdog: {path}: http.lisen: unknown key; did you mean listen?"]
    assert refused.stdout == ""


def test_check_config_says_what_it_asks_for(write_config: Callable[..., Path]) -> None:
    """Path from the environment too."""
    path = write_config()

    found = run("check-config", env={"KMS_WATCHDOG_CONFIG": str(path), "PATH": ""})

    assert found.returncode == 0
    assert f"{path}: good" in found.stdout
    assert "canaries    round_trip           6 every 30 s, deadline 10 s" in found.stdout


def test_the_core_has_its_say_too(write_config: Callable[..., Path]) -> None:
    """What only the core refuses is one line as well."""
    path = write_config("[core]\nmax_retries = 3\ndeadline_seconds = 90000\n")

    refused = run("check-config", "--config", str(path))

    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_an_unknown_command_is_2() -> None:
    """Usage."""
    assert run("dance").returncode == 2


def test_a_missing_extra_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Which package, and what to install."""
    assert entry.missing_extra("starlette") == 2
    assert capsys.readouterr().err == (
        "kms-watchdog: starlette is not installed; it comes with: pip install 'kms-watchdog[daemon]'\n"
    )


def test_without_the_extra_the_command_says_so(tmp_path: Path) -> None:
    """As on a machine with the bare wheel: one line, 2, no traceback."""
    (tmp_path / "click.py").write_text('raise ModuleNotFoundError("No module named \'click\'", name="click")')

    refused = run("run", env={"PYTHONPATH": str(tmp_path), "PATH": ""})

    assert refused.returncode == 2
    assert refused.stderr.startswith("kms-watchdog: click is not installed")
    assert len(refused.stderr.splitlines()) == 1


def test_healthcheck_imports_nothing_heavy() -> None:
    """It runs every 30 s in a container: neither boto3 nor the web framework, nor even click."""
    code = "import sys; from kms_watchdog import healthcheck; print('\\n'.join(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in found.stdout.splitlines()}
    assert not loaded & {"boto3", "botocore", "starlette", "click", "pydantic", "kms_core", "structlog"}


def test_healthcheck_without_an_answer_is_1() -> None:
    """A port where nobody listens any more."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()

    found = run("healthcheck", "--url", f"http://127.0.0.1:{port}/livez")

    assert found.returncode == 1
    assert found.stdout.startswith(f"no answer from 127.0.0.1:{port}")


def test_healthcheck_of_no_address_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage."""
    with pytest.raises(SystemExit) as caught:
        healthcheck.main(["--url", "ftp://x"])

    assert caught.value.code == 2
    assert "--url must begin with http://" in capsys.readouterr().err

"""The commands of the examples' README, run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ports
import pytest
from flight_kit import EXAMPLES, SECONDS
from parker_flight_api.task_definition import main
from waiting import wait_until

ROOT = EXAMPLES.parent
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
BY_HAND = README.partition("## The booking service by hand")[2].partition("\n## ")[0]
FOREVER = " serve"


def commands(text: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


@contextmanager
def going_on(command: str, environ: dict[str, str], log: Path) -> Iterator[None]:
    """Run a command as in a terminal of its own, from when it is ready until Ctrl-C at the end of the block."""
    with log.open("wb") as file:
        whole = f"exec env {command}"  # so that no shell stands between it and its signals
        process = subprocess.Popen(["/bin/sh", "-c", whole], cwd=ROOT, env=environ, stdout=file, stderr=file)
    try:
        wait_until(lambda: re.search("ready|listening on", log.read_text()), says=command, seconds=SECONDS)
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def done(command: str, environ: dict[str, str]) -> str:
    """Run a command to its good end, and return what it printed."""
    ended = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_by_hand_as_it_is_printed(tmp_path: Path) -> None:
    """From nothing to a load that does not fail, and not in an outage either; only folder and port are the test's."""
    port = ports.free()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KMS_"))}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{environ['PATH']}", "PORT": str(port)}
    environ["TMPDIR"] = str(tmp_path)  # another test may apply to an estate of that name

    said = []
    with ExitStack() as stack:
        for number, line in enumerate(commands(BY_HAND)):
            command = line.replace("build/flight", str(tmp_path)).replace(":3000", f":{port}")
            if FOREVER in line:
                stack.enter_context(going_on(command, environ, tmp_path / f"{number}.log"))
            else:
                said.append(done(command, environ))

    provisioned, load, _, in_outage = said
    assert "read back: every key, replica, alias and policy is as configured" in provisioned
    assert (json.loads(load)["requests"], json.loads(load)["failures"]) == (200, 0)
    assert (json.loads(in_outage)["requests"], json.loads(in_outage)["failures"]) == (100, 0)


def test_it_is_four_commands() -> None:
    """Up to the first report, without an account."""
    first = BY_HAND.partition("```console")[2].partition("```")[0]

    assert len(commands(first)) == 4


def test_the_task_definition_is_printed_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's own words, with a digest."""
    [line] = [line for line in commands(README) if "parker_flight_api.task_definition" in line]
    words = shlex.split(line.replace("$DIGEST", "0" * 64))

    assert main(words[words.index("parker_flight_api.task_definition") + 1 : words.index(">")]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "parker-flight-api"


def test_links_lead_somewhere() -> None:
    """As on the other pages."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)

    assert "../docs/core.md" in links
    assert all((EXAMPLES / link).exists() for link in links if "://" not in link)

"""The operators' page, typed line by line: from nothing to a green page, an outage, and the first drill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ports import free
from waiting import wait_until

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "daemon" / "README.md").read_text(encoding="utf-8").partition("## From nothing to a green page")[2]
BLOCKS = re.findall(r"```console\n(.*?)```", SECTION.partition("\n## ")[0], re.DOTALL)
NOT_TYPED = ("python3.11 -m venv", "pip install", "mkdir rehearsal", ". .venv/bin/activate")
"""What the test's own installation and folder stand for."""
FOREGROUND = ("kms-local serve", "kms-local pager", "AWS_PROFILE=KmsWatchdogRole kms-watchdog run")
"""What stays in the foreground of a terminal of its own."""


def commands(block: str) -> list[str]:
    """Return what is typed in one block, without comments."""
    lines = [re.sub(r"\s+# .*", "", line[2:]) for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if not line.startswith(NOT_TYPED)]


class Terminal:
    """A shell per line, in one folder; what is exported stays."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder, self.ports = folder, ports
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "KMS_"))} | {
            "PATH": search
        }

    def words(self, line: str) -> str:
        """Return a line with free ports in place of the printed ones."""
        for printed, own in self.ports.items():
            line = line.replace(printed, own)
        return line

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line, and wait for its end."""
        if line.startswith("export "):
            for name, value in (word.split("=", 1) for word in line.split()[1:]):
                self.environment[name] = value.replace("$PWD", str(self.folder))
            return subprocess.CompletedProcess(line, 0, "", "")
        return subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", self.words(line)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def leave_running(self, line: str) -> Iterator[subprocess.Popen[bytes]]:
        """Type a line that stays in the foreground; Ctrl-C in the end."""
        process = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {self._assigned_first(self.words(line))}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)

    @staticmethod
    def _assigned_first(line: str) -> str:
        return f"env {line}" if re.match(r"\w+=", line) else line


def status(url: str) -> int:
    """Return the status of an answer, 0 for none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours, on 127.0.0.1
            return int(answer.status)
    except urllib.error.HTTPError as e:
        return e.code
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.minutes(2.4)
@pytest.mark.timeout(1500)
def test_what_is_printed_leads_to_a_green_page_and_a_drill_that_held(tmp_path: Path) -> None:
    """In the order of the page; every line ends as the page says."""
    ports = {"14000": str(free()), "14100": str(free())}
    terminal = Terminal(tmp_path, ports)
    serve, pager, setting_up, breaking = map(commands, BLOCKS)
    with ExitStack() as running:
        [line] = serve
        assert line.startswith(FOREGROUND)
        running.enter_context(terminal.leave_running(line))
        wait_until((tmp_path / "aws" / "endpoints.json").exists, says="the local AWS serves")
        [line] = pager
        running.enter_context(terminal.leave_running(line))
        for line in setting_up:
            if line.startswith(FOREGROUND):
                page = _page_of(tmp_path)
                running.enter_context(terminal.leave_running(line))
                continue
            done = terminal.type(line)
            expected = 1 if line.endswith("provision plan") else 0  # it shows what is missing
            assert done.returncode == expected, f"$ {line}\n{done.stdout}{done.stderr}"
        wait_until(lambda: status(f"{page}/health") == 200, says="the page is green", seconds=120)

        add, clear, drill = breaking
        assert terminal.type(add).returncode == 0
        wait_until(lambda: status(f"{page}/health") == 503, says="the page shows it", seconds=120)
        assert terminal.type(clear).returncode == 0
        wait_until(lambda: status(f"{page}/health") == 200, says="the page is green again", seconds=180)
        wait_until(lambda: _quiet(terminal), says="no live alarm is left", seconds=300)
        held = terminal.type(drill)
        assert held.returncode == 0, held.stdout + held.stderr
        assert "HELD" in held.stdout

    [verdict] = (tmp_path / "state" / "drills").glob("*/verdict.json")
    assert json.loads(verdict.read_text(encoding="utf-8"))["verdict"] == "HELD"


def _page_of(folder: Path) -> str:
    """Have the status page on a free port; return its address."""
    config, port = folder / "watchdog.toml", free()
    text = config.read_text(encoding="utf-8")
    if "[http]" not in text:
        text += "\n[http]\n"
    text = re.sub(r"^listen = .*\n", "", text, flags=re.MULTILINE)
    config.write_text(text.replace("[http]\n", f'[http]\nlisten = "127.0.0.1:{port}"\n'), encoding="utf-8")
    return f"http://127.0.0.1:{port}"


def _quiet(terminal: Terminal) -> bool:
    """Whether no drill would be refused because of an alarm that the outage has left."""
    planned = terminal.type("AWS_PROFILE=KmsDrillRole kms-chaos plan region-blackhole --ask")
    return planned.returncode == 0

"""Hostile names on a real terminal: whatever a journal, a file or a server says is shown, and acts on nothing."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from canary_server import listening
from hostile_names import TERMINAL, hostile, hostile_story

from kms_chaos.drill import SHIPPED
from kms_chaos.testing import RUN_ID
from kms_watchdog import tables, terminal

CONFIG = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/test-general"
[state]
dir = "state"
"""
HARMLESS = re.compile(r"\x1b\[[0-9;]*m|\r\n|\n|\t|[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Colours, ends of lines as a terminal driver has them, and text."""


def on_a_terminal(*command: str, folder: Path) -> str:
    """Run a command whose input and output are a terminal; return all that it wrote there."""
    here, there = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, *command], stdin=there, stdout=there, stderr=there, cwd=folder, env=environment
    ):
        os.close(there)
        written = bytearray()
        with suppress(OSError):  # Linux ends a terminal that nobody writes to any more with EIO
            while chunk := os.read(here, 65_536):
                written += chunk
        os.close(here)
    return written.decode("utf-8", "replace")


def acting(written: str) -> list[str]:
    """Return what of it is neither text nor colour."""
    return HARMLESS.sub("", written).split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder with a drill whose every name is hostile, and a drill's file with a hostile title."""
    mark = hostile(9, controls=True)
    (tmp_path / "watchdog.toml").write_text(CONFIG, encoding="utf-8")
    run = tmp_path / "state" / "drills" / RUN_ID
    run.mkdir(parents=True)
    (run / "journal.ndjson").write_bytes(hostile_story(mark).raw())
    (run / "undo.json").write_text(json.dumps({"schema": mark}))
    (run / "verdict.json").write_text(json.dumps({"schema": 1, "run_id": mark}))
    text = (SHIPPED / "region-blackhole.toml").read_text(encoding="utf-8")
    title = json.dumps(f"[/] [link=http://x]title[/link] {TERMINAL}")
    (tmp_path / "odd.toml").write_text(re.sub(r"^title = .*$", lambda _: f"title = {title}", text, flags=re.MULTILINE))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        pytest.param(("kms_chaos", "judge", RUN_ID), "owned", id="judge"),
        pytest.param(("kms_chaos", "report", RUN_ID, "--format", "markdown"), "owned", id="report"),
        pytest.param(("kms_chaos", "verify", "state/drills"), RUN_ID, id="verify"),
        pytest.param(("kms_chaos", "plan", "odd.toml"), "[link=http://x]title[/link]", id="plan"),
        pytest.param(("kms_chaos", "heal"), "undo", id="heal"),
        pytest.param(("kms_chaos", "score"), "never", id="score"),
    ],
)
def test_a_command_writes_text_and_colours_alone(folder: Path, arguments: tuple[str, ...], shows: str) -> None:
    """Nothing sets the terminal's title, clears it, hides a line or turns its direction; the names can be read."""
    written = on_a_terminal("-m", *arguments, *(() if "verify" in arguments else CONFIG_OPTION), folder=folder)

    assert acting(written) == []
    assert shows in written
    assert "Traceback" not in written


CONFIG_OPTION = ("--config", "watchdog.toml")


@pytest.mark.slow
def test_what_a_server_says_is_text(folder: Path) -> None:
    """`status` of a daemon that is none: its document's words, and an answer's own."""
    mark = hostile(9, controls=True)
    document = {
        "now_utc": "2026-01-01T00:00:00Z", "status": f"bad{mark}", "estate": mark, "reasons": [{"code": mark}],
        "canaries": [{"canary": mark, "state": "down", "last": {"outcome": "FAILED", "detail": mark}}],
        "regions": [{"region": mark}], "keys": [{"purpose": mark}],
        "drills": [{"active": True, "drill": mark}],
    }  # fmt: skip
    with listening() as server:
        server.body = json.dumps(document).encode()
        written = on_a_terminal(
            "-m", "kms_watchdog", "status", "--url", f"http://127.0.0.1:{server.port}", *CONFIG_OPTION, folder=folder
        )

    assert acting(written) == []
    assert r"\x1b]0;owned" in written


def test_a_line_of_the_log_is_one_line_on_a_terminal_too(tmp_path: Path) -> None:
    """A value that wants to be a line of its own, forged from head to end, is a value."""
    forged = f"x\n2026-01-01T00:00:00Z [info     ] drill.closed verdict=HELD{TERMINAL}"
    program = (
        "import structlog; from kms_watchdog import logs, terminal; from kms_watchdog.config import Log;"
        "from kms_core.clock import SystemClock; terminal.guard(); logs.configure(Log(), SystemClock());"
        f"structlog.get_logger('x').warning('canary.failed', detail={forged!r});"
        f"import logging; logging.getLogger('foreign').error({forged!r})"
    )

    written = on_a_terminal("-c", program, folder=tmp_path)

    assert acting(written) == []
    assert len(written.strip().splitlines()) == 2
    assert written.count(r"\n2026-01-01") == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain text, ü, 区\tand\nlines", "plain text, ü, 区\tand\nlines", id="text"),
        pytest.param("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m", id="colours"),
        pytest.param("\x1b[2J", r"\x1b[2J", id="clears"),
        pytest.param("\x1b]0;t\x07", r"\x1b]0;t\x07", id="title"),
        pytest.param("good\rbad", r"good\rbad", id="over-the-line"),
        pytest.param("\x9b31m", r"\x9b31m", id="eight-bit"),
        pytest.param("\u202edoog", r"\u202edoog", id="from-right-to-left"),
        pytest.param("a\x7fb\x00", r"a\x7fb\x00", id="deletes"),
    ],
)
def test_what_a_guarded_stream_passes_on(text: str, shown: str) -> None:
    """Text and colours."""
    under = io.StringIO()

    assert terminal.Guarded(under).write(text) == len(text)

    assert under.getvalue() == shown


def test_a_pipe_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a file or a pipe is data: a document that names a control character keeps it."""
    streams: dict[str, Any] = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    terminal.guard()

    assert (sys.stdout, sys.stderr) == tuple(streams.values())


def test_a_table_keeps_its_own_colours_and_no_markup_of_others() -> None:
    """Its cells are text: neither markup nor emoji, nor an escape."""
    drawn = tables.console(force_terminal=True, width=80)
    drawn.file = io.StringIO()

    drawn.print(f"[red]x[/] :smile: {TERMINAL}", style="bold")

    written = drawn.file.getvalue()
    assert "[red]x[/] :smile: " in re.sub(r"\x1b\[[0-9;]*m", "", written)
    assert acting(written) == []
    assert "\x1b[1m" in written

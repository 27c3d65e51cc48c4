"""What the command line says of itself: help, exit codes, completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from daemon_kit import result

from kms_core.testing import ManualClock
from kms_watchdog import cli, healthcheck
from kms_watchdog.cli import SECTIONS, SUBCOMMANDS, command
from kms_watchdog.commands.completion import PROGRAM, VARIABLE
from kms_watchdog.config import load
from kms_watchdog.sinks.history import HistorySink


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command's words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name)


COMMANDS = [words for words in leaves(command) if words != ("healthcheck",)]  # which argparse answers: see below


def help_of(*words: str) -> str:
    told = CliRunner().invoke(command, [*words, "--help"], prog_name=PROGRAM, env={"COLUMNS": "200"})
    assert told.exit_code == 0
    return told.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_its_exit_codes(words: tuple[str, ...]) -> None:
    """Scripts rest on them."""
    assert "Exit code 0:" in help_of(*words)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(words: tuple[str, ...]) -> None:
    """Its own, or its group's; each names the command in full."""
    texts = (help_of(*words), help_of(*words[:-1]))

    assert any("Example" in text and f"kms-watchdog {' '.join(words)}" in text for text in texts)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_explained(words: tuple[str, ...]) -> None:
    """All but --mode and --format say what for, and those show what they take."""
    found: click.Command | None = command
    for word in words:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None

    silent = [p.name for p in found.params if isinstance(p, click.Option) and not (p.help or p.show_default)]
    assert silent == []


def test_healthcheck_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """It has a parser of its own, so as to import nothing."""
    with pytest.raises(SystemExit) as ended:
        healthcheck.main(["--help"])

    assert ended.value.code == 0
    assert "Exit code 0: yes; 1: no" in " ".join(capsys.readouterr().out.split())


def test_the_top_help_has_sections() -> None:
    """Each command once, under a heading, with its first sentence whole."""
    text = help_of()

    for heading in SECTIONS:
        assert f"\n{heading}:\n" in text
    for name in SUBCOMMANDS:
        assert text.count(f"\n  {name} ") == 1
    assert "..." not in text[text.index("Options:") : text.index("Examples:")]


def test_a_command_nobody_placed_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Last, rather than not at all."""
    monkeypatch.setitem(SUBCOMMANDS, "new-one", SUBCOMMANDS["status"])

    assert cli.sections()[-1] == ("More", ["new-one"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    """That asks this very command by click's variable."""
    told = CliRunner().invoke(command, ["completion", shell])

    assert told.exit_code == 0
    assert f"{VARIABLE}={shell}_complete" in told.stdout


def test_another_shell_is_2() -> None:
    """Usage."""
    assert CliRunner().invoke(command, ["completion", "tcsh"]).exit_code == 2


def completed(words: list[str], incomplete: str) -> list[str]:
    return [item.value for item in ShellComplete(command, {}, PROGRAM, VARIABLE).get_completions(words, incomplete)]


@pytest.fixture
def config(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_config()
    monkeypatch.setenv("KMS_WATCHDOG_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        (["return"], "us", ["us-east-1", "us-west-2"]),
        (["evacuate"], "e", ["eu-west-1"]),
        (["history", "--key"], "", ["general", "payment"]),
        (["history", "--region"], "eu", ["eu-west-1"]),
        (["once", "--canary"], "golden", ["golden"]),
        (["once", "--canary"], "round_trip:eu", ["round_trip:eu-west-1:general", "round_trip:eu-west-1:payment"]),
        (["history", "--mode"], "", ["live", "drill"]),
        ([], "ev", ["evacuate"]),
    ],
)
def test_names_come_from_the_configuration(config: Path, words: list[str], incomplete: str, found: list[str]) -> None:
    """Regions, keys, canaries; nobody is asked."""
    assert completed(words, incomplete) == found


def test_a_file_that_is_named_is_the_one_read(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Before the environment's and the default."""
    other = write_config().read_text().replace("eu-west-1", "eu-north-1")
    path = tmp_path / "other.toml"
    path.write_text(other)

    assert completed(["return", "--config", str(path)], "eu") == ["eu-north-1"]


def test_canaries_that_have_looked_are_known(config: Path, clock: ManualClock) -> None:
    """From the history: whatever kinds there are."""
    state = load(config).state.dir
    state.mkdir()
    history = HistorySink(state / "history.db", clock)
    history.write(result(region="us-east-1:eu-west-1"))
    history.close()

    assert completed(["history", "--canary"], "round_trip:") == ["round_trip:us-east-1:eu-west-1:general"]


def test_estates_are_completed(tmp_path: Path) -> None:
    """Those of the file, good or not otherwise."""
    path = tmp_path / "watchdog.toml"
    path.write_text("[estates.staging.estate]\n[estates.production.estate]\n")

    assert completed(["status", "--config", str(path), "--estate"], "s") == ["staging"]


@pytest.mark.parametrize("content", [None, "not toml", "[estate]\n"])
def test_without_a_good_file_nothing_is_offered(tmp_path: Path, content: str | None) -> None:
    """In the middle of a line nobody wants an error."""
    path = tmp_path / "watchdog.toml"
    if content is not None:
        path.write_text(content)

    for option in ("--region", "--estate"):
        assert completed(["history", "--config", str(path), option], "") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="wants bash")
def test_bash_completes(config: Path, tmp_path: Path) -> None:
    """The script, sourced by the shell itself, over a command of that name."""
    program = tmp_path / PROGRAM
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kms_watchdog "$@"\n')
    program.chmod(0o755)
    script = CliRunner().invoke(command, ["completion", "bash"]).stdout
    asking = "COMP_WORDS=(kms-watchdog return us); COMP_CWORD=2; _kms_watchdog_completion kms-watchdog"
    bash = shutil.which("bash") or ""

    told = subprocess.run(
        [bash, "-c", f'{script}\n{asking}; echo "${{COMPREPLY[*]}}"'],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert told.stdout.split() == ["us-east-1", "us-west-2"]
    assert told.stderr == ""

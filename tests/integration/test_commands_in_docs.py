"""Every command that the documents and the helps show is one: its subcommands and options are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kms_alarms.cli import cli as alarms
from kms_chaos.cli import cli as chaos
from kms_local.__main__ import group as local
from kms_watchdog.cli import command as watchdog

ROOT = Path(__file__).parents[2]
PROGRAMS: dict[str, click.Command] = {
    "kms-alarms": alarms,
    "kms-chaos": chaos,
    "kms-local": local,
    "kms-watchdog": watchdog,
}
PAGES = [ROOT / "README.md", ROOT / "daemon/README.md", *sorted((ROOT / "docs").glob("*.md"))]
_ENDS = re.compile(r"[|>;&]|<\(|\s{3,}")
_SERVERS_OWN = ("kms-watchdog healthcheck", "kms-local toxiproxy")  # parsers of their own


def shown(text: str) -> Iterator[str]:
    """Yield the commands that begin a line of a console, or follow a pipe there."""
    for line in text.replace("\\\n", " ").splitlines():
        if found := re.match(r"\s*\$ (.*)", line):
            for part in found[1].split("#")[0].split("|"):
                if command := re.search(r"^(?:\w+=\S+\s+)*(kms-(?:alarms|chaos|local|watchdog)\b.*)", part.strip()):
                    yield _ENDS.split(command[1].strip())[0].strip()


def examples(program: str, group: click.Command) -> Iterator[str]:
    """Yield the examples of a command's help, and of all commands below it."""
    lines = (group.epilog or "").replace("\\\n", " ").splitlines()
    for line in lines:
        if line.strip().startswith("kms-"):
            yield _ENDS.split(line.strip())[0].strip()
    if isinstance(group, click.Group):
        context = click.Context(group, info_name=program)
        for name in group.list_commands(context):
            if found := group.get_command(context, name):
                yield from examples(program, found)


IN_PAGES = {line for page in PAGES for line in shown(page.read_text(encoding="utf-8"))}
IN_HELPS = {line for name, group in PROGRAMS.items() for line in examples(name, group)}


@pytest.mark.parametrize("line", sorted(IN_PAGES | IN_HELPS))
def test_what_is_shown_can_be_typed(line: str) -> None:
    """Nobody copies a line and is told `no such option`."""
    if line.startswith(_SERVERS_OWN):
        pytest.skip("it parses its own arguments")
    program, *words = shlex.split(line, comments=True)
    command: click.Command = PROGRAMS[program]
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{program} has no command {name}"
        command, context = found, click.Context(found, info_name=name)

    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    known |= set(command.get_help_option_names(context)) | {"--version"}
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known


def test_there_is_something_to_see() -> None:
    """Were the lines not found, all would be well with them."""
    assert len(IN_PAGES) >= 20
    assert len(IN_HELPS) > 20

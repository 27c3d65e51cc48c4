"""docs/deploy.md: its commands are ones that we have, and what it names is there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from deploy_kit import ROOT

from kms_chaos.cli import cli as chaos
from kms_watchdog.cli import command
from kms_watchdog.config import SHAPE
from kms_watchdog.configuring.shape import Shape
from kms_watchdog.deploying import ecs

TEXT = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def lines(program: str) -> list[list[str]]:
    """Return every command of the page that begins so, without what follows a pipe or a remark."""
    joined = re.sub(r"\\\n\s*", "", TEXT)
    found = re.findall(rf"^[$#] ({program} .*)$", joined, re.MULTILINE)
    return [shlex.split(re.split(r" > | {3,}#", line)[0]) for line in found]


def parse(group: click.Command, words: list[str]) -> None:
    """Let the command that `words` call parse them.

    Raises:
        click.UsageError: it does not take them.
    """
    context = click.Context(group)
    while isinstance(group, click.Group):
        found = group.get_command(context, words[0])
        assert found is not None, words
        group, words = found, words[1:]
    group.make_context(group.name, list(words), parent=context)


def test_our_commands_parse() -> None:
    """With every option as it is printed."""
    found = lines("kms-watchdog")

    assert len(found) >= 3
    for _, *words in found:
        parse(command, words)


def test_compose_is_asked_for_what_it_has() -> None:
    """Profiles, services, and what a drill is called with."""
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    runs = [words for words in lines("docker compose") if "run" in words]

    assert len(runs) == 2
    for words in lines("docker compose"):
        if "--profile" in words:
            assert words[words.index("--profile") + 1] in profiles
    for words in runs:
        at = words.index("--rm") + 1
        assert words[at] in SERVICES
        parse(chaos, ["run", *words[at + 1 :]])


def test_a_drill_on_ecs_is_called_as_its_container_is() -> None:
    """The overrides are JSON, for a container of the task, in words that `kms-chaos` takes."""
    [text] = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    [override] = json.loads(text)["containerOverrides"]

    assert override["name"] == ecs.DRILL
    parse(chaos, override["command"])


def test_the_stack_is_given_what_it_asks_for() -> None:
    """Every parameter without a default, and no other."""
    [words] = lines("aws cloudformation deploy")
    given = {word.partition("=")[0] for word in words[words.index("--parameter-overrides") + 1 :]}
    parameters = json.loads((ROOT / "deploy/ecs/us-west-2.json").read_text(encoding="utf-8"))["Parameters"]

    assert given == {name for name, one in parameters.items() if "Default" not in one}


def test_fargate_is_said_to_keep_nothing_that_people_did() -> None:
    """Each command whose word lies in the state folder is named, with where to run it, and the alarm that misleads."""
    fargate = TEXT.partition("## ECS Fargate")[2].partition("\n## ")[0]

    for kept in (
        "sign-offs.json",
        "proofs",
        "measurement",
        "audits",
        "`kms-watchdog tasks`",
        "checklist",
        "operator's",
    ):
        assert kept in fargate
    assert re.search(r"\[TaskOverdue\]\(\S+\) of a watchdog on Fargate for no evidence", fargate)


def secret_addresses(shape: Shape, *above: str) -> Iterator[str]:
    """Yield the keys of addresses that must never be shown."""
    for name in shape.names:
        here = shape.below(name)
        assert here is not None
        if here.secret and name.endswith("_url"):
            yield ".".join((*above, name))
        yield from secret_addresses(here, *above, name)


def test_every_secret_address_is_said_to_need_a_port_that_is_let_out_to() -> None:
    """Whoever renders does not know them, and so cannot let out to theirs."""
    [said] = re.findall(r"- \*\*Let out to\*\*.*?(?=\n\n|\n- )", TEXT, re.DOTALL)

    assert set(secret_addresses(SHAPE)) == set(re.findall(r"`([a-z]+\.[a-z_.]+_url)`", said)) - {"drills.toxiproxy_url"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:deploy|daemon|tests|alarms)/[\w./-]+)`", TEXT))))
def test_files_it_names_are_there(path: str) -> None:
    """Folders too."""
    if not path.startswith("deploy/overlay"):  # the reader's own
        assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", TEXT))))
def test_links_lead_somewhere(target: str) -> None:
    """To pages of this repository."""
    assert (ROOT / "docs" / Path(target)).resolve().is_file()

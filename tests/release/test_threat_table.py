"""SECURITY.md: every trust boundary has its threats, and every threat a test that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from named_tests import functions_of

from kms_local.__main__ import group
from kms_local.serve_settings import ServeSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## Threats, by trust boundary")[2]
BOUNDARIES = [
    "Application → core",
    "Core → KMS",
    "The watchdog's role",
    "The drills' role",
    "Toxiproxy and its control API",
    "Status page and its token",
    "The state folder",
    "Journal and evidence",
    "The evidence store",
    "Configuration and overrides",
    "Notifications and webhooks",
    "CloudWatch and SNS",
    "The operator's terminal and browser",
    "CI and supply chain",
    "The image and its platform",
    "The local AWS",
    "Provisioning",
]


def rows(boundary: str) -> Iterator[list[str]]:
    """Yield the cells of each threat at `boundary`."""
    section = PAGE.partition(f"### {boundary}\n")[2].partition("\n### ")[0]
    for line in section.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| threat |")):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def is_there(path: str, name: str) -> bool:
    return name.startswith("test_") and name in functions_of(ROOT / path)


def test_every_boundary_has_its_section() -> None:
    """Those of the design, in its order, and no other."""
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == BOUNDARIES


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_threat_has_an_answer_and_a_test_that_exists(boundary: str) -> None:
    """A threat without a test is a hope."""
    threats = list(rows(boundary))
    assert len(threats) >= 3

    for threat, answer, shown_by in threats:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown_by)
        assert threat, boundary
        assert answer, threat
        assert named, threat
        assert re.sub(r"`tests/[\w/]+\.py::\w+`", "", shown_by).replace(", ", "") == "", shown_by
        assert [f"{path}::{name}" for path, name in named if not is_there(path, name)] == []


def test_a_test_that_is_not_there_is_found() -> None:
    """Else the test above would prove nothing."""
    here = "tests/release/test_threat_table.py"

    assert is_there(here, "test_a_test_that_is_not_there_is_found")
    assert not is_there(here, "test_that_somebody_renamed")
    assert not is_there(here, "rows")
    assert not is_there("tests/release/test_nowhere.py", "test_anything")


def test_the_local_aws_listens_on_loopback() -> None:
    """Unless somebody says otherwise, as an image does for its container."""
    serve = group.get_command(click.Context(group), "serve")
    assert serve is not None
    [host] = [option for option in serve.params if option.name == "host"]

    assert (host.default, ServeSettings.__dataclass_fields__["host"].default) == ("127.0.0.1", "127.0.0.1")

"""Evidence as the doctor takes it down, made by hand; and the command, run in the test's own process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from kms_watchdog.cli import command
from kms_watchdog.doctor.diagnosis import Given
from kms_watchdog.doctor.seen import Seen, Subject

HOME, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
KEY_ID = "mrk-" + "1" * 32


def seen(subject: Subject, region: str = HOME, *, code: str = "", purpose: str = "", **more: Any) -> Seen:
    """A line of evidence; what is not a field of it is a fact."""
    seconds, answered = more.pop("seconds", 0.0), more.pop("answered", code or "well")
    return Seen(
        subject=subject,
        region=region,
        asked="something",
        answered=answered,
        code=code,
        purpose=purpose,
        seconds=seconds,
        facts=more,
    )


def given(**more: Any) -> Given:
    """What the three regions are expected to be."""
    usual: dict[str, Any] = {
        "account_id": "123456789012",
        "home_region": HOME,
        "regions": (HOME, WEST, IRELAND),
        "every_region": True,
        "key_ids": {"pii": KEY_ID},
        "certificate_days": 14.0,
        "clock_max_seconds": 30.0,
        "slow_seconds": 1.0,
    }
    return Given(**{**usual, **more})


@dataclass(frozen=True)
class Told:
    """What the command said in JSON."""

    code: int
    document: Mapping[str, Any]

    @property
    def causes(self) -> list[str]:
        """Ids of the causes, in their order, each once."""
        return list(dict.fromkeys(cause["id"] for cause in self.document["causes"]))

    def because(self, cause: str) -> list[tuple[str, str]]:
        """Where, and in which words, a cause was found."""
        return [
            (f"{one['key']} {one['region']}".strip(), one["because"])
            for one in self.document["causes"]
            if one["id"] == cause
        ]

    def lines(self, subject: str) -> list[Mapping[str, Any]]:
        """The evidence about a subject."""
        return [line for line in self.document["evidence"] if line["subject"] == subject]


def doctor(config: Path, *words: str) -> Told:
    """Run `kms-watchdog doctor --json`."""
    told = CliRunner().invoke(command, ["doctor", *words, "--json", "--config", str(config)])
    assert told.stdout, told.stderr
    return Told(told.exit_code, json.loads(told.stdout))


def refused(config: Path, *words: str) -> tuple[int, str]:
    """Run `kms-watchdog doctor`, which refuses, and return exit code and what it says on stderr."""
    told = CliRunner().invoke(command, ["doctor", *words, "--config", str(config)])
    assert told.stdout == ""
    return told.exit_code, told.stderr

"""What a writer is to the torture: something that is kept, step by step, and read again after a crash."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from crash_disk import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One thing that is kept."""

    steps: Callable[[Path], Iterator[Any]]
    """Writes into a state folder; yields JSON, what is promised to be there from then on."""
    read: Callable[[Path], Any]
    """Opens what a crash left; returns what is there, in the same form, and writes once more."""
    survives_power: bool = True
    """Whether what was promised survives a cut of power too; else only what was synced does."""
    grows: bool = False
    """Whether what is there is a number that may be greater than what was promised."""
    damaged: bytes = b""
    """What was there and cannot be used: it is moved aside, and not lost. Empty: nothing may be moved aside."""
    begins_with: Tree = field(default_factory=lambda: {"state": None})
    """What is there, and synced, before the first step."""


def main(writers: Mapping[str, Writer], name: str, folder: str) -> None:
    """Write in `folder`, and say on stdout what is promised after each step, and nothing else."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for value in writers[name].steps(Path(folder) / "state"):
        os.write(1, json.dumps(value).encode() + b"\n")

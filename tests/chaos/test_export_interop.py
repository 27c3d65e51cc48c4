"""Chaos Toolkit itself reads our journals and conducts our example; it lives in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ctk_stories import CLASSES, STORIES, told

from kms_chaos.export import chaostoolkit
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders

pytestmark = pytest.mark.slow  # `make interop` runs them all

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).parent / "peers" / "ctk_peer.py"
PYTHON = ROOT / ".state" / "interop" / "ctk" / "bin" / "python"
RUN_SECONDS = 150.0


@pytest.fixture(autouse=True)
def _built() -> None:
    if PYTHON.exists():
        return
    why = "no environment with Chaos Toolkit: `make interop` builds it"
    if os.environ.get("CI"):
        pytest.fail(why)  # CI builds what it can
    pytest.skip(why)


def test_its_reporter_renders_each_and_its_report_classifies_each(tmp_path: Path) -> None:
    """Also those that were interrupted, which its own journals crash it with."""
    paths = {}
    for name, story in STORIES.items():
        paths[name] = tmp_path / f"{name.replace(' ', '-')}.json"
        paths[name].write_text(chaostoolkit.render(told(story)), encoding="utf-8")

    asked = subprocess.run(
        [PYTHON, PEER, "report", *paths.values()], capture_output=True, text=True, check=True, timeout=RUN_SECONDS
    )

    found: dict[str, Any] = json.loads(asked.stdout)
    for name, path in paths.items():
        seen = found[str(path)]
        status = json.loads(path.read_text(encoding="utf-8"))["status"]
        assert f"| {status} |" in seen["markdown"], name
        assert "### Result" in seen["markdown"], name
        assert seen["outcome"] in {None, CLASSES[name]}, name  # None: this version of it has no outcomes


@pytest.mark.usefixtures("daemon_lives")
def test_it_conducts_our_example(local_aws: Any, make_config: Callable[..., Path], tmp_path: Path) -> None:
    """`chaos run`: the hypothesis holds before and after, the fault bites, and our verdict is in its journal."""
    config = make_config()
    paths = [str(ROOT / part) for part in ("core", "daemon", "chaos", "alarms")] + [
        p for p in sys.path if "site-packages" in p
    ]
    given = {"KMS_WATCHDOG_CONFIG": str(config), "KMS_PATHS": os.pathsep.join(paths)}

    ran = subprocess.run(
        [PYTHON, PEER, "run", "--no-version-check", "run", str(ROOT / "examples" / "chaos_toolkit.yaml")],
        env={**local_aws.environment, **given}, cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=RUN_SECONDS,
    )  # fmt: skip

    written = json.loads((tmp_path / "journal.json").read_text(encoding="utf-8"))
    (where,) = folders(config.parent / "state")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (written["status"], written["deviated"]) == ("completed", False)
    action, canaries, breaker = written["run"]
    assert action["output"]["on"] is True
    assert canaries["output"] == 0.0
    assert breaker["output"] in {"open", "half_open"}
    assert written["rollbacks"][0]["output"]["was_on"] is True
    assert written["x-kms-drill"]["run_id"] == where.run_id
    assert journal.read(where.journal).closed

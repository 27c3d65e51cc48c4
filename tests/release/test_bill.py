"""The bill of materials names what the lock names, with its hashes, and is the same to the byte each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bill import LOCK, TOOL, bill_of, locked
from twice import WITHOUT_GIT_EPOCH, BuildFailedError

ROOT = Path(__file__).parents[2]


def test_every_package_is_locked_by_hash() -> None:
    """In every lock there is: no line without one, none of a place instead of a version."""
    locks = sorted([*ROOT.glob("*.lock"), *ROOT.glob("deploy/container/*.lock"), *ROOT.glob("examples/*/*.lock")])

    assert len(locks) == 6
    for path in locks:
        text = path.read_text(encoding="utf-8")
        entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert len(locked(text)) == len(entries) > 0, path
        assert all(locked(text).values()), path
        assert not any(word in text for word in ("git+", "file:", "://", "--index-url", "--find-links")), path


def test_without_the_tool_nothing_is_released(tmp_path: Path) -> None:
    """A release that had no bill this time would go unnoticed."""
    with pytest.raises(BuildFailedError, match="supply"):
        bill_of(ROOT, WITHOUT_GIT_EPOCH, tmp_path / "absent")


@pytest.mark.slow
def test_the_bill_is_the_locks() -> None:
    """Every package and no other, at its version, with every hash that would be taken."""
    if not TOOL.exists():
        pytest.skip("no CycloneDX: make .state/interop/supply/.made puts it up")

    ((name, content),) = bill_of(ROOT, WITHOUT_GIT_EPOCH).items()

    bill = json.loads(content)
    told = {
        f"{one['name']}=={one['version']}": frozenset(
            each["content"] for place in one["externalReferences"] for each in place.get("hashes", ())
        )
        for one in bill["components"]
    }
    assert told == locked((ROOT / LOCK).read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "kms-watchdog")
    assert name == f"kms_watchdog-{bill['metadata']['component']['version']}.cdx.json"

"""Reviews in the state folder: none takes the place of another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from kms_watchdog.auditing import kept
from kms_watchdog.auditing.audit import Audit, Kind
from kms_watchdog.auditing.look import Seen
from kms_watchdog.iam.documents import ToCheck
from kms_watchdog.readiness.estate_evidence import Estate

NOON = datetime(2026, 12, 31, 12, tzinfo=UTC)


def review(made_at_utc: datetime, *, whole: bool = True) -> Audit:
    """Return a review of nothing at all."""
    seen = Seen(
        estate=Estate(keys=(), key_ids={}, roles=(), boundaries=()),
        key_ids={},
        policies=ToCheck(),
        policy_findings=(),
        grants={},
        strays=(),
        trails=(),
        trails_told=True,
        changes=(),
        unused={},
        last_rotated={},
        not_told={} if whole else {"keys": "no answer"},
    )
    return Audit(
        kind=Kind.NOW,
        estate="prod",
        account_id="123456789012",
        by="arn:aws:iam::123456789012:role/Auditor",
        made_at_utc=made_at_utc,
        last_at_utc=None,
        findings=(),
        gone=(),
        seen=seen,
    )


def test_two_of_one_second_are_both_kept(tmp_path: Path) -> None:
    """Else one that is not whole takes the place of the one that the next is compared with."""
    whole, half = NOON, NOON + timedelta(milliseconds=250)
    kept.keep(tmp_path, review(whole))
    kept.keep(tmp_path, review(half, whole=False))
    last = kept.last(tmp_path, Kind.NOW, "prod")

    assert last is not None
    assert last["made_at_utc"] == whole.isoformat()


def test_the_newest_is_the_last(tmp_path: Path) -> None:
    """Also within one second, and whatever an older version, which knew whole seconds alone, called its own."""
    old = kept.keep(tmp_path, review(NOON - timedelta(seconds=1)))
    old.rename(old.with_name(old.name.replace(".000000Z", "Z")))
    for later in (900, 250):
        kept.keep(tmp_path, review(NOON + timedelta(milliseconds=later)))
    last = kept.last(tmp_path, Kind.NOW, "prod")

    assert last is not None
    assert last["made_at_utc"] == (NOON + timedelta(milliseconds=900)).isoformat()

"""Leave: in production a drill needs somebody else's, for this drill as it is, here, now."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guard_kit import ACCOUNT, NOW, moto_aws, settings_of, write_config

from kms_chaos.approving import approve
from kms_chaos.cli import cli
from kms_chaos.drill import find
from kms_chaos.guards import NotHeldError
from kms_chaos.guards.leave import Leave, leave
from kms_chaos.run import Run, plan
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings
from kms_watchdog.drills import approval as approvals
from kms_watchdog.drills.approval import ApprovalError, person
from kms_watchdog.drills.folder import folders
from kms_watchdog.identity import Identity

__all__ = ["moto_aws"]


def session(role: str, name: str = "s") -> Identity:
    return Identity(account_id=ACCOUNT, arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}")


STARTER, BOSS = session("KmsDrillRole"), session("Reviewer", "ann@example.com")
STANDING = f"""
[drills.slots.failover]
drill = "region-blackhole"
day = 3
at = "03:00"
[[drills.standing_approvals]]
drill = "region-blackhole"
approved_by = "arn:aws:iam::{ACCOUNT}:role/Reviewer"
until = "2026-11-25"
reason = "monthly, CHG-1"
"""


def run_of(settings: Settings, **more: Any) -> Run:
    run = plan(settings, find("region-blackhole"), region=more.pop("region", None), clock=ManualClock(start_utc=NOW))
    return replace(run, **{"reason": "CHG-1", **more})


def granted(run: Run, starter: Identity = STARTER, *, hours_later: float = 0.0) -> Leave:
    return leave(
        run.settings, run.drill, run.hurt, starter, reason=run.reason, approval=run.approval, slot=run.slot,
        now_utc=NOW + timedelta(hours=hours_later),
    )  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def approved(settings: Settings, who: Identity = BOSS, **more: Any) -> Run:
    path = approve(run_of(settings, **more), who, reason="fine with me", for_hours=2)
    return run_of(settings, **more, approval=str(path))


def test_somebody_elses_leave_lets_it_in(settings: Settings) -> None:
    """Both identities and both ends of the time are known afterwards."""
    run = approved(settings)

    found = granted(run, hours_later=1.9)

    assert (found.started_by, found.approved_by, found.reason) == (STARTER.arn, BOSS.arn, "CHG-1")
    assert found.approval == Path(run.approval).name
    assert found.until_utc == "2026-11-25T12:00:00+00:00"
    assert granted(run_of(settings, approval="latest")) == found


@pytest.mark.parametrize(
    ("approver", "starter"),
    [
        pytest.param(STARTER, STARTER, id="same-session"),
        pytest.param(session("KmsDrillRole", "somebody-else"), STARTER, id="other-session-of-the-role"),
        pytest.param(
            Identity(account_id=ACCOUNT, arn=f"arn:aws:iam::{ACCOUNT}:role/team/KmsDrillRole"),
            STARTER,
            id="role-itself",
        ),
        pytest.param(
            Identity(account_id=ACCOUNT, arn=f"arn:aws:iam::{ACCOUNT}:user/ann"),
            Identity(account_id=ACCOUNT, arn=f"arn:aws:iam::{ACCOUNT}:user/ann"),
            id="same-user",
        ),
    ],
)
def test_nobody_approves_a_drill_of_their_own(settings: Settings, approver: Identity, starter: Identity) -> None:
    """Whatever the session is called."""
    with pytest.raises(NotHeldError, match="may not approve"):
        granted(approved(settings, approver), starter)


def test_people_are_told_apart_by_account_and_name() -> None:
    """The same role in another account is somebody else, and so is a user called like a role."""
    role = person(f"arn:aws:sts::{ACCOUNT}:assumed-role/Ops/x")

    assert role == f"arn:aws:iam::{ACCOUNT}:role/Ops" == person(f"arn:aws:iam::{ACCOUNT}:role/deep/path/Ops")
    assert person("arn:aws-us-gov:sts::123456789012:assumed-role/Ops/x") != role
    assert person("arn:aws:sts::210987654321:assumed-role/Ops/x") != role
    assert person(f"arn:aws:iam::{ACCOUNT}:user/Ops") != role


def test_an_approval_expires(settings: Settings) -> None:
    """At its very moment."""
    with pytest.raises(NotHeldError, match="expired at 2026-11-25 12:00"):
        granted(approved(settings), hours_later=2)


def test_an_approval_of_tomorrow_is_none_yet(settings: Settings) -> None:
    """A clock is wrong, or somebody wrote it by hand."""
    with pytest.raises(NotHeldError, match="yet to come"):
        granted(approved(settings), hours_later=-1)


def test_an_approval_is_for_one_region(settings: Settings) -> None:
    """Not for whichever."""
    path = approved(settings, region="us-west-2").approval

    assert granted(run_of(settings, region="us-west-2", approval=path))
    with pytest.raises(NotHeldError, match="is for us-west-2, not us-east-1"):
        granted(run_of(settings, approval=path))


def test_an_approval_is_for_the_drill_as_it_was(settings: Settings) -> None:
    """One more operation a second, and it is another drill."""
    run = approved(settings)
    load = run.drill.workload.model_copy(update={"operations_per_second": 99.0})

    with pytest.raises(NotHeldError, match="has been edited since"):
        granted(replace(run, drill=run.drill.model_copy(update={"workload": load})))
    with pytest.raises(NotHeldError, match="is for the drill region-blackhole, not other"):
        granted(replace(run, drill=run.drill.model_copy(update={"name": "other"})))


def test_an_approval_is_for_one_estate(settings: Settings, tmp_path: Path) -> None:
    """Staging's says nothing of production's."""
    run = approved(settings)
    other = tmp_path / "other"
    other.mkdir()
    staging = settings_of(other).model_copy(update={"estate": settings.estate.model_copy(update={"name": "staging"})})

    with pytest.raises(NotHeldError, match="estate production, not staging"):
        granted(replace(run, settings=staging))


def test_in_production_a_reason_is_needed_too(settings: Settings) -> None:
    """That somebody agreed does not say why."""
    with pytest.raises(NotHeldError, match="--reason"):
        granted(replace(approved(settings), reason=" "))


def test_without_leave_production_refuses(settings: Settings) -> None:
    """Whatever the reason; and `latest` is nothing when there is none."""
    with pytest.raises(NotHeldError, match="kms-chaos approve"):
        granted(run_of(settings))
    with pytest.raises(NotHeldError, match="there is no approval"):
        granted(run_of(settings, approval="latest"))


@pytest.mark.parametrize(
    ("more", "production"),
    [
        pytest.param("", True, id="aws"),
        pytest.param('[endpoints.us-east-1]\nkms = "https://127.0.0.1:1"', False, id="own-endpoint"),
        pytest.param(
            '[drills]\nproduction = true\n[endpoints.us-east-1]\nkms = "https://127.0.0.1:1"', True, id="said"
        ),
        pytest.param("[drills]\nproduction = false", False, id="said-not"),
    ],
)
def test_what_production_is(tmp_path: Path, more: str, *, production: bool) -> None:
    """What the file says; else where KMS is AWS's own: nobody forgets to say so there."""
    settings = settings_of(tmp_path, more)

    assert settings.drills_in_production is production
    if not production:
        assert granted(run_of(settings)).approved_by == ""


def test_elsewhere_leave_that_is_given_still_counts(tmp_path: Path) -> None:
    """A wrong one is refused, not ignored."""
    settings = settings_of(tmp_path, "[drills]\nproduction = false")

    assert granted(replace(approved(settings), reason="")).reason == "fine with me"
    with pytest.raises(NotHeldError, match="may not approve"):
        granted(approved(settings, STARTER))


def test_elsewhere_no_reason_is_needed(tmp_path: Path) -> None:
    """Though somebody's leave is shown: practice asks nobody why."""
    settings = settings_of(tmp_path, "[drills]\nproduction = false")

    assert granted(replace(approved(settings), reason=" ")).approved_by == BOSS.arn


def test_a_standing_approval_serves_the_schedule_alone(tmp_path: Path) -> None:
    """Until its last day, that day included; not for somebody who is in a hurry."""
    settings = settings_of(tmp_path, STANDING)
    run = run_of(settings, slot="failover/2026-11", reason="")

    found = granted(run, hours_later=13.9)

    assert (found.approval, found.reason, found.until_utc) == ("standing", "monthly, CHG-1", "2026-11-25")
    with pytest.raises(NotHeldError, match="has expired"):
        granted(run, hours_later=14)
    for slot in ("", "elsewhere/2026-11"):
        with pytest.raises(NotHeldError, match="kms-chaos approve"):
            granted(replace(run, slot=slot))
    with pytest.raises(NotHeldError, match="may not approve"):
        granted(run, session("Reviewer"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param('reason = "monthly', 'region = "eu-west-1"\nreason = "monthly', "only for eu-west-1", id="region"),
        pytest.param('approvals]]\ndrill = "region-blackhole"', 'approvals]]\ndrill = "x"', "there is none", id="name"),
        pytest.param('at = "03:00"', 'at = "03:00"\nenabled = false', "kms-chaos approve", id="slot-disabled"),
    ],
)  # fmt: skip
def test_a_standing_approval_of_something_else_does_not_serve(tmp_path: Path, old: str, new: str, says: str) -> None:
    """Each of its words counts."""
    settings = settings_of(tmp_path, STANDING.replace(old, new))

    with pytest.raises(NotHeldError, match=says):
        granted(run_of(settings, slot="failover/2026-11"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"schema": 2}, id="schema"),
        pytest.param({"approved_by": ""}, id="nobody"),
        pytest.param({"until_utc": "2026-11-25T12:00:00"}, id="no-zone"),
        pytest.param({"regions": None}, id="no-regions"),
        pytest.param({"until_utc": "for ever"}, id="no-time"),
    ],
)
def test_what_is_no_approval_is_none(settings: Settings, change: dict[str, Any]) -> None:
    """Damaged or written by hand: refused, and named."""
    run = approved(settings)
    path = Path(run.approval)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(ApprovalError):
        approvals.read(path)
    with pytest.raises(NotHeldError, match="cannot be used"):
        granted(run)


def test_approvals_are_no_runs(settings: Settings) -> None:
    """Their folder is beside those of runs."""
    approved(settings)

    assert folders(settings.state.dir) == ()


@pytest.mark.usefixtures("moto_aws")
def test_the_command_writes_who_and_what(tmp_path: Path) -> None:
    """As STS tells it; without a reason nothing is written."""
    config = ["--config", str(write_config(tmp_path))]
    run = CliRunner()

    done = run.invoke(cli, ["approve", "region-blackhole", "--reason", "CHG-1", "--purpose", "general", *config])
    refused = run.invoke(cli, ["approve", "region-blackhole", "--reason", " ", *config])

    assert done.exit_code == 0, done.output
    [path] = approvals.folder(tmp_path / "state").iterdir()
    found = approvals.read(path)
    assert found.approved_by.startswith("arn:aws:sts::123456789012:")
    assert (found.drill, found.regions, found.reason) == ("region-blackhole", ("us-east-1",), "CHG-1")
    assert refused.exit_code == 2


def test_a_standing_approval_of_the_region_serves_that_region_alone(tmp_path: Path) -> None:
    """The one that names it, and not another of the same drill; two regions are neither."""
    here = STANDING.replace('reason = "monthly', 'region = "us-east-1"\nreason = "monthly')
    run = run_of(settings_of(tmp_path, here), slot="failover/2026-11", reason="")

    assert granted(run).reason == "monthly, CHG-1"
    with pytest.raises(NotHeldError, match="only for us-east-1"):
        leave(
            run.settings, run.drill, ("us-east-1", "us-west-2"), STARTER, reason="", approval="", slot=run.slot,
            now_utc=NOW,
        )  # fmt: skip


def test_a_slot_of_another_drill_has_no_standing_approval(tmp_path: Path) -> None:
    """Though the drill has one of its own, for its own slot."""
    other = STANDING.replace(
        '[drills.slots.failover]\ndrill = "region-blackhole"', '[drills.slots.failover]\ndrill = "dns-failure"'
    )

    with pytest.raises(NotHeldError, match="kms-chaos approve"):
        granted(run_of(settings_of(tmp_path, other), slot="failover/2026-11"))


def test_of_several_standing_approvals_one_by_somebody_else_counts(tmp_path: Path) -> None:
    """The first of those; where all are the starter's own, the first is named."""
    more = "".join(
        f"""[[drills.standing_approvals]]
drill = "region-blackhole"
approved_by = "arn:aws:iam::{ACCOUNT}:role/{who}"
until = "2026-11-26"
reason = "{who}"
"""
        for who in ("Second", "Third")
    )
    run = run_of(settings_of(tmp_path, STANDING + more), slot="failover/2026-11", reason="")

    assert granted(run).approved_by.endswith("role/Reviewer")
    assert granted(run, session("Reviewer")).approved_by.endswith("role/Second")
    assert granted(run, hours_later=14).approved_by.endswith("role/Second")
    own = (STANDING + more).replace("role/Second", "role/Reviewer").replace("role/Third", "role/team/Reviewer")
    with pytest.raises(NotHeldError, match=rf"^arn:aws:iam::{ACCOUNT}:role/Reviewer may not approve"):
        granted(run_of(settings_of(tmp_path, own), slot="failover/2026-11", reason=""), session("Reviewer"))


def test_leave_is_told_as_it_was_given(settings: Settings, tmp_path: Path) -> None:
    """In the journal, and to people."""
    found = granted(approved(settings))
    nobodys = Leave(started_by=STARTER.arn, reason="a look")

    assert str(found) == f"started by {STARTER.arn}, approved by {BOSS.arn} ({found.approval}): CHG-1"
    assert found.to_json() == {
        "started_by": STARTER.arn,
        "approved_by": BOSS.arn,
        "reason": "CHG-1",
        "approval": found.approval,
        "until_utc": "2026-11-25T12:00:00+00:00",
    }
    assert str(nobodys) == f"started by {STARTER.arn}; not in production, so nobody need approve"


def test_in_production_the_approvers_reason_is_not_the_starters(settings: Settings) -> None:
    """Who starts it says why now."""
    with pytest.raises(NotHeldError, match="needs a reason"):
        granted(replace(approved(settings), reason=""))

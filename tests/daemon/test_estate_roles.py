"""One book of roles for all canaries: read once a round, by one of them; and the policies our roles get."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from estate_kit import role
from waiting import wait_until

from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.estate.access import Role
from kms_watchdog.estate.kms_admin import EstateError
from kms_watchdog.estate.policy import parse_policy
from kms_watchdog.estate.role_policies import Rendering, account_details, purposes_by_role, watched_roles
from kms_watchdog.estate.roles import RoleBook

MAX_AGE_SECONDS = 30.0


class Iam:
    """Roles to read; counts how often it is asked, and fails on demand."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.before: Callable[[], object] = lambda: None

    def read(self, name: str) -> Role:
        self.asked.append(name)
        self.before()
        if self.error:
            raise self.error
        return None if name == "Gone" else role(name)


def book(iam: Iam, clock: ManualClock, *names: str) -> RoleBook:
    return RoleBook(iam.read, names or ("App",), clock, max_age_seconds=MAX_AGE_SECONDS)


def test_roles_are_read_once_a_round(clock: ManualClock) -> None:
    """However many canaries look, IAM is asked once for each role until the answer is old."""
    iam = Iam()
    roles = book(iam, clock, "App", "Gone")

    answers = [roles.roles(wait_seconds=1) for _ in range(5)]
    clock.advance(MAX_AGE_SECONDS - 1)
    roles.roles(wait_seconds=1)
    asked = list(iam.asked)
    clock.advance(1)
    roles.roles(wait_seconds=1)

    assert asked == ["App", "Gone"]
    assert iam.asked == ["App", "Gone"] * 2
    assert answers[-1] == {"App": role("App"), "Gone": None}


def test_a_failure_is_kept_as_long(clock: ManualClock) -> None:
    """A silent IAM costs one look its time-out, not each of them."""
    iam = Iam()
    iam.error = EstateError("iam", "GetRole", "ConnectTimeoutError", unreachable=True)
    roles = book(iam, clock)

    for _ in range(3):
        with pytest.raises(EstateError, match="iam: GetRole: ConnectTimeoutError"):
            roles.roles(wait_seconds=1)
    iam.error = None
    clock.advance(MAX_AGE_SECONDS)

    assert iam.asked == ["App"]
    assert roles.roles(wait_seconds=1) == {"App": role("App")}


def test_who_comes_while_one_reads_waits_for_it() -> None:
    """Single flight: nobody asks twice at the same time, and all get the same answer."""
    clock, iam, go = ManualClock(), Iam(), threading.Event()
    iam.before = lambda: go.wait(30)
    roles = book(iam, clock)

    with ThreadPoolExecutor(8) as pool:
        looks = [pool.submit(roles.roles, wait_seconds=5) for _ in range(8)]
        wait_until(lambda: clock.waiting == 7, says="seven wait for the eighth")
        go.set()
        answers = [look.result(30) for look in looks]

    assert iam.asked == ["App"]
    assert all(answer is answers[0] for answer in answers)


def test_who_has_waited_long_enough_goes_without() -> None:
    """Its own deadline ends it, not the reader's."""
    clock, iam, go = ManualClock(), Iam(), threading.Event()
    iam.before = lambda: go.wait(30)
    roles = book(iam, clock)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(roles.roles, wait_seconds=5)
        wait_until(lambda: bool(iam.asked), says="the first reads")
        second = pool.submit(roles.roles, wait_seconds=5)
        wait_until(lambda: clock.waiting == 1, says="the second waits")
        clock.advance(5)
        gave_up = second.result(30)
        go.set()

        assert gave_up is None
        assert first.result(30) == {"App": role("App")}


def test_a_reader_that_crashes_leaves_nobody_waiting(clock: ManualClock) -> None:
    """The next one reads anew."""
    iam = Iam()
    iam.error = ZeroDivisionError()
    roles = book(iam, clock)

    with pytest.raises(ZeroDivisionError):
        roles.roles(wait_seconds=1)
    iam.error = None

    assert roles.roles(wait_seconds=1) == {"App": role("App")}


def test_an_answer_that_is_old_at_once_is_still_an_answer(clock: ManualClock) -> None:
    """However short the interval, who reads has what it read."""
    roles = RoleBook(Iam().read, ("App",), clock, max_age_seconds=0)

    assert roles.roles(wait_seconds=1) == {"App": role("App")}


# -- the policies of our roles ------------------------------------------------------------------------------------

USED_BY = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "eu-west-1"]
[keys.general]
alias = "alias/general"
used_by = ["Service"]
[keys.pii]
alias = "alias/pii"
used_by = ["Service", "Reports"]
[keys.payment]
alias = "alias/payment"
used_by = ["Payment"]
[state]
dir = "state"
"""
KEY_IDS = {"general": "mrk-" + "a" * 32, "pii": "mrk-" + "b" * 32, "payment": "mrk-" + "c" * 32}


@pytest.fixture
def used(write_config: Callable[..., Path]) -> Settings:
    return load(write_config(base=USED_BY))


@pytest.fixture
def details(used: Settings) -> dict[str, Any]:
    return account_details(Rendering(settings=used, key_ids=KEY_IDS))


def statements(details: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    [found] = (one for one in details["RoleDetailList"] if one["RoleName"] == name)
    [policy] = found["RolePolicyList"]
    return {one["Sid"]: one for one in policy["PolicyDocument"]["Statement"]}


def test_roles_use_the_keys_that_name_them(used: Settings) -> None:
    """`used_by` read the other way round; with the two that watch."""
    assert purposes_by_role(used) == {
        "Service": {"general", "pii"},
        "Reports": {"pii"},
        "Payment": {"payment"},
    }
    assert watched_roles(used) == ("Service", "Reports", "Payment", "KmsWatchdogRole", "KmsDrillRole")


def test_a_role_gets_its_own_keys_in_every_region_and_no_star(details: dict[str, Any]) -> None:
    """Key ARNs, because an alias authorises nothing and a star opens other accounts' messages."""
    used = statements(details, "Payment")

    assert used["UseKeysWithContext"]["Resource"] == [
        f"arn:aws:kms:us-east-1:123456789012:key/mrk-{'c' * 32}",
        f"arn:aws:kms:eu-west-1:123456789012:key/mrk-{'c' * 32}",
    ]
    assert used["UseKeysWithContext"]["Condition"] == {"Null": {"kms:EncryptionContextKeys": "false"}}
    assert len(statements(details, "Service")["DescribeKeys"]["Resource"]) == 4


@pytest.mark.parametrize("name", ["KmsWatchdogRole", "KmsDrillRole"])
def test_who_watches_opens_canaries_and_manages_nothing(details: dict[str, Any], name: str) -> None:
    """Every other context is refused, and no action changes a key, a role or an alarm's definition."""
    found = statements(details, name)
    actions = {action for one in found.values() for action in one["Action"]}

    assert found["CanaryRoundTrips"]["Condition"] == {"StringEquals": {"kms:EncryptionContext:canary": "true"}}
    changing = {action for action in actions if not action.partition(":")[2].startswith(("Get", "List", "Describe"))}
    assert changing - {"cloudwatch:SetAlarmState", "sns:Publish"} == {
        "kms:GenerateDataKey",
        "kms:Decrypt",
        "cloudwatch:PutMetricData",
    }
    assert not any("*" in action for action in actions)


def test_the_watchdog_reads_the_roles_it_judges(details: dict[str, Any]) -> None:
    """And no others."""
    found = statements(details, "KmsWatchdogRole")

    assert [arn.rpartition("/")[2] for arn in found["ObserveRoles"]["Resource"]] == [
        "Service", "Reports", "Payment", "KmsWatchdogRole", "KmsDrillRole",
    ]  # fmt: skip
    assert "iam:GetRolePolicy" in found["ObserveRoles"]["Action"]


def test_what_is_rendered_can_be_evaluated_and_trusts_our_tasks_alone(details: dict[str, Any]) -> None:
    """The product's own evaluator reads it; ECS in our own account may take the roles on."""
    for one in details["RoleDetailList"]:
        [policy] = one["RolePolicyList"]
        parse_policy(policy["PolicyDocument"])
        [trusting] = one["AssumeRolePolicyDocument"]["Statement"]
        assert trusting["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert trusting["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}


def test_who_leaves_regions_by_a_parameter_may_read_it(write_config: Callable[..., Path]) -> None:
    """`[overrides] ssm_parameter` is read by daemon and application alike; nobody of them may write it."""
    place = '[overrides]\nssm_parameter = "/kms/overrides"\nregions = ["eu-west-1"]\n'
    settings = load(write_config(place, base=USED_BY))

    details = account_details(Rendering(settings=settings, key_ids=KEY_IDS))

    for one in details["RoleDetailList"]:
        read = statements(details, one["RoleName"])["ReadOverrides"]
        assert read["Action"] == ["ssm:GetParameter"]
        assert read["Resource"] == ["arn:aws:ssm:eu-west-1:123456789012:parameter/kms/overrides"]

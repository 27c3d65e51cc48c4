"""The canaries that read the estate, as the watchdog's own role, on a local AWS that enforces every policy.

What is proved besides: the rendered policies let the watchdog do its canaries, and the application its work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from daemon_kit import REGIONS
from estate_kit import FakeReader, reader_of

from kms_core import Core
from kms_core.clock import SystemClock
from kms_local.demo.configuration import DemoFolder
from kms_local.demo.configuration import configuration as demo_configuration
from kms_local.demo.roles import hand_over_roles
from kms_local.testing import LocalAws, start_local_aws
from kms_watchdog import aws, runner
from kms_watchdog.canaries.application_access import ApplicationAccess
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings, load
from kms_watchdog.estate import provision
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.diff import canonical_policy
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.observed import KeyReader
from kms_watchdog.estate.plan import Group
from kms_watchdog.estate.roles import RoleBook, RoleReader
from kms_watchdog.results import CanaryResult, Outcome, Reason

pytestmark = pytest.mark.slow

KINDS = ("round_trip", "key_state", "replica_drift", "application_access", "headroom")
READING = KINDS[1:4]
SERVICE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"
ALL: frozenset[Group] = frozenset({"keys", "aliases", "rotation"})
BREAK_GLASS = {
    "RoleName": "KmsBreakGlassRole",
    "RolePolicyList": [
        {
            "PolicyName": "Everything",
            "PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]},
        }
    ],
}


@dataclass
class Watched:
    """An estate as it should be, and the watchdog that looks at it."""

    server: LocalAws
    settings: Settings
    core: Core
    canaries: Mapping[str, Canary]
    details: Mapping[str, Any]

    def look(self, name: str) -> CanaryResult:
        """Ask one canary; what it knows of roles is as fresh as what it reads of keys."""
        canary = self.canaries[name]
        if isinstance(canary, ApplicationAccess):
            names = [caller.role for caller in canary.callers]
            fresh = RoleBook(RoleReader(self.settings).read, names, SystemClock(), max_age_seconds=0)
            canary = replace(canary, roles=fresh)
        return runner.run(canary, self.core, SystemClock())

    def kms(self, region: str, *, role: str | None = "KmsBreakGlassRole") -> Any:
        """A client of somebody who may change keys."""
        return boto3.client("kms", **self.server.client_settings("kms", region, role=role))

    def key_id(self, purpose: str) -> str:
        found = self.core.health().keys[purpose]
        assert found is not None
        return found

    @contextmanager
    def key_policy(self, region: str, purpose: str, *more: Mapping[str, Any]) -> Iterator[None]:
        """Add statements to a key's policy in one region, inside the block."""
        kms, key_id = self.kms(region, role=None), self.key_id(purpose)
        before = kms.get_key_policy(KeyId=key_id)["Policy"]
        document = json.loads(before)
        document["Statement"] += more
        kms.put_key_policy(KeyId=key_id, Policy=json.dumps(document))
        try:
            yield
        finally:
            kms.put_key_policy(KeyId=key_id, Policy=before)

    @contextmanager
    def roles(self, *without: str, **policies: Mapping[str, Any]) -> Iterator[None]:
        """Leave roles away, or give some a further inline policy, inside the block."""
        changed = json.loads(json.dumps(self.details))
        changed["RoleDetailList"] = [one for one in changed["RoleDetailList"] if one["RoleName"] not in without]
        for one in changed["RoleDetailList"]:
            if statement := policies.get(one["RoleName"]):
                more = {"PolicyName": "More", "PolicyDocument": {"Statement": [statement]}}
                one["RolePolicyList"] = [*one.get("RolePolicyList", []), more]
        self.server.replace_roles(changed)
        try:
            yield
        finally:
            self.server.replace_roles(self.details)


def configuration(server: LocalAws, folder: DemoFolder) -> Settings:
    """Return the demo's own configuration, with these kinds of canaries."""
    text = demo_configuration(server.endpoints, folder)
    folder.configuration.write_text(text.replace("[canaries]", f"[canaries]\nkinds = {json.dumps(KINDS)}"), "utf-8")
    return load(folder.configuration)


def let_in(patch: pytest.MonkeyPatch, credentials: Mapping[str, str]) -> None:
    """Sign with these from now on."""
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        patch.setenv(name.upper(), credentials.get(name, ""))
    aws._session.cache_clear()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The demo's estate, with its policies enforced: keys as provisioned, roles as rendered."""
    folder = DemoFolder(tmp_path_factory.mktemp("watched"))
    flags = ("--enforce-policies", "--creating-seconds", "0.1")
    with (
        start_local_aws(folder.aws, flags=flags) as server,
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor(9) as pool,
        ThreadPoolExecutor(3) as keys,
    ):
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        settings, clock = configuration(server, folder), SystemClock()
        let_in(patch, server.endpoints["credentials"])
        admin = KmsAdmin(settings, clock)
        plans = provision.make_plans(desired_keys(settings), admin, pool, ALL)
        provision.apply_all(plans, admin, clock, keys=keys, regions=pool, tell=lambda _: None)
        hand_over_roles(folder)
        details = server.admin("GET", "/iam")
        details["RoleDetailList"].append(BREAK_GLASS)
        roles = server.replace_roles(details)
        let_in(patch, roles["KmsWatchdogRole"])
        with Core(settings.core_config(), clock=clock) as core:
            canaries = {canary_id(canary): canary for canary in live_canaries(Ports(settings, clock))}
            yield Watched(server, settings, core, canaries, details)
    aws._session.cache_clear()


def answer_of(found: CanaryResult) -> tuple[Outcome, Reason | None]:
    return found.outcome, found.reason


def test_as_provisioned_all_is_well_in_the_watchdogs_own_role(watched: Watched) -> None:
    """Nine of each, and a headroom for each region: the rendered policies suffice, and nothing is too much."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(watched.look, watched.canaries))

    assert [(canary.canary, canary.detail) for canary in found if canary.outcome is not Outcome.OK] == []
    assert len(found) == 4 * 9 + 3


def test_the_application_works_in_its_role_and_not_in_the_others(watched: Watched) -> None:
    """What the canary judges is what the server does."""
    service, payment = (
        watched.kms("eu-west-1", role=name) for name in ("ParkerFlightServiceRole", "ParkerFlightPaymentRole")
    )
    asked: dict[str, Any] = {
        "KeyId": watched.key_id("pii"), "KeySpec": "AES_256", "EncryptionContext": {"tenant": "x"},
    }  # fmt: skip

    assert service.generate_data_key(**asked)["KeyId"].endswith(watched.key_id("pii"))
    with pytest.raises(aws.ClientError, match="AccessDenied"):
        payment.generate_data_key(**asked)


def test_a_deny_for_the_service_role_turns_one_canary_red_while_round_trips_stay_green(watched: Watched) -> None:
    """In the region and for the key where it was planted, and nowhere else."""
    planted = {
        "Sid": "Planted",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "kms:Decrypt",
        "Resource": "*",
        "Condition": {"ArnEquals": {"aws:PrincipalArn": SERVICE}},
    }
    with watched.key_policy("us-west-2", "pii", planted):
        found = {name: watched.look(name) for name in watched.canaries if "access" in name or "round_trip" in name}

    red = {name: result for name, result in found.items() if result.outcome is not Outcome.OK}
    [(name, result)] = red.items()
    assert name == "application_access:us-west-2:pii"
    assert result.reason is Reason.ACCESS_MISSING
    assert result.detail == (
        "ParkerFlightServiceRole may not Decrypt in us-west-2: explicit deny in the resource-based policy (Planted)"
    )


def test_a_policy_that_somebody_changed_is_drift_there(watched: Watched) -> None:
    """Named, with the field's fact."""
    allows = {"Effect": "Allow", "Principal": {"AWS": SERVICE}, "Action": "kms:DescribeKey", "Resource": "*"}
    with watched.key_policy("eu-west-1", "general", allows):
        here, elsewhere = (watched.look(f"replica_drift:{region}:general") for region in ("eu-west-1", "us-east-1"))

    assert (answer_of(here), here.facts["drift_policy"]) == ((Outcome.FAILED, Reason.DRIFT), 1.0)
    assert here.detail == "policy: its key policy is not the one rendered here"
    assert elsewhere.outcome is Outcome.OK


def test_a_disabled_key(watched: Watched) -> None:
    """In its region; the others are as they were."""
    kms, key_id = watched.kms("eu-west-1"), watched.key_id("general")
    kms.disable_key(KeyId=key_id)
    try:
        state, drift = (watched.look(f"{kind}:eu-west-1:general") for kind in ("key_state", "replica_drift"))
        elsewhere = watched.look("key_state:us-west-2:general")
    finally:
        kms.enable_key(KeyId=key_id)

    assert (answer_of(state), state.detail) == ((Outcome.FAILED, Reason.KEY_UNUSABLE), f"{key_id} is Disabled")
    assert (answer_of(drift), drift.facts["drift_state"]) == ((Outcome.FAILED, Reason.DRIFT), 1.0)
    assert elsewhere.outcome is Outcome.OK


def test_a_replica_that_will_be_deleted(watched: Watched) -> None:
    """With the day on which it will be gone."""
    kms, key_id = watched.kms("us-west-2"), watched.key_id("payment")
    kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    try:
        found = watched.look("key_state:us-west-2:payment")
    finally:
        kms.cancel_key_deletion(KeyId=key_id)
        kms.enable_key(KeyId=key_id)

    assert answer_of(found) == (Outcome.FAILED, Reason.PENDING_DELETION)
    assert found.facts["deletion_timestamp"] == pytest.approx(found.started_at_utc.timestamp() + 7 * 86_400, abs=300)


def test_rotation_that_was_switched_off_shows_in_every_region(watched: Watched) -> None:
    """It is shared: replicas answer too."""
    kms, key_id = watched.kms("us-east-1"), watched.key_id("pii")
    kms.disable_key_rotation(KeyId=key_id)
    try:
        found = [watched.look(f"key_state:{region}:pii").reason for region in REGIONS]
    finally:
        kms.enable_key_rotation(KeyId=key_id)

    assert found == [Reason.ROTATION_OFF] * 3


def test_an_alias_that_was_moved_in_one_region(watched: Watched) -> None:
    """Round trips go on, by the key's id."""
    kms, alias = watched.kms("us-west-2"), "alias/parker-flight-general-production"
    kms.update_alias(AliasName=alias, TargetKeyId=watched.key_id("pii"))
    try:
        state, drift, trip = (
            watched.look(f"{kind}:us-west-2:general") for kind in ("key_state", "replica_drift", "round_trip")
        )
    finally:
        kms.update_alias(AliasName=alias, TargetKeyId=watched.key_id("general"))

    assert answer_of(state) == (Outcome.FAILED, Reason.ALIAS_WRONG)
    assert [name for name, value in drift.facts.items() if value] == ["drift_alias"]
    assert trip.outcome is Outcome.OK


def test_an_alias_that_leads_out_of_the_estate(watched: Watched) -> None:
    """To a key that the watchdog may not look at: still wrong, not unreadable."""
    kms, alias = watched.kms("us-west-2"), "alias/parker-flight-general-production"
    other = watched.kms("us-west-2", role=None).create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=alias, TargetKeyId=other)
    try:
        state, drift = (watched.look(f"{kind}:us-west-2:general") for kind in ("key_state", "replica_drift"))
    finally:
        kms.update_alias(AliasName=alias, TargetKeyId=watched.key_id("general"))

    assert answer_of(state) == (Outcome.FAILED, Reason.ALIAS_WRONG)
    assert other in state.detail
    assert [name for name, value in drift.facts.items() if value] == ["drift_alias"]


def test_an_alias_that_is_missing_in_one_region(watched: Watched) -> None:
    """KMS denies the watchdog what does not exist; the list of aliases tells."""
    kms, alias = watched.kms("eu-west-1"), "alias/parker-flight-payment-production"
    kms.delete_alias(AliasName=alias)
    try:
        state, access = (watched.look(f"{kind}:eu-west-1:payment") for kind in ("key_state", "application_access"))
    finally:
        kms.create_alias(AliasName=alias, TargetKeyId=watched.key_id("payment"))

    assert (answer_of(state), state.detail) == ((Outcome.FAILED, Reason.ALIAS_WRONG), f"{alias} does not exist")
    assert access.outcome is Outcome.OK


def test_a_role_that_is_gone(watched: Watched) -> None:
    """The application cannot run without it."""
    with watched.roles("ParkerFlightPaymentRole"):
        found = watched.look("application_access:us-east-1:payment")

    assert answer_of(found) == (Outcome.FAILED, Reason.ACCESS_MISSING)
    assert found.detail == "there is no role ParkerFlightPaymentRole"


def test_a_grant_behind_everybodys_back(watched: Watched) -> None:
    """Made while somebody had taken our Deny away; the policy is back, the grant is still there."""
    kms, key_id = watched.kms("eu-west-1"), watched.key_id("general")
    policy = kms.get_key_policy(KeyId=key_id)["Policy"]
    kept = [one for one in json.loads(policy)["Statement"] if one["Sid"] != "NoGrants"]
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps({"Version": "2012-10-17", "Statement": kept}))
    grant = kms.create_grant(KeyId=key_id, GranteePrincipal=SERVICE, Operations=["Decrypt"])["GrantId"]
    kms.put_key_policy(KeyId=key_id, Policy=policy)
    try:
        found = watched.look("application_access:eu-west-1:general")
    finally:
        kms.revoke_grant(KeyId=key_id, GrantId=grant)

    assert answer_of(found) == (Outcome.FAILED, Reason.ACCESS_EXCESS)
    assert found.detail == f"{SERVICE} may Decrypt in eu-west-1, by a grant"


def test_a_role_that_may_too_much_is_held_by_the_key_policy(watched: Watched) -> None:
    """Star for star in IAM: only where the key's own policy has a hole is it excess."""
    everything = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    with watched.roles(ParkerFlightPaymentRole=everything):
        held = watched.look("application_access:us-east-1:general")
        watchdog = watched.look("application_access:us-east-1:payment")

    assert (answer_of(held), answer_of(watchdog)) == ((Outcome.OK, None), (Outcome.OK, None)), held.detail


def test_iam_that_does_not_let_us_read_a_role_is_blind(watched: Watched) -> None:
    """Nothing is said about access that nobody could judge."""
    denied = {"Effect": "Deny", "Action": "iam:GetRolePolicy", "Resource": SERVICE}
    with watched.roles(KmsWatchdogRole=denied):
        found = watched.look("application_access:us-east-1:general")

    assert answer_of(found) == (Outcome.BLIND, Reason.UNREADABLE)
    assert found.detail == "ParkerFlightServiceRole cannot be judged: iam: GetRolePolicy: AccessDenied"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"service": "iam", "error_code": "Throttling"}, id="throttled"),
        pytest.param({"service": "iam", "status": 503}, id="unavailable"),
        pytest.param({"service": "iam", "operation": "GetRole", "truncate_at": 5}, id="half-an-answer-in-xml"),
        pytest.param({"service": "kms", "operation": "GetKeyPolicy", "status": 500}, id="kms"),
        pytest.param({"service": "kms", "operation": "ListGrants", "truncate_at": 5}, id="truncated"),
    ],
)
def test_services_that_fail_make_it_blind(watched: Watched, fault: dict[str, Any]) -> None:
    """Whichever of the questions has no answer."""
    with watched.server.fault(**fault):
        found = watched.look("application_access:us-east-1:general")

    assert answer_of(found) == (Outcome.BLIND, Reason.UNREADABLE)


@pytest.mark.parametrize("kind", READING)
def test_a_silent_region_blinds_itself_and_no_other(watched: Watched, kind: str) -> None:
    """Each canary asks its own region; IAM is another service."""
    with watched.server.fault(service="kms", region="us-west-2", status=503):
        silent, others = (
            watched.look(f"{kind}:us-west-2:general"),
            [watched.look(f"{kind}:{region}:general") for region in ("us-east-1", "eu-west-1")],
        )

    assert answer_of(silent) == (Outcome.BLIND, Reason.UNREADABLE)
    assert silent.request_id
    assert [other.outcome for other in others] == [Outcome.OK, Outcome.OK]


def test_throttling_of_the_canaries_own_questions_is_low_headroom(watched: Watched) -> None:
    """Asked once, told, and counted."""
    ports = Ports(watched.settings, SystemClock())
    canaries = {canary_id(canary): canary for canary in live_canaries(ports)}
    with watched.server.fault(service="kms", operation="DescribeKey", error_code="ThrottlingException"):
        blind = runner.run(canaries["key_state:eu-west-1:general"], watched.core, SystemClock())
    here, elsewhere = (
        runner.run(canaries[f"headroom:{region}"], watched.core, SystemClock()) for region in ("eu-west-1", "us-east-1")
    )

    assert blind.error_code == "ThrottlingException"
    assert (answer_of(here), here.facts["throttles"]) == ((Outcome.FAILED, Reason.HEADROOM_LOW), 1.0)
    assert elsewhere.outcome is Outcome.OK


@pytest.mark.parametrize("region", REGIONS)
def test_the_fake_tells_of_keys_as_kms_does(watched: Watched, region: str) -> None:
    """What the other tests of these canaries stand on."""
    [wanted] = (one for one in desired_keys(watched.settings) if one.purpose == "pii")
    key_id = watched.key_id("pii")
    real: KeyReader = KmsAdmin(watched.settings, SystemClock(), tries=1)
    fake = reader_of(wanted, region, key_id=key_id)
    fake.key_tags = wanted.tags

    missing = "mrk-" + "0" * 32
    for name in (key_id, wanted.alias):
        assert real.describe(region, name) == fake.describe(region, name)
    for reader in (real, fake):
        for name in ("alias/nobody", missing):
            with pytest.raises(EstateError, match="DescribeKey: AccessDeniedException"):
                reader.describe(region, name)
        with pytest.raises(EstateError, match="ListAliases: NotFoundException"):
            reader.aliases(region, missing)
        assert reader.alias_target(region, "alias/nobody") is None
        assert reader.alias_target(region, wanted.alias) == key_id
    assert canonical_policy(real.policy(region, key_id)) == canonical_policy(fake.policy(region, key_id))
    assert real.tags(region, key_id) == fake.tags(region, key_id)
    assert real.rotates(region, key_id) is fake.rotates(region, key_id) is True
    assert real.grants(region, key_id) == fake.grants(region, key_id) == ()
    assert real.aliases(region, key_id) == fake.aliases(region, key_id) == (wanted.alias,)
    assert isinstance(fake, FakeReader)

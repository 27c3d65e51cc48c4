"""The actions that our commands call are those in the one list, and those in the policies: by what they really ask.

Commands run in this process, each under the role that is rendered for it, against a local AWS that enforces every
policy; botocore says what it sends.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name
from daemon_kit import START
from daemon_kit import result as result_of
from evidence_kit import BUCKET, make_bucket, moto_aws
from iam_kit import Call, Recording, Stand, recorded, stand
from lease_kit import TABLE, dynamo, make_table

from kms_alarms.cli import cli as alarms
from kms_alarms.drill_lease import no_drill_in_the_estate
from kms_chaos.evidence.signing import KmsSigner
from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote
from kms_core import Core
from kms_core.clock import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws, evacuation, runner
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.elsewhere import Elsewhere
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.policy import Outcome, Policy, Request, evaluate, parse_policy
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.evidence.bucket import Bucket, S3Store
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.health import Subject
from kms_watchdog.iam import kms_actions
from kms_watchdog.iam.actions import COMMANDS, READ_EVIDENCE, READ_OVERRIDES, SIGN_EVIDENCE_BY_MAC, Runner, actions_of
from kms_watchdog.iam.estate_roles import account_details
from kms_watchdog.override_store import override_source, override_store
from kms_watchdog.receivers import receivers_of
from kms_watchdog.results import Kind
from kms_watchdog.results import Outcome as Answer
from kms_watchdog.sinks.cloudwatch_path import CloudWatchPath
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.queue import MetricQueue

__all__ = ["moto_aws", "stand"]

ROOT = Path(__file__).parents[2]
KEY_IDS = {"general": "mrk-" + "a" * 32, "pii": "mrk-" + "b" * 32, "payment": "mrk-" + "c" * 32}
ROLES = {
    Runner.APPLICATION: "ParkerFlightServiceRole",
    Runner.WATCHDOG: "KmsWatchdogRole",
    Runner.DRILL: "KmsDrillRole",
    Runner.AUDIT: "KmsAuditRole",
    Runner.PROVISIONING: "KmsProvisioningRole",
    Runner.BREAK_GLASS: "KmsBreakGlassRole",
}
EVERYTHING = f"""
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
trail_bucket = "log-archive"
[keys.general]
alias = "alias/general"
used_by = ["ParkerFlightServiceRole"]
[keys.payment]
alias = "alias/payment"
used_by = ["ParkerFlightPaymentRole"]
[state]
dir = "state"
[drills.lease]
table = "{TABLE}"
region = "us-west-2"
[drills.notify]
sns_topic_arns = ["arn:aws:sns:us-east-1:123456789012:game-days"]
[drills.evidence]
store = "s3://{BUCKET}/kms"
region = "us-east-1"
signing = {{ kind = "kms", key_id = "alias/evidence", regions = ["us-east-1"], algorithm = "ECDSA_SHA_256" }}
[cloudwatch.proof.slot]
day = 5
at = "10:00"
[overrides]
ssm_parameter = "/kms/overrides"
"""


@pytest.fixture
def everything(write_config: Callable[..., Path]) -> Settings:
    return load(write_config(base=EVERYTHING))


def allowed_to(settings: Settings, name: str) -> set[str]:
    details = account_details(Rendering(settings=settings, key_ids=KEY_IDS))
    [role] = [one for one in details["RoleDetailList"] if one["RoleName"] == name]
    documents = [policy["PolicyDocument"] for policy in role["RolePolicyList"]]
    return {action for one in documents for statement in one["Statement"] for action in statement["Action"]}


# -- the list, and the policies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("runner_", [Runner.APPLICATION, Runner.WATCHDOG, Runner.DRILL], ids=str)
def test_a_tasks_role_may_what_its_commands_call_and_nothing_else(
    everything: Settings, write_config: Callable[..., Path], runner_: Runner
) -> None:
    """The list and the rendered policy are one and the same; what signs is one kind of key or the other."""
    mac = load(write_config(base=EVERYTHING.replace("ECDSA_SHA_256", "HMAC_SHA_256"), name="mac.toml"))

    allowed = allowed_to(everything, ROLES[runner_]) | allowed_to(mac, ROLES[runner_])

    assert allowed == actions_of(runner_)


@pytest.mark.parametrize("runner_", [Runner.AUDIT, Runner.PROVISIONING, Runner.BREAK_GLASS], ids=str)
def test_a_persons_role_may_what_its_commands_call(everything: Settings, runner_: Runner) -> None:
    """And what is done by hand under it."""
    assert actions_of(runner_) <= allowed_to(everything, ROLES[runner_])


def test_who_reviews_changes_nothing(everything: Settings) -> None:
    """Every action of the role only looks; generating and simulating leave nothing behind."""
    looks = ("Get", "List", "Describe", "Lookup", "Simulate", "Validate", "GenerateServiceLastAccessedDetails")

    assert not [a for a in allowed_to(everything, "KmsAuditRole") if not a.partition(":")[2].startswith(looks)]


def test_every_command_that_asks_aws_is_in_the_list() -> None:
    """By its name on the command line."""
    lines = {one.line.partition(" (")[0] for one in COMMANDS} - {""}

    for line in lines:
        program, *words = line.split()
        group: Any = {"kms-watchdog": command, "kms-alarms": alarms}.get(program)
        for word in words if group else []:
            group = group.get_command(None, word)
            assert group is not None, line


def test_the_names_of_kms_actions_are_those_of_the_service() -> None:
    """As botocore's model has them: an operation that is new there is new here."""
    operations = botocore.session.get_session().get_service_model("kms").operation_names

    assert {*operations} - {"ReEncrypt", *kms_actions.PERMISSIONS_ONLY} <= kms_actions.OPERATIONS


# -- what the code can call ---------------------------------------------------------------------------------------

PACKAGES = ("core/kms_core", "daemon/kms_watchdog", "alarms/kms_alarms", "chaos/kms_chaos")
SERVICES = ("kms", "cloudwatch", "sns", "sts", "iam", "ssm", "dynamodb", "s3", "cloudtrail", "ec2")
OF_ANYTHING = {"close", "copy", "get_paginator", "get_waiter", "can_paginate", "exceptions", "meta"}
"""Methods of every client, and words of Python's own."""
NO_CALLS = {"publish", "sign", "verify", "encrypt", "decrypt", "subscribe", "unsubscribe"}
"""Words that are also methods of our own; the runs below record those calls."""


def methods() -> dict[str, set[str]]:
    """The services' methods in Python, to their actions."""
    found: dict[str, set[str]] = {}
    for service in SERVICES:
        model = botocore.session.get_session().get_service_model(service)
        for operation in model.operation_names:
            call = Call(service, operation, "")
            found.setdefault(xform_name(operation), set()).update(call.actions or {""})
    return {name: actions for name, actions in found.items() if name not in OF_ANYTHING | NO_CALLS}


def called_in(path: Path) -> Iterator[str]:
    """Names in a file that may be a client's method: attributes that are called or passed on, and texts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z0-9_]+", node.value):
            yield node.value


def test_the_code_calls_nothing_that_is_not_in_the_list() -> None:
    """No file of ours so much as names a method of a client whose action no command has."""
    known = {action for one in COMMANDS for action in one.actions} | {""}
    by_method = methods()

    unknown = {
        (str(path.relative_to(ROOT)), name)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in called_in(path)
        if name in by_method and not by_method[name] & known
    }

    assert sorted(unknown) == []


# -- what is asked of services that the local AWS does not have ----------------------------------------------------


@pytest.mark.usefixtures("moto_aws")
def test_drills_ask_of_lease_evidence_and_receivers_what_is_listed(everything: Settings, clock: ManualClock) -> None:
    """All that its lease, store, signatures and news can ask; with what it watches, that is its whole list."""
    dynamodb, sns = aws.client(everything, "dynamodb", "us-west-2"), aws.client(everything, "sns", "us-east-1")
    make_table(dynamodb)
    make_bucket(everything)
    sns.create_topic(Name="game-days")
    signer = signer_of(everything)

    with recorded() as calls:
        take_and_give_back(everything, clock)
        keep_and_read(everything)
        assert signer.confirms(b"message", signer.sign(b"message").signature)
        assert b"PUBLIC KEY" in signer.public_key()
        for receiver in receivers_of(everything, lambda where, why: pytest.fail(f"{where}: {why}")):
            receiver.send(Message())

    watches = listed("kms-watchdog run")
    macs = set(SIGN_EVIDENCE_BY_MAC)  # as for the other kind of key, below
    assert calls.actions | watches | macs == listed("kms-chaos run")
    assert calls.actions | macs >= listed("kms-chaos verify") | listed("kms-chaos heal")


@pytest.mark.usefixtures("moto_aws")
def test_a_key_that_makes_macs_is_asked_what_is_listed(write_config: Callable[..., Path]) -> None:
    """The other way to sign."""
    settings = load(write_config(base=EVERYTHING.replace("ECDSA_SHA_256", "HMAC_SHA_256")))

    signer = signer_of(settings, spec="HMAC_256", usage="GENERATE_VERIFY_MAC")

    with recorded() as calls:
        assert signer.confirms(b"message", signer.sign(b"message").signature)

    assert calls.actions == set(SIGN_EVIDENCE_BY_MAC)


def take_and_give_back(settings: Settings, clock: ManualClock) -> None:
    lease = dynamo(aws.client(settings, "dynamodb", "us-west-2"), clock)
    lease.acquire(Halt())
    lease.renew()
    assert lease.claim_slot("failover/2026-12")
    lease.record_fault(FaultNote(run_id="run-1", host="here", token=1, expires_at_utc=clock.now_utc()))
    lease.open_fault()
    lease.settle_fault("run-1")
    lease.finish_slot("failover/2026-12")
    lease.release()
    no_drill_in_the_estate(settings, clock)


def keep_and_read(settings: Settings) -> None:
    store = S3Store(Bucket.of(settings, f"{BUCKET}/kms"), SystemClock())
    store.check()
    store.put("run/journal", b"line")
    assert store.get("run/journal") == b"line"


@pytest.mark.usefixtures("moto_aws")
def test_what_others_left_as_evidence_is_read_by_what_is_listed(everything: Settings, clock: ManualClock) -> None:
    """A list and what was first put there: less than who writes it needs."""
    make_bucket(everything)
    store = open_store(everything, clock)
    assert store is not None
    run_id = f"{clock.now_utc():%Y%m%dT%H%M%SZ}-example"
    for name in ("journal.ndjson", "manifest.json"):
        store.put(f"runs/{run_id}/{name}", b"{}")

    with recorded() as calls:
        Elsewhere(everything, store, clock).look()

    assert calls.actions == set(READ_EVIDENCE)


def signer_of(settings: Settings, *, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> KmsSigner:
    kms, signing = aws.client(settings, "kms", "us-east-1"), settings.drills.evidence.signing
    key_id = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
    assert signing is not None
    return KmsSigner(settings, signing.model_copy(update={"key_id": key_id}))


class Message:
    subject, text = "Drill started", "{}"


@pytest.mark.usefixtures("moto_aws")
def test_leaving_a_region_asks_what_is_listed(everything: Settings) -> None:
    """The order is written and read again; the core reads it with less."""
    store, source = override_store(everything), override_source(everything)
    assert store is not None
    assert source is not None
    order = evacuation.order("us-east-1", lasts=timedelta(hours=1), reason="INC-7", by="ann", now_utc=START)

    with recorded() as writing:
        store.change(lambda found: (*found, order))
    with recorded() as reading:
        read = source.read()

    assert read == (order,)
    assert writing.actions == listed("kms-watchdog evacuate") == listed("kms-watchdog return")
    assert reading.actions == set(READ_OVERRIDES)


# -- what the commands really ask ---------------------------------------------------------------------------------


def listed(line: str) -> frozenset[str]:
    [found] = [one.actions for one in COMMANDS if one.line == line]
    return found


@pytest.mark.slow
def test_provisioning_asks_what_is_listed(stand: Stand) -> None:
    """A trail and nine keys were made under its own role; what roles and drifted policies take is not among it."""
    roles = {"iam:GetRole", "iam:GetRolePolicy", "iam:GetPolicy", "iam:GetPolicyVersion"}
    repairs = {"kms:PutKeyPolicy", "kms:UpdateKeyDescription", "kms:UntagResource"}
    reads = {"kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags"}
    trails = {"cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors"}  # there was none yet to ask about

    assert stand.calls["provision plan"].actions | roles | reads | trails == listed("kms-watchdog provision plan")
    assert stand.calls["provision apply"].actions | roles | repairs == listed("kms-watchdog provision apply")


@contextmanager
def policy_about_aliases(stand: Stand) -> Iterator[None]:
    """Give a role a further policy that is about aliases, and allows nothing: who judges it has to read them."""
    before = stand.server.admin("GET", "/iam")
    changed = json.loads(json.dumps(before))
    named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/none"}}
    statement = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": named}
    role = next(one for one in changed["RoleDetailList"] if one["RoleName"] == "ParkerFlightServiceRole")
    role["RolePolicyList"].append({"PolicyName": "More", "PolicyDocument": {"Statement": statement}})
    stand.server.replace_roles(changed)
    try:
        yield
    finally:
        stand.server.replace_roles(before)


@pytest.fixture(scope="module")
def looks(stand: Stand) -> Recording:
    """What every canary asked, in two rounds under the watchdog's own role; all of them were green."""
    stand.act_as("KmsWatchdogRole")
    settings, clock = stand.settings, SystemClock()
    settings.state.dir.mkdir(parents=True, exist_ok=True)
    ports = Ports(settings, clock, owns_state=True)
    with recorded() as calls, Core(settings.core_config(), clock=clock, on_client=calls.on_client) as core:
        canaries = live_canaries(ports)
        found = []
        for _ in range(2):  # golden messages are opened, and rotations asked for, once there are some
            with ThreadPoolExecutor(3) as pool:
                found += list(pool.map(lambda canary: runner.run(canary, core, clock), canaries))
        with policy_about_aliases(stand):
            access = next(one for one in live_canaries(Ports(settings, clock)) if one.kind == Kind.APPLICATION_ACCESS)
            found.append(runner.run(access, core, clock))
    ports.close()
    assert {canary.kind for canary in canaries} == set(Kind)
    bad = [(one.canary, one.region, one.detail) for one in found if one.outcome is not Answer.OK]
    assert bad == []
    return calls


@pytest.mark.slow
def test_alarms_are_put_by_what_is_listed(stand: Stand) -> None:
    """Under the provisioning role, from nothing: topics, alarms, a subscriber."""
    owners = {"cloudwatch:ListTagsForResource"}  # asked for alarms that are there and differ

    assert stand.calls["alarms plan"].actions | owners == listed("kms-alarms plan")
    assert stand.calls["alarms apply"].actions | owners == listed("kms-alarms apply")
    assert stand.calls["alarms subscribe"].actions == listed("kms-alarms subscribe")


@pytest.mark.slow
def test_a_proof_asks_what_is_listed(stand: Stand) -> None:
    """An alarm is set off, heard and put back under the provisioning role; only the lease is no part of this estate."""
    name = "ParkerFlight-KMS-CircuitBreakerOpen-us-east-1"

    result, calls = stand.run(
        alarms, "prove", name, "--region", "us-east-1", "--yes", "--json", role="KmsProvisioningRole"
    )

    lease, asked_back = {"dynamodb:GetItem"}, {"sns:ConfirmSubscription"}  # the local SNS confirms by itself
    assert result.exit_code == 0, result.output
    assert calls.actions | lease | asked_back == listed("kms-alarms prove")
    assert listed("kms-alarms prove") == listed("kms-alarms prove (started by the daemon)")


@pytest.mark.slow
def test_the_watchdog_asks_what_is_listed(stand: Stand, looks: Recording) -> None:
    """Every kind of canary, and what sends metrics: the list, the policy and what was asked are one and the same."""
    stand.act_as("KmsWatchdogRole")
    settings, clock = stand.settings, SystemClock()
    queue = MetricQueue(settings.state.dir / "metrics.db", clock)
    with recorded() as calls:
        subjects = [Subject(Kind.ROUND_TRIP, region, "general") for region in settings.estate.regions]
        path = CloudWatchPath(settings, subjects, queue, Exposition(), clock)
        path.sink.write(result_of(region="us-east-1", at=(clock.now_utc() - START).total_seconds()))
        path.flush(10.0)
    left = queue.length("us-east-1")
    queue.close()

    asked = looks.actions | calls.actions
    assert left == 0
    assert asked | set(READ_OVERRIDES) == listed("kms-watchdog once")
    assert listed("kms-watchdog run") == listed("kms-watchdog once") | set(READ_EVIDENCE)  # below
    assert asked == allowed_to_rendered(stand, "KmsWatchdogRole")


def allowed_to_rendered(stand: Stand, name: str) -> set[str]:
    details = account_details(Rendering(settings=stand.settings, key_ids=stand.key_ids))
    [role] = [one for one in details["RoleDetailList"] if one["RoleName"] == name]
    documents = [policy["PolicyDocument"] for policy in role["RolePolicyList"]]
    return {action for one in documents for statement in one["Statement"] for action in statement["Action"]}


@pytest.mark.slow
def test_a_review_asks_what_is_listed_and_finds_the_estate_in_order(stand: Stand) -> None:
    """`iam check` under the reviewer's role; the estate that was just rendered has nothing wrong."""
    result, calls = stand.run(command, "iam", "check", role="KmsAuditRole")
    rendered, more = stand.run(command, "iam", "render", role="KmsAuditRole")

    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "nothing wrong in 9 roles or policies and 9 key policies\n",
        "",
    )
    assert calls.actions == listed("kms-watchdog iam check")
    assert (rendered.exit_code, more.actions) == (0, listed("kms-watchdog iam render"))


@pytest.mark.slow
def test_the_application_asks_what_is_listed(stand: Stand) -> None:
    """The core under the service's role: start, seal, open."""
    stand.act_as("ParkerFlightServiceRole")
    config = stand.settings.core_config()
    own = replace(config, keys={purpose: key for purpose, key in config.keys.items() if purpose != "payment"})
    with recorded() as calls, Core(own, on_client=calls.on_client) as core:
        sealed = core.encrypt(b"x", purpose="pii", context={"tenant": "t"})
        opened = core.pinned("eu-west-1").decrypt(sealed, purpose="pii", context={"tenant": "t"})

    elsewhere = {"cloudwatch:PutMetricData", "ssm:GetParameter"}  # by observers and overrides, where there are any
    assert opened == b"x"
    assert calls.actions | elsewhere == actions_of(Runner.APPLICATION)


# -- what the watchdog's policy lets through -----------------------------------------------------------------------


@cache
def policies_of(stand: Stand, name: str) -> tuple[Any, Any]:
    details = account_details(Rendering(settings=stand.settings, key_ids=stand.key_ids))
    [role] = [one for one in details["RoleDetailList"] if one["RoleName"] == name]
    identity = [parse_policy(policy["PolicyDocument"]) for policy in role["RolePolicyList"]]
    [boundary] = [
        parse_policy(one["PolicyVersionList"][0]["Document"])
        for one in details["Policies"]
        if one["Arn"] == role["PermissionsBoundary"]["PermissionsBoundaryArn"]
    ]
    return identity, boundary


@cache
def key_policies(stand: Stand) -> Mapping[str, Policy]:
    return {key.purpose: parse_policy(key.policy, of_resource=True) for key in desired_keys(stand.settings)}


def outcome(
    stand: Stand, action: str, arn: str, context: Mapping[str, str], *, role: str = "KmsWatchdogRole"
) -> Outcome:
    """What the evaluator says of a request on a key, by the rendered policies of role and key."""
    identity, boundary = policies_of(stand, role)
    purposes = {key_id: purpose for purpose, key_id in stand.key_ids.items()}
    policy = key_policies(stand)[purposes.get(arn.rpartition("/")[2], "general")]
    asked: dict[str, str | tuple[str, ...]] = {
        f"kms:EncryptionContext:{name}": value for name, value in context.items()
    }
    if context:
        asked["kms:EncryptionContextKeys"] = tuple(context)
    request = Request(
        action=action,
        resource=arn,
        principal=f"arn:aws:iam::123456789012:role/{role}",
        session=f"arn:aws:sts::123456789012:assumed-role/{role}/any",
        context=asked,
    )
    return evaluate(request, identity=identity, resource=policy, boundary=boundary).outcome


def arns_in(stand: Stand, call: Call) -> list[str]:
    """The keys that a call to KMS may mean, as ARNs: one by its id, alias or ARN; all where it names none."""
    [region] = [name for name, url in stand.server.urls("kms").items() if call.url.startswith(url)]
    named = call.parameters.get("KeyId")
    aliases = {key.alias: stand.key_ids[purpose] for purpose, key in stand.settings.keys.items()}
    bare = str(named).rpartition("/")[2] if str(named).startswith("arn:") else aliases.get(str(named), str(named))
    ids = [bare] if named else list(stand.key_ids.values())
    return [f"arn:aws:kms:{region}:123456789012:key/{key_id}" for key_id in ids]


@pytest.mark.slow
def test_every_canary_passes_the_evaluator(stand: Stand, looks: Recording) -> None:
    """Each request that a canary made on a key, one by one, by the policies of the watchdog and of that key."""
    on_keys = [call for call in looks.calls if call.service == "kms" and call.operation != "ListAliases"]

    refused = {
        (call.operation, arn)
        for call in on_keys
        for arn in arns_in(stand, call)
        if outcome(stand, f"kms:{call.operation}", arn, call.parameters.get("EncryptionContext", {}))
        is not Outcome.ALLOWED
    }

    assert {call.operation for call in on_keys} >= {"GenerateDataKey", "Decrypt", "DescribeKey", "GetKeyPolicy"}
    assert refused == set()


CANARY, CUSTOMER = {"canary": "true"}, {"tenant": "t"}
REFUSED = [
    pytest.param("kms:Decrypt", CUSTOMER, id="open-customers-data"),
    pytest.param("kms:Decrypt", {}, id="open-without-a-context"),
    pytest.param("kms:Decrypt", {"canary": "false"}, id="open-another-canary"),
    pytest.param("kms:GenerateDataKey", CUSTOMER, id="seal-as-a-customer"),
    pytest.param("kms:Encrypt", CANARY, id="encrypt"),
    pytest.param("kms:ReEncryptFrom", CANARY, id="re-encrypt"),
    pytest.param("kms:CreateGrant", CANARY, id="grant"),
    pytest.param("kms:PutKeyPolicy", {}, id="policy"),
    pytest.param("kms:ScheduleKeyDeletion", {}, id="delete"),
    pytest.param("kms:DisableKey", {}, id="disable"),
    pytest.param("kms:DisableKeyRotation", {}, id="rotation"),
    pytest.param("kms:UpdatePrimaryRegion", {}, id="primary"),
    pytest.param("kms:ReplicateKey", {}, id="replicate"),
    pytest.param("kms:TagResource", {}, id="tag"),
]


@pytest.mark.slow
@pytest.mark.parametrize("role", ["KmsWatchdogRole", "KmsDrillRole"])
@pytest.mark.parametrize(("action", "context"), REFUSED)
def test_who_watches_does_its_canaries_and_nothing_else(
    stand: Stand, action: str, context: dict[str, str], role: str
) -> None:
    """With any of the keys, in any region; and with no other key at all."""
    for purpose in stand.settings.keys:
        for region in stand.settings.estate.regions:
            arn = f"arn:aws:kms:{region}:123456789012:key/{stand.key_ids[purpose]}"
            assert outcome(stand, action, arn, context, role=role) is not Outcome.ALLOWED
    other = f"arn:aws:kms:us-east-1:123456789012:key/mrk-{'f' * 32}"
    for own in ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"):
        assert outcome(stand, own, other, CANARY, role=role) is Outcome.NOT_ALLOWED_BY_IDENTITY


@pytest.mark.slow
def test_the_local_aws_refuses_the_watchdog_the_same(stand: Stand) -> None:
    """Asked itself, over the wire, with a ciphertext that the application made."""
    key_id = stand.key_ids["pii"]
    application, watchdog = (
        boto3.client("kms", **stand.server.client_settings("kms", "us-west-2", role=role))
        for role in ("ParkerFlightServiceRole", "KmsWatchdogRole")
    )
    blob = application.generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext=CUSTOMER)["CiphertextBlob"]

    for ask in (
        lambda: watchdog.decrypt(CiphertextBlob=blob, EncryptionContext=CUSTOMER, KeyId=key_id),
        lambda: watchdog.encrypt(Plaintext=b"x", EncryptionContext=CANARY, KeyId=key_id),
        lambda: watchdog.put_key_policy(KeyId=key_id, Policy="{}"),
        lambda: watchdog.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7),
    ):
        with pytest.raises(aws.ClientError) as caught:
            ask()
        assert aws.error_code(caught.value) == "AccessDeniedException"

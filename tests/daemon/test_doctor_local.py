"""Each cause planted on a local AWS that enforces every policy, and found by name by `kms-watchdog doctor`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from doctor_kit import Told, doctor
from ports import nobody
from tls_endpoint import certificate
from tls_kms import Rude

from kms_core import Core, SystemClock
from kms_local.demo.configuration import DemoFolder
from kms_local.demo.configuration import configuration as demo_configuration
from kms_local.demo.roles import hand_over_roles
from kms_local.testing import LocalAws, start_local_aws
from kms_watchdog import aws
from kms_watchdog.cli import command
from kms_watchdog.config import CANARY_CONTEXT, load
from kms_watchdog.doctor.diagnosis import Outcome, diagnose, given_by
from kms_watchdog.doctor.examination import Scope, Surgery, examine
from kms_watchdog.doctor.seen import Subject
from kms_watchdog.doctor.subjects import all_keys
from kms_watchdog.golden_store import GoldenMessage, VisitedGoldenStore
from kms_watchdog.state_folder import StateFolder

pytestmark = pytest.mark.slow

HOME, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
SERVICE = "arn:aws:iam::123456789012:role/ParkerFlightServiceRole"
WATCHDOG = "arn:aws:iam::123456789012:role/KmsWatchdogRole"
PII = "alias/parker-flight-pii-production"
EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
BREAK_GLASS = {
    "RoleName": "KmsBreakGlassRole",
    "RolePolicyList": [{"PolicyName": "All", "PolicyDocument": EVERYTHING}],
}


@dataclass
class Ward:
    """The demo's estate, and whoever looks at it."""

    server: LocalAws
    folder: DemoFolder
    patch: pytest.MonkeyPatch
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder.configuration

    def enter_as(self, role: str | None) -> None:
        """Let this process have the credentials of a role; None: the administrator's."""
        endpoints = self.server.endpoints
        given = endpoints["credentials"] if role is None else endpoints["roles"][role]
        self.let_in(given["aws_access_key_id"], given["aws_secret_access_key"], given.get("aws_session_token", ""))

    def let_in(self, key: str, secret: str, token: str = "") -> None:
        for name, value in (("ACCESS_KEY_ID", key), ("SECRET_ACCESS_KEY", secret), ("SESSION_TOKEN", token)):
            self.patch.setenv(f"AWS_{name}", value)
        aws._session.cache_clear()

    def kms(self, region: str, role: str | None = "KmsBreakGlassRole") -> Any:
        return boto3.client("kms", **self.server.client_settings("kms", region, role=role))

    def key_id(self, alias: str = PII) -> str:
        return str(self.kms(HOME).describe_key(KeyId=alias)["KeyMetadata"]["KeyId"])

    def other(self, name: str, *replaced: tuple[str, str]) -> Path:
        """Write a configuration that differs in some words."""
        text = self.config.read_text()
        for before, after in replaced:
            assert before in text
            text = text.replace(before, after)
        path = self.folder.path / f"{name}.toml"
        path.write_text(text)
        return path

    def url(self, region: str) -> str:
        return self.server.urls("kms")[region]

    @contextlib.contextmanager
    def key_policy(self, region: str, *more: Mapping[str, Any]) -> Iterator[None]:
        """Add statements to the policy of the pii key in one region."""
        kms, key_id = self.kms(region), self.key_id()
        before = kms.get_key_policy(KeyId=key_id)["Policy"]
        statements = [*json.loads(before)["Statement"], *more]
        kms.put_key_policy(KeyId=key_id, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        with contextlib.ExitStack() as undo:
            undo.callback(kms.put_key_policy, KeyId=key_id, Policy=before)
            yield

    @contextlib.contextmanager
    def roles(self, change: Mapping[str, Any] | None = None, *, without: Sequence[str] = ()) -> Iterator[None]:
        """Give the service role one more inline statement, or take roles away."""
        document = json.loads(json.dumps(self.details))
        document["RoleDetailList"] = [one for one in document["RoleDetailList"] if one["RoleName"] not in without]
        for one in document["RoleDetailList"]:
            if change is not None and one["RoleName"] == "ParkerFlightServiceRole":
                one["RolePolicyList"].append({"PolicyName": "More", "PolicyDocument": {"Statement": [dict(change)]}})
        self.server.replace_roles(document)
        with contextlib.ExitStack() as undo:
            undo.callback(self.server.replace_roles, self.details)
            yield


class Ahead(SystemClock):
    """The machine's clock, ten minutes ahead."""

    def now_utc(self) -> datetime:
        return super().now_utc() + timedelta(minutes=10)


def denies(principal: str, action: str = "kms:Decrypt", sid: str = "Planted") -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": action,
        "Resource": "*",
        "Condition": {"ArnEquals": {"aws:PrincipalArn": principal}},
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """As provisioned, with the roles as rendered, and a message for each key that was sealed long ago."""
    folder = DemoFolder(tmp_path_factory.mktemp("ward"))
    flags = ("--enforce-policies", "--creating-seconds", "0.1")
    with start_local_aws(folder.aws, flags=flags) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        text = demo_configuration(server.endpoints, folder)
        folder.configuration.write_text(text + "\n[core]\nslow_call_seconds = 2.4\n")  # the machine is slow at times
        ward = Ward(server, folder, patch)
        ward.enter_as(None)
        words = ["provision", "apply", "--yes", "--steps", "keys,aliases,rotation", "--config", str(ward.config)]
        assert CliRunner().invoke(command, words).exit_code == 0
        hand_over_roles(folder)
        ward.details = server.admin("GET", "/iam")
        ward.details["RoleDetailList"].append(BREAK_GLASS)
        server.replace_roles(ward.details)
        ward.enter_as("KmsWatchdogRole")
        keep_golden(ward)
        yield ward
    aws._session.cache_clear()


def keep_golden(ward: Ward) -> None:
    settings, clock = load(ward.config), SystemClock()
    settings.state.dir.mkdir()
    store = VisitedGoldenStore(StateFolder(settings.state.dir), clock)
    with Core(settings.core_config(), clock=clock) as core:
        for purpose in settings.keys:
            context = {**CANARY_CONTEXT, "kind": "golden", "purpose": purpose}
            sealed = core.encrypt(b"random", purpose=purpose, context=context)
            store.keep(
                GoldenMessage(purpose=purpose, created=1.0, sealed_in=HOME, context=context, digest=b"", message=sealed)
            )


@pytest.fixture
def ward(built: Ward, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    """The same, entered as the watchdog; what a test changes in the environment is its own."""
    built.patch = monkeypatch
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    built.enter_as("KmsWatchdogRole")
    yield built
    aws._session.cache_clear()


def only(found: Told, cause: str, where: str) -> str:
    """Assert that `cause` stands first and is in one place, and return why."""
    [(place, because)] = found.because(cause)
    assert (found.code, found.causes[0], place) == (1, cause, where)
    return because


def test_a_sound_estate_has_nothing_wrong(ward: Ward) -> None:
    """Seen as the watchdog, in every region, by dry runs alone: no plaintext was ever made."""
    before = len(ward.server.requests())

    found = doctor(ward.config)

    dry = found.lines("dry_run")
    asked = [one for one in ward.server.requests()[before:] if one["operation"] in {"GenerateDataKey", "Decrypt"}]
    assert (found.code, found.causes, found.document["untold"]) == (0, [], [])
    assert len(dry) == 9 * 2
    assert {(line["facts"]["operation"], line["code"], bool(line["request_id"])) for line in dry} == {
        ("GenerateDataKey", "", True),
        ("Decrypt", "", True),
    }
    assert {one["result"] for one in asked} == {"DryRunOperationException"}
    assert len(found.lines("access")) == 9


def test_nothing_secret_is_shown(ward: Ward) -> None:
    """Neither credentials nor the session's name nor key material, in either form."""
    given = ward.server.endpoints["roles"]["KmsWatchdogRole"]

    told = CliRunner().invoke(command, ["doctor", "--key", "pii", "--config", str(ward.config)])
    shown = told.stdout + json.dumps(doctor(ward.config, "--key", "pii").document)

    for secret in (*given.values(), "Plaintext", "CiphertextBlob", "assumed-role"):
        assert secret not in shown


def test_a_disabled_key(ward: Ward) -> None:
    """In its region, with its runbook; asked for by the guide's code it is the answer."""
    kms, key_id = ward.kms(IRELAND), ward.key_id()
    kms.disable_key(KeyId=key_id)
    try:
        found, named = doctor(ward.config), doctor(ward.config, "--code", "KMS_KEY_UNAVAILABLE", "--key", "pii")
    finally:
        kms.enable_key(KeyId=key_id)

    assert only(found, "key-disabled", f"pii {IRELAND}").startswith(f"{key_id} is Disabled (REPLICA)")
    assert found.causes == ["key-disabled"]
    assert found.document["causes"][0]["runbook"] == "alarms/runbooks/key-unusable.md"
    assert (named.causes[0], named.document["code"]["explained"]) == ("key-disabled", True)


def test_a_key_that_will_be_deleted(ward: Ward) -> None:
    """The worst of all states, and at once."""
    kms, key_id = ward.kms(WEST), ward.key_id()
    kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    try:
        found = doctor(ward.config, "--key", PII)
    finally:
        kms.cancel_key_deletion(KeyId=key_id)
        kms.enable_key(KeyId=key_id)

    assert "is PendingDeletion, deletion on" in only(found, "key-pending-deletion", f"pii {WEST}")
    assert found.document["causes"][0]["runbook"] == "alarms/runbooks/key-pending-deletion.md"


def test_a_replica_that_is_being_made(ward: Ward) -> None:
    """It passes by itself."""
    with ward.server.fault(service="kms", region=WEST, key_id=PII, key_state="Creating"):
        found = doctor(ward.config, "--key", "pii", "--code", "KMSInvalidStateException")

    only(found, "replica-creating", f"pii {WEST}")


def test_a_key_that_was_never_replicated(ward: Ward) -> None:
    """The alias of one region tells which key the others should have; it is not made anew."""
    kms = ward.kms(HOME, role=None)
    key_id = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/alone", TargetKeyId=key_id)
    config = ward.other("alone", (PII, "alias/alone"))
    ward.enter_as(None)

    found = doctor(config, "--key", "pii", "--code", "NotFoundException")

    assert {where for where, _ in found.because("replica-missing")} == {f"pii {WEST}", f"pii {IRELAND}"}
    assert {where for where, _ in found.because("alias-missing")} == {f"pii {WEST}", f"pii {IRELAND}"}
    assert (found.code, found.causes[0]) == (1, "replica-missing")


def test_an_alias_that_leads_elsewhere(ward: Ward) -> None:
    """In one region of three: that one is wrong, also when it is the primary's."""
    kms, general = ward.kms(HOME), ward.key_id("alias/parker-flight-general-production")
    key_id = ward.key_id()
    kms.update_alias(AliasName=PII, TargetKeyId=general)
    try:
        found = doctor(ward.config)
    finally:
        kms.update_alias(AliasName=PII, TargetKeyId=key_id)

    assert only(found, "alias-elsewhere", f"pii {HOME}") == f"leads to {general}"
    assert found.causes == ["alias-elsewhere"]


def test_an_alias_that_is_gone(ward: Ward) -> None:
    """The key itself is there, and is looked at all the same."""
    kms, key_id = ward.kms(IRELAND), ward.key_id()
    kms.delete_alias(AliasName=PII)
    try:
        found = doctor(ward.config)
    finally:
        kms.create_alias(AliasName=PII, TargetKeyId=key_id)

    assert only(found, "alias-missing", f"pii {IRELAND}") == f"{PII} does not exist"
    assert found.causes == ["alias-missing"]


def test_a_key_policy_that_refuses_the_application(ward: Ward) -> None:
    """Found by reading, in its region, with the statement: dry runs of the watchdog go on well."""
    with ward.key_policy(WEST, denies(SERVICE)):
        found = doctor(ward.config, "--code", "AccessDeniedException")

    assert only(found, "key-policy-refuses", f"pii {WEST}") == (
        "ParkerFlightServiceRole may not Decrypt in us-west-2: explicit deny in the resource-based policy (Planted)"
    )
    assert not any(line["code"] for line in found.lines("dry_run"))


def test_a_key_policy_that_refuses_the_watchdog_itself(ward: Ward) -> None:
    """Found by trying and by reading: one cause, two pieces of evidence."""
    with ward.key_policy(WEST, denies(WATCHDOG, "kms:GenerateDataKey")):
        found = doctor(ward.config, "--key", "pii")

    because = only(found, "key-policy-refuses", f"pii {WEST}")
    assert "AccessDeniedException: an explicit deny in a resource-based policy" in because
    assert len(found.document["causes"][0]["evidence"]) == 2


def test_a_role_whose_own_policy_refuses(ward: Ward) -> None:
    """Not the key's policy: IAM's, so in every region."""
    with ward.roles({"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}):
        found = doctor(ward.config, "--key", "pii", "--code", "AccessDeniedException")

    assert {where for where, _ in found.because("identity-policy-refuses")} == {
        f"pii {region}" for region in (HOME, WEST, IRELAND)
    }
    assert (found.code, found.causes) == (1, ["identity-policy-refuses"])


def test_a_role_that_is_not_there(ward: Ward) -> None:
    """By its name."""
    with ward.roles(without=["ParkerFlightPaymentRole"]):
        found = doctor(ward.config, "--key", "payment", "--region", HOME)

    assert only(found, "role-missing", f"payment {HOME}") == "there is no role ParkerFlightPaymentRole"


def test_an_administrator_is_kept_out_of_the_key_and_that_is_well(ward: Ward) -> None:
    """0, with a line; only to who asks why he is denied it is the cause."""
    ward.enter_as(None)

    plain = doctor(ward.config, "--key", "pii", "--region", HOME)
    asked = doctor(ward.config, "--key", "pii", "--region", HOME, "--code", "AccessDeniedException")

    assert (plain.code, plain.causes) == (0, ["not-a-user-of-the-key"])
    assert (asked.code, asked.causes) == (1, ["not-a-user-of-the-key"])


def test_who_may_not_read_could_not_tell(ward: Ward) -> None:
    """A policy that cannot be read says neither yes nor no."""
    with ward.key_policy(WEST, denies(WATCHDOG, "kms:GetKeyPolicy")):
        found = doctor(ward.config, "--key", "pii")

    [untold] = [found.document["evidence"][i] for i in found.document["untold"]]
    assert (found.code, found.causes) == (3, [])
    assert (untold["subject"], untold["region"], untold["code"]) == ("policy", WEST, "AccessDeniedException")
    assert untold["answered"] == "AccessDeniedException: an explicit deny in a resource-based policy"


def test_roles_that_iam_does_not_tell_could_not_be_judged(ward: Ward) -> None:
    """Once, however many keys wait for them; keys are tried by dry runs all the same."""
    with ward.server.fault(service="iam", error_code="ServiceUnavailable", status=503):
        found = doctor(ward.config)

    [untold] = [found.document["evidence"][i] for i in found.document["untold"]]
    assert (found.code, untold["subject"], untold["region"]) == (3, "roles", "iam")
    assert len(found.lines("dry_run")) == 9 * 2


def test_a_mistake_of_ours_is_told_and_hides_no_other_region(ward: Ward) -> None:
    """What crashes in one region is 3 there, never "nothing wrong"."""
    settings = load(ward.config)
    scope = Scope(regions=settings.estate.regions, keys=all_keys(settings.keys)[:1], access=False)
    surgery = Surgery(settings, SystemClock(), scope)
    surgery.sts[WEST] = None

    seen = examine(surgery, 30.0)
    found = diagnose(seen.lines, given_by(settings, regions=scope.regions, key_ids=seen.key_ids))

    [untold] = [seen.lines[i] for i in found.untold]
    assert (found.outcome, untold.region, untold.code) == (Outcome.COULD_NOT_TELL, WEST, "Crashed")
    assert {line.region for line in seen.lines if line.subject is Subject.DRY_RUN} == {HOME, IRELAND}


def test_a_person_is_told_in_lines(ward: Ward) -> None:
    """A line for each way, the evidence, the end."""
    told = CliRunner().invoke(command, ["doctor", "network", "--config", str(ward.config)])

    lines = told.stdout.splitlines()
    assert (told.exit_code, lines[-1]) == (0, "nothing wrong")
    assert lines[0].startswith(
        "us-east-1 (home): 127.0.0.1 (configured name) is this machine; reached, certificate good for "
    )
    assert lines[0].endswith(" questions, 0 refused by an endpoint's policy")
    assert lines[3] == "evidence"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param({"error_code": "ThrottlingException"}, "throttled", id="throttled"),
        pytest.param({"error_code": "KMSInternalException"}, "kms-fails", id="fault"),
        pytest.param({"error_code": "ExpiredTokenException"}, "credentials-expired", id="expired"),
        pytest.param(
            {"error_code": "DisabledException", "operation": "GenerateDataKey"}, "key-disabled", id="disabled"
        ),
        pytest.param({"truncate_at": 20, "operation": "DescribeKey"}, "answer-truncated", id="truncated"),
    ],
)
def test_what_one_regions_kms_answers(ward: Ward, fault: Mapping[str, Any], cause: str) -> None:
    """By the code; the other regions are told well."""
    with ward.server.fault(service="kms", region=WEST, **fault):
        found = doctor(ward.config, "--key", "pii")

    assert found.code == 1
    assert found.causes[0] == cause
    assert {one["region"] for one in found.document["causes"]} == {WEST}
    assert {line["region"] for line in found.lines("dry_run") if not line["code"]} >= {HOME, IRELAND}


def test_no_credentials_at_all(ward: Ward) -> None:
    """Nothing was asked of KMS, and the ways are told all the same."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        ward.patch.delenv(f"AWS_{name}")
    aws._session.cache_clear()

    found = doctor(ward.config)

    assert (found.code, found.causes) == (1, ["no-credentials"])
    assert [line["code"] for line in found.lines("connection")] == ["", "", ""]
    assert found.lines("alias") == []


@pytest.mark.parametrize("key", ["right", "wrong"])
def test_credentials_that_aws_does_not_know(ward: Ward, key: str) -> None:
    """A key that is nobody's, and a secret that does not fit."""
    right = ward.server.endpoints["roles"]["KmsWatchdogRole"]["aws_access_key_id"]
    ward.let_in(right if key == "right" else "AKIANOBODYNOBODYNOBO", "no-secret-of-anybody")

    found = doctor(ward.config, "--region", HOME)

    assert found.code == 1
    assert "credentials-refused" in found.causes or found.causes == ["clock-off"]


def test_credentials_that_have_expired(ward: Ward) -> None:
    """STS says so before KMS is asked."""
    with ward.server.fault(service="sts", error_code="ExpiredToken"):
        found = doctor(ward.config, "--code", "ExpiredTokenException")

    assert (found.code, found.causes, found.lines("alias")) == (1, ["credentials-expired"], [])


def test_credentials_of_another_account(ward: Ward) -> None:
    """What has the same aliases there is another estate: it is not looked at."""
    config = ward.other("account", ("123456789012", "210987654321"))

    found = doctor(config)

    assert (found.code, found.causes, found.lines("alias")) == (1, ["wrong-account"], [])
    assert found.because("wrong-account")[0][1] == "account 123456789012, role KmsWatchdogRole"


def test_sts_that_does_not_answer_hides_nothing_of_kms(ward: Ward) -> None:
    """Whose the credentials are is not known there, and everything else is."""
    config = ward.other("sts", (ward.server.urls("sts")[WEST], f"https://127.0.0.1:{nobody()}"))

    found = doctor(config, "--key", "pii")

    assert (found.code, found.causes) == (3, [])
    assert {line["region"] for line in found.lines("dry_run")} == {HOME, WEST, IRELAND}


def test_a_listener_that_is_gone(ward: Ward) -> None:
    """The region is told, and the others are told well."""
    config = ward.other("gone", (ward.url(IRELAND), f"https://127.0.0.1:{nobody()}"))

    found, ways = doctor(config), doctor(config, "network")

    assert "ConnectionRefused" in only(found, "connection-refused", IRELAND)
    assert found.causes == ["connection-refused"]
    assert {line["region"] for line in found.lines("key")} == {HOME, WEST}
    assert [way["reached"] for way in ways.document["ways"]] == [True, True, False]


def test_only_home_is_reached(ward: Ward) -> None:
    """Failover has nowhere to go (C8): `network` says it before it is needed."""
    cut = [(ward.url(region), f"https://127.0.0.1:{nobody()}") for region in (WEST, IRELAND)]

    found = doctor(ward.other("cut", *cut), "network")

    assert (found.code, found.causes) == (1, ["failover-path-closed", "connection-refused"])


def test_the_ways_of_a_sound_estate(ward: Ward) -> None:
    """Each region: where its name leads, reached, nothing refused by an endpoint's policy; 0."""
    found = doctor(ward.config, "network")

    assert (found.code, found.causes, found.document["untold"]) == (0, [], [])
    for way in found.document["ways"]:
        assert (way["reached"], way["place"], way["source"]) == (True, "this machine", "configured")
        assert way["asked"] >= 10
        assert way["refused_by_endpoint"] == 0


def test_a_region_that_takes_connections_and_says_nothing(ward: Ward) -> None:
    """The others do not wait for it longer than the deadline, and it is told."""
    silent = Rude(None)
    try:
        found = doctor(ward.other("silent", (ward.url(WEST), silent.url)), "--key", "pii")
    finally:
        silent.close()

    only(found, "connection-times-out", WEST)
    assert {line["region"] for line in found.lines("key")} == {HOME, IRELAND}


def test_a_region_that_answers_too_late(ward: Ward) -> None:
    """What it had said by then stays; what it had not is told."""
    with ward.server.fault(service="kms", region=WEST, operation="DescribeKey", latency_ms=4500):
        found = doctor(ward.config, "--key", "pii", "--deadline", "4")

    assert only(found, "no-answer-in-time", WEST).startswith("no answer within 4 s")
    assert [line["region"] for line in found.lines("connection")] == [HOME, WEST, IRELAND]
    assert WEST not in {line["region"] for line in found.lines("key")}


def test_the_wrong_certificates_are_trusted(ward: Ward, tmp_path: Path) -> None:
    """A CA bundle that is another one's, and the same named by the environment that is not there."""
    bundle = certificate(tmp_path, "elsewhere.example")
    config = ward.other("bundle", (ward.server.ca_bundle, str(bundle)))
    lines = [line for line in ward.config.read_text().splitlines() if "ca_bundle" not in line]
    unnamed = ward.folder.path / "unnamed.toml"
    unnamed.write_text("\n".join(lines))

    found = doctor(config, "--code", "SSLError")
    ward.patch.setenv("AWS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    missing = doctor(unnamed, "network")

    assert (found.code, found.causes) == (1, ["ca-bundle"])
    assert len(found.because("ca-bundle")) == 3
    assert (missing.code, missing.causes) == (1, ["ca-bundle"])
    assert "nothing.pem cannot be read" in missing.because("ca-bundle")[0][1]


def test_a_clock_that_is_wrong(ward: Ward) -> None:
    """Ten minutes ahead of what KMS's answers say."""
    settings = load(ward.config)
    scope = Scope(regions=settings.estate.regions, keys=all_keys(settings.keys)[:1], access=False)

    seen = examine(Surgery(settings, Ahead(), scope), 30.0)
    found = diagnose(seen.lines, given_by(settings, regions=scope.regions, key_ids=seen.key_ids))

    assert {finding.cause_id for finding in found.findings} == {"clock-off"}
    assert "s ahead" in found.findings[0].because


def test_a_key_by_its_id_or_arn(ward: Ward) -> None:
    """A configured one is known by where its alias leads; another one is told as such, with its state."""
    key_id = ward.key_id()
    stranger = ward.kms(HOME, role=None).create_key()["KeyMetadata"]["KeyId"]
    ward.enter_as(None)

    known = doctor(ward.config, "--key", f"arn:aws:kms:{WEST}:123456789012:key/{key_id}", "--region", HOME)
    foreign = doctor(ward.config, "--key", f"arn:aws:kms:{WEST}:210987654321:key/{key_id}", "--region", HOME)
    other = doctor(ward.config, "--key", stranger, "--region", HOME)

    assert (known.code, known.causes) == (0, ["not-a-user-of-the-key"])
    assert {line["key"] for line in known.lines("key")} == {"pii"}
    assert (foreign.code, foreign.causes[0]) == (1, "key-of-another-account")
    assert {line["key"] for line in other.lines("key")} == {stranger}
    assert other.causes == ["key-not-multi-region", "key-not-configured"]

"""What befalls the estate: keys, aliases, policies, regions; planted on the local AWS and mended by the pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping

from alarm_path import CLOCK, REGIONS, Fires, Page, Put, Situation, Stand
from alarm_path_interposed import Alter, another_key, another_refusal, no_look_at_the_context

GENERAL, PII, PAYMENT = (f"alias/parker-flight-{purpose}-production" for purpose in ("general", "pii", "payment"))
WHO = r"kms-local"
"""The local AWS's administrator, who did it all: so CloudTrail must say."""


def put(**texts: str) -> Put:
    """Return what puts in `region`, `alias`, `kind`, `last` for what is printed, and the KEY_ID of purpose `key`."""

    def of(stand: Stand) -> Mapping[str, str]:
        found = {}
        if "region" in texts:
            found["--region us-east-1"] = f"--region {texts['region']}"
        if "alias" in texts:
            found[PII] = texts["alias"]
        if "last" in texts:
            found["--since 10m"] = f"--since {texts['last']}"
        if "kind" in texts:
            found["KIND"] = texts["kind"]
        if "key" in texts:
            found["KEY_ID"] = stand.key_id(texts["key"])
        return found

    return of


def on_key(region: str, purpose: str, operation: str, **members: object) -> Callable[[Stand], None]:
    """Return what asks KMS for an operation on a purpose's key in a region."""

    def ask(stand: Stand) -> None:
        getattr(stand.client("kms", region), operation)(KeyId=stand.key_id(purpose), **members)

    return ask


def enabled(region: str, purpose: str) -> Callable[[Stand], None]:
    """Return what makes sure that a key can be used again."""

    def make_sure(stand: Stand) -> None:
        kms, key_id = stand.client("kms", region), stand.key_id(purpose)
        state = kms.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"]
        if state == "PendingDeletion":
            kms.cancel_key_deletion(KeyId=key_id)
        if state != "Enabled":
            kms.enable_key(KeyId=key_id)

    return make_sure


DISABLED = Situation(
    name="a key is disabled in one region",
    plant=on_key("eu-west-1", "payment", "disable_key"),
    fires=(
        Fires(row="KeyUnusable", labels={"region": "eu-west-1", "key": "payment"}, member=("eu-west-1", "payment")),
    ),
    pages=(
        Page(
            name="key-unusable.md",
            put=put(region="eu-west-1", alias=PAYMENT, key="payment"),
            shows=(r"key_state\teu-west-1\tpayment\t.*mrk-\w+ is Disabled", r"eu-west-1:.*\sDisabled", WHO),
            fix=("aws kms enable-key --region us-east-1",),
            over=("kms-watchdog once --canary key_state",),
        ),
    ),
    mend=enabled("eu-west-1", "payment"),
)


def _repoint(stand: Stand) -> None:
    kms = stand.client("kms", "us-west-2")
    other = kms.create_key(Description="nobody watches it")["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=PII, TargetKeyId=other)


def _point_back(stand: Stand) -> None:
    stand.client("kms", "us-west-2").update_alias(AliasName=PII, TargetKeyId=stand.key_id("pii"))


REPOINTED = Situation(
    name="an alias is repointed",
    plant=_repoint,
    fires=(
        Fires(row="AliasWrong", labels={"region": "us-west-2", "key": "pii"}),
        Fires(row="CheckFails", member=("key_state",)),
    ),
    pages=(
        Page(
            name="alias-wrong.md",
            put=put(region="us-west-2", key="pii"),
            shows=(
                rf"{PII} leads to \S+; the application uses mrk-",
                rf"us-west-2\s+{PII}\s+(?!mrk-)",
                WHO,
            ),
            fix=("aws kms update-alias",),
            over=("kms-watchdog once --canary key_state --canary golden",),
        ),
        Page(
            name="check-fails.md",
            shows=(
                r"key_state\tus-west-2\tpii\t.*alias_wrong[^\t]*\t.*leads to",
                rf"{PII} is mrk-\w+ in us-east-1, but \S+ in us-west-2",
                rf"{PII}\s+mrk-",
            ),
            over=("kms-watchdog once --canary key_state",),
        ),
    ),
    mend=_point_back,
)


def _clock(seconds: float) -> Callable[[Stand], None]:
    def set_it(stand: Stand) -> None:
        stand.kms_doors["us-east-1"].clock_ahead_seconds = seconds

    return set_it


CLOCK_OFF = Situation(
    name="KMS's clock and ours differ by a minute",
    plant=_clock(60.0),
    fires=(Fires(row="ClockOff", labels={"region": "us-east-1"}, member=("clock_offset",)),),
    pages=(
        Page(
            name="clock-off.md",
            shows=(r"clock_off", None, r"arn:aws:"),
            over=("kms-watchdog once --canary clock_offset",),
        ),
    ),
    mend=_clock(0.0),
)


DELETION = Situation(
    name="a replica's deletion is scheduled",
    plant=on_key("eu-west-1", "general", "schedule_key_deletion", PendingWindowInDays=7),
    fires=(
        Fires(row="KeyPendingDeletion", labels={"region": "eu-west-1", "key": "general"}),
        Fires(row="GoldenFails", labels={"region": "eu-west-1", "key": "general"}, member=("golden",)),
        Fires(
            row="CrossRegionFails",
            labels={"region": "us-east-1:eu-west-1", "key": "general"},
            member=("cross_region",),
        ),
        Fires(row="NoRecentSuccess", labels={"region": "us-east-1:eu-west-1", "key": "general"}),
    ),
    pages=(
        Page(
            name="no-recent-success.md",
            put=put(region="eu-west-1", alias=GENERAL, last="20s"),
            shows=(
                r"round_trip\teu-west-1\tgeneral\t.*KMSInvalidStateException",
                r"cross_region\tus-east-1:eu-west-1\tgeneral",
                r"PendingDeletion",
            ),
            over=("kms-watchdog history --since 10m --canary round_trip",),
        ),
        Page(
            name="golden-fails.md",
            put=put(alias=GENERAL),
            shows=(
                r"golden\teu-west-1\tgeneral\t.*KMSInvalidStateException",
                r"FAILED golden eu-west-1 general",
                r"eu-west-1:.*PendingDeletion",
            ),
            over=("kms-watchdog once --canary golden",),
        ),
        Page(
            name="cross-region-fails.md",
            shows=(
                r"status\t",
                r"cross_region\tus-east-1:eu-west-1\tgeneral",
                r"PendingDeletion\s.*eu-west-1.*REPLICA",
            ),
            over=("kms-watchdog once --canary cross_region",),
        ),
        Page(
            name="key-pending-deletion.md",
            put=put(region="eu-west-1", alias=GENERAL, key="general"),
            shows=(
                r"key_state\teu-west-1\tgeneral\t.*is PendingDeletion, gone at",
                r"eu-west-1:.*PendingDeletion\s.*REPLICA",
                WHO,
            ),
            fix=("aws kms cancel-key-deletion", "aws kms enable-key"),
            over=("kms-watchdog once --canary key_state --canary golden",),
        ),
    ),
    mend=enabled("eu-west-1", "general"),
)
"""The key's alarms, and those of whatever was sealed under it: before, and in another region."""


def _edit_policy(stand: Stand) -> None:
    kms, key_id = stand.client("kms", "us-west-2"), stand.key_id("pii")
    policy = kms.get_key_policy(KeyId=key_id, PolicyName="default")["Policy"]
    stand.kept["policy"] = policy
    edited = policy.replace("ParkerFlightServiceRole", "SomebodyElsesRole")
    assert edited != policy
    kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=edited)


def _policy_back(stand: Stand) -> None:
    stand.client("kms", "us-west-2").put_key_policy(
        KeyId=stand.key_id("pii"), PolicyName="default", Policy=stand.kept["policy"]
    )


POLICY = Situation(
    name="a key's policy is edited in one region",
    plant=_edit_policy,
    fires=(
        Fires(row="ReplicaDrift", labels={"region": "us-west-2", "key": "pii", "field": "policy"}, member=("pii",)),
        Fires(row="ApplicationAccess", labels={"region": "us-west-2", "key": "pii"}, member=("application_access",)),
    ),
    pages=(
        Page(
            name="application-access.md",
            put=put(region="us-west-2"),
            shows=(
                r"application_access\tus-west-2\tpii\t.*resource-based policy",
                r"FAILED application_access us-west-2 pii",
                r"kms-local\s+PutKeyPolicy",
            ),
            over=("kms-watchdog once --canary application_access",),
        ),
        Page(
            name="replica-drift.md",
            put=put(region="us-west-2", key="pii"),
            shows=(r"replica_drift\tus-west-2\tpii\t.*policy", r"! .*us-west-2.*policy", WHO),
            fix=(
                "kms-watchdog provision policies",
                "aws kms get-key-policy",
                "diff ",
                "aws kms put-key-policy",
            ),
            over=("kms-watchdog once --canary replica_drift --canary application_access",),
        ),
    ),
    mend=_policy_back,
)


_ROLE = {"RoleName": "ParkerFlightServiceRole", "PolicyName": "KmsWatchdogEstate"}
_DENIES = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}]}
_RENDERED_AND_PUT = ("kms-watchdog provision policies", "aws iam put-role-policy")


def _edit_role(stand: Stand) -> None:
    iam = stand.client("iam", "us-east-1")
    stand.kept["role"] = json.dumps(iam.get_role_policy(**_ROLE)["PolicyDocument"])
    iam.put_role_policy(**_ROLE, PolicyDocument=json.dumps(_DENIES))


def _role_back(stand: Stand) -> None:
    stand.client("iam", "us-east-1").put_role_policy(**_ROLE, PolicyDocument=stand.kept["role"])


ROLE = Situation(
    name="the application's role is edited",
    plant=_edit_role,
    fires=(
        Fires(
            row="ApplicationAccess",
            labels={"region": "eu-west-1", "key": "general"},
            member=("application_access",),
        ),
    ),
    pages=(
        Page(
            name="application-access.md",
            put=put(region="eu-west-1"),
            shows=(
                r"application_access\teu-west-1\tgeneral\t.*identity-based policy",
                r"FAILED application_access eu-west-1 general",
                None,
            ),
            fix=_RENDERED_AND_PUT,
            over=("kms-watchdog once --canary application_access",),
        ),
    ),
    mend=_role_back,
)


def _rotates(stand: Stand) -> None:
    stand.client("kms", "us-east-1").enable_key_rotation(KeyId=stand.key_id("payment"))


ROTATION = Situation(
    name="rotation is switched off on the primary",
    plant=on_key("us-east-1", "payment", "disable_key_rotation"),
    fires=(
        Fires(row="RotationOff", labels={"region": "us-east-1", "key": "payment"}),
        Fires(row="RedBelowPaging", labels={"canary": "key_state", "region": "us-east-1", "key": "payment"}),
        Fires(row="CheckFails", member=("key_state",)),
    ),
    pages=(
        Page(
            name="red-below-paging.md",
            put=put(kind="key_state"),
            shows=(r"key_state\W+us-east-1\W+payment", r"rotation_off", r"ParkerFlight-KMS-CheckFails-key_state"),
            over=("kms-watchdog once --canary KIND",),
        ),
        Page(
            name="rotation-off.md",
            put=put(alias=PAYMENT),
            shows=(r"key_state\tus-east-1\tpayment\t.*rotation_off.*its rotation is off", r"false", WHO),
            fix=("kms-watchdog provision plan --steps rotation", "kms-watchdog provision apply --steps rotation"),
            answer="local",
            over=("kms-watchdog once --canary key_state",),
        ),
    ),
    mend=_rotates,
)


def _alter(region: str, make: Callable[[Stand], Alter | None]) -> Callable[[Stand], None]:
    def interpose(stand: Stand) -> None:
        stand.kms_doors[region].alter = make(stand)

    return interpose


MISMATCH = Situation(
    name="KMS hands back another key",
    plant=_alter("eu-west-1", lambda _: another_key("pii")),
    fires=(
        Fires(
            row="PlaintextMismatch",
            labels={"canary": "round_trip", "region": "eu-west-1", "key": "pii"},
            member=("eu-west-1",),
        ),
    ),
    pages=(
        Page(
            name="plaintext-mismatch.md",
            shows=(
                r"round_trip\teu-west-1\tpii\t.*mismatch",
                r"FAILED round_trip eu-west-1 pii",
                r"kms-local\s+CreateKey",
            ),
        ),
    ),
    mend=_alter("eu-west-1", lambda _: None),
)


def _key_arn(region: str, purpose: str) -> Callable[[Stand], str]:
    return lambda stand: f"arn:aws:kms:{region}:{stand.settings.estate.account_id}:key/{stand.key_id(purpose)}"


ACCEPTED = Situation(
    name="KMS does not look at the encryption context",
    plant=_alter("us-west-2", lambda stand: no_look_at_the_context(_key_arn("us-west-2", "pii")(stand))),
    fires=(
        Fires(row="MustFailAccepted", labels={"canary": "must_fail_kms", "region": "us-west-2", "key": "pii"}),
        Fires(row="PlaintextMismatch", labels={"region": "us-west-2"}, member=("us-west-2",), system="cloudwatch"),
    ),
    pages=(
        Page(
            name="must-fail-accepted.md",
            put=put(region="us-west-2"),
            shows=(r"must_fail_kms\tus-west-2\t.*accepted_must_refuse", r"^$", r"arn:aws:kms:us-west-2"),
            fix=("kms-watchdog dump-config",),
        ),
    ),
    mend=_alter("us-west-2", lambda _: None),
)

WRONG_REFUSAL = Situation(
    name="KMS refuses a wrong context with another error than it should",
    plant=_alter("us-east-1", lambda _: another_refusal("IncorrectKeyException")),
    fires=(
        Fires(
            row="RefusalProvesNothing",
            labels={"canary": "must_fail_kms", "region": "us-east-1", "key": "pii"},
            member=("must_fail_kms",),
        ),
    ),
    pages=(
        Page(
            name="refusal-proves-nothing.md",
            shows=(
                r"must_fail_kms\tus-east-1\tpii\t.*wrong_refusal.*KMS answered IncorrectKeyException; Invalid",
                r"^$",
                r"IncorrectKeyException",
            ),
            fix=("kms-watchdog dump-config",),
        ),
    ),
    mend=_alter("us-east-1", lambda _: None),
)


def _faults(*given: Mapping[str, object]) -> Callable[[Stand], None]:
    def add(stand: Stand) -> None:
        for members in given:
            stand.fault(**members)

    return add


def _no_faults(*given: Mapping[str, object]) -> Callable[[Stand], None]:
    def end(stand: Stand) -> None:
        for members in given:
            stand.no_faults(**members)

    return end


_SLOW = {"service": "kms", "region": "us-west-2", "latency_ms": 1300}
SLOW = Situation(
    name="a region answers late",
    plant=_faults(*({**_SLOW, "operation": operation} for operation in ("GenerateDataKey", "Decrypt"))),
    fires=(
        Fires(row="HighLatency", labels={"region": "us-west-2"}, member=("us-west-2",)),
        Fires(row="CircuitBreakerOpen", labels={"region": "us-west-2"}, member=("us-west-2",)),
    ),
    pages=(
        Page(
            name="high-latency.md",
            put=lambda _: {
                "round_trip --region us-east-1": "round_trip --region us-west-2",
                "Value=us-east-1": "Value=us-west-2",
                "evacuate us-east-1": "evacuate us-west-2",
                "return us-east-1": "return us-west-2",
            },
            shows=(r"\t[23]\d\d\d\.\dms\tround_trip\tus-west-2", r'"dns', r'"p99": [23]\d\d\d'),
            fix=("kms-watchdog evacuate us-east-1 --for 1h", "kms-watchdog return us-east-1"),
            answer="us-west-2",
        ),
        Page(
            name="circuit-breaker-open.md",
            put=put(region="us-west-2"),
            shows=(r"us-west-2\s.*breaker open", r"(?s).*", r"ParkerFlight-KMS-CircuitBreakerOpen-us-west-2"),
            fix=("kms-watchdog once --canary cold_connection",),
        ),
    ),
    mend=_no_faults(_SLOW),
)

_THROTTLING = {"service": "kms", "region": "us-east-1", "operation": "GenerateDataKey", "rate": 0.5}
THROTTLED = Situation(
    name="KMS throttles every other request",
    plant=_faults({**_THROTTLING, "error_code": "ThrottlingException"}),
    fires=(Fires(row="Throttled", labels={"region": "us-east-1"}, member=("headroom",)),),
    pages=(
        Page(
            name="throttled.md",
            put=lambda _: {"--since 15m": "--since 10s"},
            shows=(
                r"headroom\tus-east-1\t.*KMS throttled \d+ of our requests",
                r'headroom_requests_per_second\{region="us-east-1"\} \d',
                None,
            ),
            fix=("aws cloudtrail lookup-events",),
            over=("kms-watchdog history --since 15m --canary headroom",),
        ),
    ),
    mend=_no_faults(_THROTTLING),
)

QUARANTINED = Situation(
    name="a replica is disabled, and the application's way goes by it",
    plant=on_key("us-east-1", "general", "disable_key"),
    fires=(Fires(row="KeyQuarantined", labels={"region": "us-east-1", "key": "general"}),),
    pages=(
        Page(
            name="key-quarantined.md",
            put=lambda stand: {"--region us-west-2": "--region us-east-1", "KEY_ARN": stand.key_id("general")},
            shows=(r"FAILED key_state us-east-1 general", r"Disabled\s", WHO),
            fix=("aws kms enable-key --region us-west-2",),
            over=("kms-watchdog once --canary key_state",),
        ),
    ),
    mend=enabled("us-east-1", "general"),
)


def _refuse_connections(stand: Stand) -> None:
    stand.kms_doors["eu-west-1"].refuse()


def _take_connections(stand: Stand) -> None:
    stand.kms_doors["eu-west-1"].listen()


CONNECTION = Situation(
    name="KMS's port refuses new connections",
    plant=_refuse_connections,
    fires=(Fires(row="ConnectionFails", labels={"region": "eu-west-1"}, member=("cold_connection",)),),
    pages=(
        Page(
            name="connection-fails.md",
            shows=(
                r"FAILED cold_connection eu-west-1 .*connect",
                r"cold_connection\teu-west-1\t.*connect",
                None,
            ),
            over=("kms-watchdog once --canary cold_connection",),
        ),
    ),
    mend=_take_connections,
)


def _ends_soon(*, soon: bool) -> Callable[[Stand], None]:
    def show(stand: Stand) -> None:
        stand.kms_doors["us-west-2"].ends_soon = soon

    return show


EXPIRY = Situation(
    name="a certificate that ends in ten days",
    plant=_ends_soon(soon=True),
    fires=(Fires(row="CertificateExpiry", labels={"region": "us-west-2"}),),
    pages=(
        Page(
            name="certificate-expiry.md",
            shows=(r'"certificate_days_left": (9|10)\b', r"OK clock_offset us-west-2", None),
        ),
    ),
    mend=_ends_soon(soon=False),
)

_MUTE = {"service": "kms", "region": "us-west-2", "operation": "DescribeKey"}
METADATA = Situation(
    name="the watchdog may not describe keys",
    plant=_faults({**_MUTE, "error_code": "AccessDeniedException"}),
    fires=(Fires(row="MetadataStale", labels={"region": "us-west-2"}),),
    pages=(
        Page(
            name="metadata-stale.md",
            put=put(region="us-west-2"),
            shows=(
                r"BLIND\t.*key_state\tus-west-2\t.*DescribeKey: AccessDeniedException",
                r"BLIND key_state us-west-2",
                r"AccessDenied",
            ),
            fix=_RENDERED_AND_PUT,
            over=("kms-watchdog once --canary key_state",),
        ),
    ),
    mend=_no_faults(_MUTE),
)

_NEW = {"service": "kms", "region": "us-west-2", "operation": "GenerateDataKey"}
UNCLASSIFIED = Situation(
    name="KMS answers with an error of another name",
    plant=_faults({**_NEW, "error_code": "SomethingNewException", "times": 4}),
    fires=(Fires(row="UnclassifiedErrors", labels={"region": "us-west-2"}),),
    pages=(
        Page(
            name="unclassified-errors.md",
            put=put(region="us-west-2"),
            shows=(
                r"kms_requests_total\{.*_OTHER.*us-west-2.*\} [1-9]",
                r"denied SomethingNewException",
                r'"errorCode":"SomethingNewException"',
            ),
        ),
    ),
    mend=_no_faults({**_NEW, "error_code": "SomethingNewException"}),
)

_LOST = {"service": "kms", "region": "us-east-1", "error_code": "KMSInternalException"}
LOST = Situation(
    name="a region is lost",
    plant=_faults(_LOST),
    fires=(
        Fires(row="RegionUnhealthy", labels={"region": "us-east-1"}),
        Fires(row="HighErrorRate", labels={"region": "us-east-1"}, member=("us-east-1",), told=False),
    ),
    pages=(
        Page(
            name="region-unhealthy.md",
            shows=(r"us-east-1\s.*down", r"round_trip\tus-east-1\t.*KMSInternalException", r"KMSInternalException"),
            fix=("kms-watchdog evacuate us-east-1", "kms-watchdog return us-east-1"),
            answer="us-east-1",
        ),
        Page(
            name="high-error-rate.md",
            shows=(r"us-east-1\s.*breaker open", r"round_trip\tus-east-1\t.*KMSInternalException", r"KMSInternal"),
            over=("kms-watchdog once --canary round_trip",),
        ),
    ),
    mend=_no_faults(_LOST),
)

_EXPIRED = {"service": "kms", "region": "us-west-2", "error_code": "ExpiredTokenException"}
BLIND = Situation(
    name="the watchdog's credentials are refused in one region",
    plant=_faults(_EXPIRED),
    fires=(Fires(row="CanaryBlind", labels={"region": "us-west-2"}, member=("us-west-2",), told=False),),
    pages=(
        Page(
            name="canary-blind.md",
            shows=(
                r"BLIND\t.*round_trip\tus-west-2\t.*no_credentials ExpiredTokenException",
                r"BLIND round_trip us-west-2",
                r"arn:aws:iam::123456789012:",
            ),
            fix=_RENDERED_AND_PUT,
            over=("kms-watchdog once",),
        ),
    ),
    mend=_no_faults(_EXPIRED),
)

_DARK = tuple({"service": "kms", "region": region, "error_code": "KMSInternalException"} for region in REGIONS)
DARK = Situation(
    name="all regions are lost",
    plant=_faults(*_DARK),
    fires=(
        Fires(row="TwoRegionsDown"),
        Fires(row="KeyUsableNowhere"),
        Fires(row="StaleDataKeysUsed"),
        Fires(row="FailoverPathFails", labels={"key": "general"}, member=("failover_path",)),
        Fires(row="WatchdogHeartbeat", silence=True),
    ),
    pages=(
        Page(
            name="watchdog-heartbeat.md",
            shows=(r"us-east-1\s.*down", r"round_trip\tus-east-1\t", r"ParkerFlight-KMS-HighErrorRate-us-east-1"),
            fix=("kms-alarms render --format prometheus",),
            over=("kms-watchdog status",),
        ),
        Page(
            name="two-regions-down.md",
            shows=(r"us-west-2\s.*down", r"round_trip\teu-west-1\t.*KMSInternalException", r"KMSInternalException"),
        ),
        Page(
            name="key-usable-nowhere.md",
            shows=(r"key_usable_nowhere:pii", r"round_trip\t.*\tpii\t", r"KMSInternalException"),
            over=("kms-watchdog once --canary round_trip",),
        ),
        Page(
            name="stale-data-keys-used.md",
            shows=(r"down", r"stale_data_key_uses_total\{.*\} [1-9]", r"KMSInternalException"),
        ),
        Page(
            name="failover-path-fails.md",
            shows=(r"us-east-1\s.*down", r"failover_path\t.*\tgeneral\t", r"KMSInternalException"),
        ),
    ),
    mend=_no_faults(*_DARK),
)

_FLAPS = {"service": "kms", "region": "eu-west-1", "error_code": "KMSInternalException", "seconds": 2.5}


def _flap(stand: Stand) -> None:
    """Have the region come and go, in a rhythm that is not the canaries' own, until somebody ends it."""
    stand.kept["flapping"] = "yes"

    def come_and_go() -> None:
        never = threading.Event()
        while stand.kept.get("flapping"):
            stand.fault(**_FLAPS)
            CLOCK.wait(never, 7.0)

    threading.Thread(target=come_and_go, daemon=True).start()


def _steady(stand: Stand) -> None:
    stand.kept.pop("flapping", None)


FLAPPING = Situation(
    name="a region comes and goes",
    plant=_flap,
    fires=(Fires(row="CircuitBreakerFlapping", labels={"region": "eu-west-1"}),),
    pages=(
        Page(
            name="circuit-breaker-flapping.md",
            put=lambda _: {
                "--region us-east-1": "--region eu-west-1",
                "CircuitBreakerOpen-us-east-1": "CircuitBreakerOpen-eu-west-1",
                "evacuate us-east-1": "evacuate eu-west-1",
                "return us-east-1": "return eu-west-1",
                "--since 15m": "--since 20s",
            },
            shows=(r"round_trip\teu-west-1\t", r"cold_connection eu-west-1", r"OK"),
            fix=("kms-watchdog evacuate us-east-1", "kms-watchdog return us-east-1"),
            answer="eu-west-1",
            over=("kms-watchdog history --since 15m --region us-east-1 --canary round_trip",),
        ),
    ),
    mend=_steady,
)

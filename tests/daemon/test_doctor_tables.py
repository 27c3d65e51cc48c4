"""The doctor's tables are whole, and each line of evidence means what it should: no AWS, no sockets."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import HOME, IRELAND, KEY_ID, WEST, given, seen

from kms_core import errors, taxonomy
from kms_core.errors import KmsCoreError, Step
from kms_watchdog.canaries.finding import CREDENTIAL_CODES, THROTTLING_CODES, TIMEOUT_CODES
from kms_watchdog.config import Key
from kms_watchdog.doctor import codes, report, ways
from kms_watchdog.doctor.addresses import Place, is_own_name, place, region_in
from kms_watchdog.doctor.causes import CAUSES, RANK, CauseId
from kms_watchdog.doctor.codes import TABLES, find, what_the_core_does
from kms_watchdog.doctor.diagnosis import Diagnosis, Outcome, diagnose
from kms_watchdog.doctor.examination import most_likely, role_in
from kms_watchdog.doctor.refusal import PolicyKind, cause_of, refusal
from kms_watchdog.doctor.seen import LATE, NO_CA_BUNDLE, NOT_ASKED, Seen, Subject
from kms_watchdog.doctor.subjects import NoSuchKeyError, Wanted, key_named, purpose_of
from kms_watchdog.results import Reason

ROOT = Path(__file__).parents[2]
CORE_ERRORS = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KmsCoreError)]


def ids(found: Diagnosis) -> list[CauseId]:
    return [finding.cause_id for finding in found.findings]


# -- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted({*taxonomy.TABLE, *CREDENTIAL_CODES, *THROTTLING_CODES, *TIMEOUT_CODES}))
def test_every_code_of_the_core_has_an_entry(code: str) -> None:
    """And says what it may come from."""
    assert find(code).name == code
    assert find(code).causes


@pytest.mark.parametrize("name", [*CORE_ERRORS, *Step, *Reason, codes.GUIDES_CODE])
def test_every_exception_step_and_reason_has_an_entry(name: str) -> None:
    """Whatever stands in our logs can be asked about; the exception above all others says nothing."""
    assert find(name).name == name
    assert find(name).nearest == ""
    assert bool(find(name).causes) == (name != KmsCoreError.__name__)


def test_every_cause_has_its_row() -> None:
    """And no row is left over."""
    assert set(CAUSES) == set(CauseId)
    assert [*RANK] == [*CauseId]


@pytest.mark.parametrize("page", sorted({cause.page for cause in CAUSES.values()} | set(codes._PAGES.values())))
def test_every_runbook_exists(page: str) -> None:
    """Under the path that is shown."""
    assert (ROOT / "alarms/runbooks" / page).is_file()
    assert any(cause.runbook == f"alarms/runbooks/{page}" for cause in CAUSES.values()) or page in codes._PAGES.values()


def test_what_no_look_finds_is_told_by_some_code() -> None:
    """Nothing in the table is there for nobody."""
    told = {cause for causes in TABLES.values() for cause in causes}

    assert {cause for cause, row in CAUSES.items() if not row.seen} <= told | {CauseId.NOT_IN_THE_TABLE}


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("accessdeniedexception", "AccessDeniedException"),
        ("com.amazonaws.kms#DisabledException", "DisabledException"),
        ("kms_core.errors.KmsDeniedError", "KmsDeniedError"),
        ("kms_key_unavailable", "KMS_KEY_UNAVAILABLE"),
        (" HEADER TAG ", "header tag"),
    ],
)
def test_a_code_is_found_however_it_stands_in_a_log(asked: str, name: str) -> None:
    """With its service before it, and in whatever letters."""
    assert find(asked).name == name


def test_a_code_that_nobody_knows_is_told_so_with_the_nearest() -> None:
    """It is looked at all the same: AWS may have a new one."""
    misspelt, strange = find("AccesDeniedExeption"), find("QuuxFault")

    assert (misspelt.nearest, strange.nearest) == ("AccessDeniedException", "")
    assert misspelt.causes == strange.causes == (CauseId.NOT_IN_THE_TABLE,)


def test_what_the_core_does_is_told_from_its_own_table() -> None:
    """Row by row."""
    assert what_the_core_does("DisabledException") == (
        "asks the next region, but for a strict key (payment); does not count it against the region; "
        "leaves the key out in that region for a while; ends as KmsDeniedError"
    )
    assert what_the_core_does("ThrottlingException").startswith("asks the same region once more; asks one other region")
    assert what_the_core_does("QuuxFault") == ""


# -- which policy refuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "cause"),
    [
        ("no identity-based policy allows the kms:Decrypt action", PolicyKind.IDENTITY, "identity-policy-refuses"),
        ("an explicit deny in an identity-based policy", PolicyKind.IDENTITY, "identity-policy-refuses"),
        ("no resource-based policy allows the kms:Decrypt action", PolicyKind.RESOURCE, "key-policy-refuses"),
        ("an explicit deny in a resource-based policy", PolicyKind.RESOURCE, "key-policy-refuses"),
        ("no VPC endpoint policy allows the kms:Decrypt action", PolicyKind.ENDPOINT, "endpoint-policy-refuses"),
        ("an explicit deny in a VPC endpoint policy", PolicyKind.ENDPOINT, "endpoint-policy-refuses"),
        ("no permissions boundary allows the kms:Decrypt action", PolicyKind.BOUNDARY, "boundary-refuses"),
        ("an explicit deny in a service control policy", PolicyKind.SERVICE_CONTROL, "organization-refuses"),
        ("an explicit deny in a resource control policy", PolicyKind.RESOURCE_CONTROL, "organization-refuses"),
        ("no session policy allows the kms:Decrypt action", PolicyKind.SESSION, "session-policy-refuses"),
        ("User: x is not authorized to perform: kms:Decrypt", None, "access-refused"),
    ],
)
def test_awss_words_name_the_policy(words: str, kind: PolicyKind | None, cause: str) -> None:
    """As in IAM's guide, "Troubleshoot access denied error messages"."""
    found = refusal(words)

    assert (found.kind, str(cause_of(found.kind))) == (kind, cause)
    assert found.explicit == ("explicit deny" in words)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "where"),
    [
        (["10.1.2.3"], Place.PRIVATE),
        (["172.31.0.9", "192.168.1.1"], Place.PRIVATE),
        (["172.32.0.9"], Place.PUBLIC),
        (["fd12::1", "100.64.0.1"], Place.PRIVATE),
        (["fe80::1%eth0"], Place.PRIVATE),
        (["52.94.1.1", "2600::1"], Place.PUBLIC),
        (["10.0.0.1", "52.94.1.1"], Place.MIXED),
        (["127.0.0.1", "::1"], Place.HERE),
        ([], Place.NOWHERE),
    ],
)
def test_addresses_are_private_or_public(addresses: list[str], where: Place) -> None:
    """RFC 1918, 4193 and 6598 are a VPC's; the rest is the internet's."""
    assert place(addresses) is where


@pytest.mark.parametrize(
    ("host", "own", "region"),
    [
        ("kms.us-east-1.amazonaws.com", True, "us-east-1"),
        ("kms-fips.us-west-2.amazonaws.com", True, "us-west-2"),
        ("kms.cn-north-1.amazonaws.com.cn", True, "cn-north-1"),
        ("kms.eu-west-1.api.aws", True, "eu-west-1"),
        ("vpce-0a1b-2c.kms.eu-west-1.vpce.amazonaws.com", False, "eu-west-1"),
        ("kms.example.com", False, None),
        ("127.0.0.1", False, None),
    ],
)
def test_awss_own_names_say_their_region(host: str, own: bool, region: str | None) -> None:  # noqa: FBT001
    """So does a VPC endpoint's; nobody else's does."""
    assert (is_own_name(host), region_in(host)) == (own, region)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("pii", Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID)),
        ("alias/x-pii", Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID)),
        ("x-pii", Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID)),
        (KEY_ID, Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID)),
        (
            f"arn:aws:kms:eu-west-1:123456789012:key/{KEY_ID}",
            Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID, account_id="123456789012"),
        ),
        (
            "arn:aws:kms:eu-west-1:210987654321:alias/x-pii",
            Wanted(purpose="pii", alias="alias/x-pii", key_id=KEY_ID, account_id="210987654321"),
        ),
        ("mrk-" + "7" * 32, Wanted(purpose="general", alias="alias/x-general")),
        ("alias/other", Wanted(purpose="alias/other", alias="alias/other", configured=False)),
        ("mrk-" + "9" * 32, Wanted(purpose="mrk-" + "9" * 32, key_id="mrk-" + "9" * 32, configured=False)),
    ],
)
def test_a_key_is_named_in_any_way(asked: str, wanted: Wanted) -> None:
    """By purpose, alias, id or ARN; an id may be known from old messages alone."""
    keys = {"general": Key(alias="alias/x-general"), "pii": Key(alias="alias/x-pii", key_id=KEY_ID)}

    assert key_named(asked, keys, {"general": "mrk-" + "7" * 32}) == wanted


@pytest.mark.parametrize(("asked", "meant"), [("pij", "did you mean pii?"), ("???", "a purpose (pii), alias/NAME")])
def test_what_names_no_key_is_refused(asked: str, meant: str) -> None:
    """With what would."""
    with pytest.raises(NoSuchKeyError, match=meant.replace("?", r"\?").replace("(", r"\(").replace(")", r"\)")):
        key_named(asked, {"pii": Key(alias="alias/x-pii")}, {})


def test_an_id_that_an_alias_leads_to_is_of_that_purpose() -> None:
    """Known only after looking."""
    unknown = Wanted(purpose=KEY_ID, key_id=KEY_ID, configured=False)

    assert purpose_of(unknown, {"pii": KEY_ID, KEY_ID: KEY_ID}) == "pii"
    assert purpose_of(unknown, {"pii": "mrk-2", KEY_ID: KEY_ID}) == KEY_ID


@pytest.mark.parametrize(
    ("targets", "sealed", "key_id"),
    [
        ({HOME: "a", WEST: "a", IRELAND: "b"}, "", "a"),
        ({HOME: "b", WEST: "a", IRELAND: "a"}, "", "a"),
        ({HOME: "b", WEST: "a"}, "", "b"),
        ({HOME: "b", WEST: "a"}, "a", "a"),
        ({HOME: "b", WEST: "b"}, "a", "b"),
        ({WEST: "a"}, "", "a"),
        ({}, "a", "a"),
        ({}, "", ""),
    ],
)
def test_which_key_it_should_be(targets: dict[str, str], sealed: str, key_id: str) -> None:
    """What most regions say; between equals what old messages say, then the primary region."""
    assert most_likely(targets, HOME, sealed) == key_id


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        ("arn:aws:sts::123456789012:assumed-role/KmsWatchdogRole/task-1", "KmsWatchdogRole"),
        ("arn:aws:iam::123456789012:user/assumed-role/x", ""),
        ("arn:aws:iam::123456789012:root", ""),
    ],
)
def test_the_role_of_a_session(arn: str, role: str) -> None:
    """Without the session's name, which is somebody's."""
    assert role_in(arn) == role


# -- evidence to causes ----------------------------------------------------------------------------------------------

CASES: list[Any] = [
    pytest.param(
        seen(Subject.NAME, WEST, host="kms.us-east-1.amazonaws.com"), "endpoint-of-another-region", id="endpoint"
    ),
    pytest.param(seen(Subject.NAME, code="DnsFailure", host="kms.x"), "name-unknown", id="dns"),
    pytest.param(seen(Subject.CONNECTION, certificate_days_left=3.0), "certificate-ends", id="certificate-ends"),
    pytest.param(seen(Subject.CONNECTION, code=NO_CA_BUNDLE), "ca-bundle", id="no-bundle"),
    pytest.param(seen(Subject.CONNECTION, code="DnsFailure", step="dns"), "name-unknown", id="dns-step"),
    pytest.param(seen(Subject.CONNECTION, code="ConnectionRefused", step="tcp"), "connection-refused", id="refused"),
    pytest.param(
        seen(Subject.CONNECTION, code="ConnectTimeout", step="tcp", timed_out=True),
        "connection-times-out",
        id="timeout",
    ),
    pytest.param(seen(Subject.CONNECTION, code="ENETUNREACH", step="tcp"), "connection-times-out", id="no-route"),
    pytest.param(seen(Subject.CONNECTION, code="Proxy403", step="tcp"), "proxy-refuses", id="proxy"),
    pytest.param(seen(Subject.CONNECTION, code="ConnectionReset", step="tls"), "connection-breaks", id="reset"),
    pytest.param(
        seen(Subject.CONNECTION, code="TlsError", step="tls", detail="self-signed certificate"),
        "ca-bundle",
        id="authority",
    ),
    pytest.param(
        seen(
            Subject.CONNECTION,
            code="TlsError",
            step="tls",
            detail="Hostname mismatch, certificate is not valid for 'x'.",
        ),
        "certificate-name",
        id="name",
    ),
    pytest.param(
        seen(Subject.CONNECTION, code="TlsError", step="tls", detail="certificate has expired", outside_validity=True),
        "certificate-expired",
        id="expired",
    ),
    pytest.param(
        seen(Subject.CONNECTION, code="TlsError", step="tls", detail="WRONG_VERSION_NUMBER"), "tls-fails", id="no-tls"
    ),
    pytest.param(seen(Subject.CLOCK, at_least_seconds=31.0), "clock-off", id="clock"),
    pytest.param(seen(Subject.IDENTITY, account_id="210987654321"), "wrong-account", id="account"),
    pytest.param(seen(Subject.IDENTITY, code="NoCredentialsError"), "no-credentials", id="none"),
    pytest.param(seen(Subject.IDENTITY, code="ExpiredToken"), "credentials-expired", id="expired-token"),
    pytest.param(seen(Subject.IDENTITY, code="InvalidClientTokenId"), "credentials-refused", id="unknown-key"),
    pytest.param(seen(Subject.ALIAS, code="CredentialRetrievalError"), "credentials-not-given", id="not-given"),
    pytest.param(seen(Subject.ALIAS, code="RequestExpired"), "clock-off", id="request-expired"),
    pytest.param(seen(Subject.ALIAS, purpose="pii", target="mrk-2"), "alias-elsewhere", id="elsewhere"),
    pytest.param(
        seen(Subject.ALIAS, purpose="pii", target=KEY_ID, account_id="210987654321"),
        "key-of-another-account",
        id="foreign",
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="Disabled", multi_region_type="REPLICA"), "key-disabled", id="disabled"
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="PendingDeletion", multi_region_type="REPLICA"),
        "key-pending-deletion",
        id="deletion",
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="PendingReplicaDeletion", multi_region_type="PRIMARY"),
        "key-pending-deletion",
        id="replica-deletion",
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="Creating", multi_region_type="REPLICA"),
        "replica-creating",
        id="creating",
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="Unavailable", multi_region_type="REPLICA"), "key-state", id="state"
    ),
    pytest.param(
        seen(Subject.KEY, purpose="pii", state="Enabled", multi_region_type=""), "key-not-multi-region", id="one-region"
    ),
    pytest.param(seen(Subject.KEY, code="KMSInternalException"), "kms-fails", id="fault"),
    pytest.param(seen(Subject.KEY, code="ThrottlingException"), "throttled", id="throttled"),
    pytest.param(seen(Subject.POLICY, code="Truncated"), "answer-truncated", id="truncated"),
    pytest.param(seen(Subject.ALIAS, code="ReadTimeoutError"), "connection-times-out", id="read-timeout"),
    pytest.param(
        seen(Subject.ALIAS, code="AccessDeniedException", refused_by="VPC endpoint policy"),
        "endpoint-policy-refuses",
        id="endpoint-policy",
    ),
    pytest.param(
        seen(Subject.DRY_RUN, code="AccessDeniedException", expected=True, refused_by="resource-based policy"),
        "key-policy-refuses",
        id="key-policy",
    ),
    pytest.param(
        seen(Subject.DRY_RUN, code="AccessDeniedException", expected=True, refused_by=""), "access-refused", id="denied"
    ),
    pytest.param(
        seen(Subject.DRY_RUN, code="DisabledException", expected=False), "key-disabled", id="dry-run-disabled"
    ),
    pytest.param(seen(Subject.DRY_RUN, seconds=1.5), "slow", id="slow"),
    pytest.param(
        seen(Subject.ACCESS, code="AccessMissing", wrong="missing", refused_by="identity-based policy"),
        "identity-policy-refuses",
        id="identity-policy",
    ),
    pytest.param(
        seen(Subject.ACCESS, code="AccessMissing", wrong="missing", refused_by=""), "role-missing", id="no-role"
    ),
    pytest.param(
        seen(Subject.ACCESS, code="AccessExcess", wrong="excess", refused_by=""), "access-excess", id="excess"
    ),
    pytest.param(seen(Subject.REGION, code=LATE), "no-answer-in-time", id="late"),
]


@pytest.mark.parametrize(("line", "cause"), CASES)
def test_one_line_is_one_cause(line: Seen, cause: str) -> None:
    """By name, with the line as its evidence, and exit code 1."""
    found = diagnose([line], given(every_region=False))

    assert ids(found) == [cause]
    assert (found.findings[0].evidence, found.outcome, found.untold) == ((0,), Outcome.CAUSE_FOUND, ())


GOOD_LINES = [
    seen(Subject.NAME, host="kms.us-east-1.amazonaws.com"),
    seen(Subject.CONNECTION, certificate_days_left=200.0),
    seen(Subject.CLOCK, at_least_seconds=1.0),
    seen(Subject.IDENTITY, account_id="123456789012"),
    seen(Subject.ALIAS, purpose="pii", target=KEY_ID, account_id="123456789012"),
    seen(Subject.KEY, purpose="pii", state="Enabled", multi_region_type="PRIMARY", account_id="123456789012"),
    seen(Subject.KEY, purpose="pii", state="Updating", multi_region_type="PRIMARY", account_id="123456789012"),
    seen(Subject.DRY_RUN, purpose="pii", seconds=0.9),
    seen(Subject.ACCESS, purpose="pii"),
    seen(Subject.POLICY, purpose="pii"),
    seen(Subject.ROLES, "iam"),
]


def test_what_is_well_is_no_cause() -> None:
    """Exit code 0."""
    found = diagnose(GOOD_LINES, given())

    assert (ids(found), found.untold, found.outcome) == ([], (), Outcome.NOTHING_WRONG)


@pytest.mark.parametrize(
    "line",
    [
        seen(Subject.ALIAS, code="AccessDeniedException", refused_by="identity-based policy"),
        seen(Subject.ROLES, "iam", code="EndpointConnectionError"),
        seen(Subject.IDENTITY, code="EndpointConnectionError"),
        seen(Subject.ACCESS, code="Unreadable", wrong="unreadable"),
        seen(Subject.CONNECTION, code="EMFILE", step="dns", ours=True),
        seen(Subject.POLICY, code="PolicyError"),
        seen(Subject.REGION, code="Crashed"),
        seen(Subject.CLOCK, code="Truncated"),
        seen(Subject.REGION, code=NOT_ASKED),
    ],
    ids=lambda line: f"{line.subject}-{line.code}",
)
def test_who_may_not_look_could_not_tell(line: Seen) -> None:
    """Silence is never health: 3, with the line named; and no cause is made up."""
    found = diagnose([*GOOD_LINES, line], given())

    assert (ids(found), found.outcome, found.untold) == ([], Outcome.COULD_NOT_TELL, (len(GOOD_LINES),))


@pytest.mark.parametrize(
    ("code", "state", "cause"),
    [
        ("KMSInvalidStateException", "Creating", "replica-creating"),
        ("KMSInvalidStateException", "PendingDeletion", "key-pending-deletion"),
        ("DisabledException", "PendingDeletion", "key-pending-deletion"),
        ("NotFoundException", "missing", "replica-missing"),
        ("KMSInvalidStateException", "", "key-state"),
    ],
)
def test_a_state_that_was_read_says_more_than_an_error_for_it(code: str, state: str, cause: str) -> None:
    """KMS has one code for several states, and two for one: both lines are evidence of one cause."""
    key = seen(Subject.KEY, WEST, purpose="pii", state=state, multi_region_type="REPLICA")
    lines = [seen(Subject.DRY_RUN, WEST, purpose="pii", code=code), *([key] if state else [])]

    found = diagnose(lines, given(every_region=False))

    assert ids(found) == [cause]
    assert found.findings[0].evidence == tuple(range(len(lines)))


def test_what_was_left_out_because_of_an_error_is_not_told_twice() -> None:
    """The error is; that nothing more was asked follows from it."""
    lines = [seen(Subject.CONNECTION, code="ConnectionRefused", step="tcp"), seen(Subject.REGION, code=NOT_ASKED)]

    assert diagnose(lines, given()).untold == ()


def test_the_nearest_to_the_root_comes_first() -> None:
    """A wrong clock is why signatures are refused; a missing key is why its alias is."""
    lines = [
        seen(Subject.ALIAS, code="InvalidClientTokenId"),
        seen(Subject.KEY, WEST, purpose="pii", state="Disabled", multi_region_type="REPLICA"),
        seen(Subject.CLOCK, at_least_seconds=400.0),
    ]

    assert ids(diagnose(lines, given())) == ["clock-off", "credentials-refused", "key-disabled"]


def test_what_may_be_why_the_code_came_stands_before_what_else_is_wrong() -> None:
    """And what cannot be is told as such."""
    lines = [
        seen(Subject.CLOCK, at_least_seconds=400.0),
        seen(Subject.KEY, WEST, purpose="pii", state="Disabled", multi_region_type="REPLICA"),
    ]

    fits = diagnose(lines, given(code=find("DisabledException")))
    besides = diagnose(lines[:1], given(code=find("DisabledException")))

    assert (ids(fits), fits.explains) == (["key-disabled", "clock-off"], True)
    assert (ids(besides), besides.explains, besides.outcome) == (["clock-off"], False, Outcome.CAUSE_FOUND)


def test_only_home_is_reached() -> None:
    """One cause above the single ones: there is no way out to the others (C8)."""
    lines = [seen(Subject.CONNECTION, certificate_days_left=99.0)]
    lines += [
        seen(Subject.CONNECTION, region, code="ConnectTimeout", step="tcp", timed_out=True)
        for region in (WEST, IRELAND)
    ]

    found = diagnose(lines, given())
    reached = diagnose([*lines[:2], seen(Subject.CONNECTION, IRELAND, certificate_days_left=99.0)], given())

    assert ids(found) == ["failover-path-closed", "connection-times-out", "connection-times-out"]
    assert ids(reached) == ["connection-times-out"]


def test_a_key_that_no_region_has() -> None:
    """It is told only when all were looked at."""
    lines = [seen(Subject.ALIAS, region, purpose="pii", target="") for region in (HOME, WEST, IRELAND)]

    assert ids(diagnose(lines, given()))[0] == "key-missing"
    assert "key-missing" not in ids(diagnose(lines, given(every_region=False)))
    assert "key-missing" not in ids(diagnose([*lines[:2], GOOD_LINES[4]], given()))


def test_an_operator_whom_the_key_keeps_out_is_no_fault() -> None:
    """Worth a line; only to who asks about a denial it is the answer."""
    line = seen(Subject.DRY_RUN, code="AccessDeniedException", expected=False, refused_by="resource-based policy")

    plain, asked = (diagnose([line], given(code=code)) for code in (None, find("AccessDeniedException")))

    assert ids(plain) == ids(asked) == ["not-a-user-of-the-key"]
    assert (plain.outcome, asked.outcome) == (Outcome.NOTHING_WRONG, Outcome.CAUSE_FOUND)
    through_endpoint = seen(Subject.DRY_RUN, code="AccessDenied", expected=False, refused_by="VPC endpoint policy")
    assert ids(diagnose([through_endpoint], given())) == ["endpoint-policy-refuses"]


def test_an_unconfigured_key_and_one_of_another_account_are_told() -> None:
    """The first is no fault, the second is."""
    foreign = Wanted(purpose="x", key_id=KEY_ID, configured=False, account_id="210987654321")

    found = diagnose([], given(keys=(foreign,)))

    assert ids(found) == ["key-of-another-account", "key-not-configured"]
    assert diagnose([], given(keys=(Wanted(purpose="x", configured=False),))).outcome is Outcome.NOTHING_WRONG


@pytest.mark.parametrize(
    ("code", "cause", "outcome"),
    [
        ("InvalidCiphertextException", "context-or-bytes", Outcome.CAUSE_FOUND),
        ("ParamValidationError", "request-wrong", Outcome.CAUSE_FOUND),
        ("ForkedError", "core-not-usable", Outcome.CAUSE_FOUND),
        ("suite", "message-legacy", Outcome.CAUSE_FOUND),
        ("DryRunOperationException", "nothing-wrong", Outcome.NOTHING_WRONG),
        ("rotation_off", "other-alarm", Outcome.COULD_NOT_TELL),
        ("QuuxFault", "not-in-the-table", Outcome.COULD_NOT_TELL),
    ],
)
def test_what_no_look_finds_the_code_itself_tells(code: str, cause: str, outcome: Outcome) -> None:
    """Nothing need be wrong with AWS for it."""
    found = diagnose(GOOD_LINES, given(code=find(code)))

    assert ids(found)[0] == cause
    assert (found.outcome, found.findings[0].evidence) == (outcome, ())


def test_a_code_whose_cause_has_passed() -> None:
    """Nothing is wrong now: 0, and it is said that nothing explains it."""
    found = diagnose(GOOD_LINES, given(code=find("ThrottlingException")))

    assert (ids(found), found.outcome, found.explains) == ([], Outcome.NOTHING_WRONG, False)
    assert "nothing wrong: nothing seen now explains ThrottlingException" in report.text(
        found, GOOD_LINES, find("ThrottlingException"), None
    )


def test_a_canarys_reason_leads_to_its_own_page() -> None:
    """What the doctor does not look at has a runbook all the same."""
    found = diagnose([], given(code=find("rotation_off")))

    assert found.findings[0].runbook == "alarms/runbooks/rotation-off.md"


def test_the_ways_are_told_without_what_is_not_theirs() -> None:
    """A disabled key is not the network's affair; what an endpoint's policy refused is."""
    lines = [
        *GOOD_LINES,
        seen(Subject.KEY, WEST, purpose="pii", state="Disabled", multi_region_type="REPLICA"),
        seen(Subject.ALIAS, WEST, code="AccessDeniedException", purpose="pii", refused_by="VPC endpoint policy"),
    ]
    kept = ways.of_the_way(lines)

    found = diagnose(kept, given(only=ways.OF_THE_WAY))
    summary = ways.summary(lines, (HOME, WEST), HOME)

    assert ids(found) == ["endpoint-policy-refuses"]
    assert [(way["reached"], way["refused_by_endpoint"]) for way in summary] == [(True, 0), (False, 1)]


def test_the_report_shows_evidence_cause_and_runbook() -> None:
    """Evidence is counted from 1 for people, and from 0 for programs; the runbook as it is published."""
    line = seen(
        Subject.KEY, WEST, purpose="pii", state="Disabled", multi_region_type="REPLICA", answered="x is Disabled"
    )
    found = diagnose([GOOD_LINES[0], line], given())

    told = list(report.text(found, [GOOD_LINES[0], line], None, "https://wiki.example/"))
    document = report.document(found, [GOOD_LINES[0], line], None, None)

    assert told[1:3] == ["    1 ok us-east-1: something: well", "    2 !! us-west-2 pii: something: x is Disabled"]
    assert "    pii in us-west-2: x is Disabled  [evidence 2]" in told
    assert "    runbook: https://wiki.example/key-unusable.md" in told
    assert document["causes"][0]["evidence"] == [1]
    assert document["causes"][0]["runbook"] == "alarms/runbooks/key-unusable.md"
    assert (document["schema"], document["outcome"]) == (1, "cause found")

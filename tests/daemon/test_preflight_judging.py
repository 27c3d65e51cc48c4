"""What an answer says about its question; and services that the local AWS has not, in their own protocols."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from daemon_kit import BASE
from rich.console import Console

from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.commands import preflight
from kms_watchdog.config import Settings, load
from kms_watchdog.preflight import answers, rendered
from kms_watchdog.preflight.answers import CRYPTOGRAPHIC, Answer, Result, Seen
from kms_watchdog.preflight.asker import Asker
from kms_watchdog.preflight.questions import KMS_QUOTAS, POLICIES_SIMULATE, POLICIES_VALIDATE, QUESTIONS, question
from kms_watchdog.preflight.record import ResultFile, run_id
from kms_watchdog.preflight.run import Run, left_over, worst
from kms_watchdog.preflight.throwaway import Throwaway

ASKED = QUESTIONS[0]
BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seen(code: str = "", **answer: Any) -> Seen:
    return Seen(region="us-east-1", operation="X", code=code, request_id="r-1", answer=answer)


# -- judging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "result"),
    [
        pytest.param("NotFoundException", Result.CONFIRMED, id="as-expected"),
        pytest.param("", Result.REFUTED, id="accepted"),
        pytest.param("ValidationException", Result.REFUTED, id="refused-otherwise"),
        pytest.param("AccessDeniedException", Result.COULD_NOT_TELL, id="denied"),
        pytest.param("ThrottlingException", Result.COULD_NOT_TELL, id="throttled"),
        pytest.param("EndpointConnectionError", Result.COULD_NOT_TELL, id="unreachable"),
        pytest.param("Truncated", Result.COULD_NOT_TELL, id="cut-off"),
        pytest.param("UnrecognizedClientException", Result.COULD_NOT_TELL, id="region-not-enabled"),
        pytest.param("ANewException", Result.COULD_NOT_TELL, id="unheard-of"),
    ],
)
def test_only_a_judgement_of_the_request_counts(code: str, result: Result) -> None:
    """What lies with load, credentials or the network says nothing about KMS."""
    assert answers.refused(ASKED, seen(code), {"NotFoundException"}).result is result


def test_words_of_a_denial_are_not_kept() -> None:
    """They name sessions; those about the request are kept, on one line."""
    assert answers.words_of("User: arn:aws:sts::1:assumed-role/a/ann is not authorized", "AccessDeniedException") == ""
    assert answers.words_of("is \n creating", "KMSInvalidStateException") == "is creating"


@pytest.mark.parametrize(
    ("values", "result"),
    [
        pytest.param([0.0, 0.0], Result.CONFIRMED, id="zeros"),
        pytest.param([], Result.REFUTED, id="nothing"),
        pytest.param([1.0], Result.REFUTED, id="something-else"),
    ],
)
def test_what_fill_gave(values: list[float], result: Result) -> None:
    """Zeros, and some of them."""
    assert answers.filled(ASKED, seen(MetricDataResults=[{"Values": values}])).result is result


@pytest.mark.parametrize(
    ("results", "found"),
    [
        pytest.param("CC", Result.CONFIRMED, id="all"),
        pytest.param("CU", Result.COULD_NOT_TELL, id="one-not-told"),
        pytest.param("URC", Result.REFUTED, id="one-refuted"),
    ],
)
def test_the_worst_counts(results: str, found: Result) -> None:
    """Refuted before untold."""
    named = {"C": Result.CONFIRMED, "R": Result.REFUTED, "U": Result.COULD_NOT_TELL}

    assert worst([Answer(id="x", result=named[one], says="") for one in results]) is found


@pytest.mark.parametrize(
    ("run", "after", "over"),
    [
        pytest.param("20260101T120000Z-aa", timedelta(minutes=59), False, id="of-another-machine-and-new"),
        pytest.param("20260101T120000Z-aa", timedelta(hours=1), True, id="an-hour-old"),
        pytest.param("ours", timedelta(), True, id="of-this-folder"),
        pytest.param("x", timedelta(days=99), False, id="no-run-id"),
    ],
)
def test_whose_run_is_over(run: str, after: timedelta, *, over: bool) -> None:
    """A run that may be going on elsewhere keeps its keys."""
    key = Throwaway(
        region="us-east-1", key_id="mrk-1", run_id=run, replica=False, pending=False, creating=False, aliases=()
    )

    assert left_over(key, ("ours",), BEGAN + after) is over
    assert run_id(BEGAN, b"\xaa") == "20260101T120000Z-aa"


def test_the_cases_are_what_each_role_is_for_and_what_it_must_not(settings: Settings) -> None:
    """By our evaluator: both kinds, of each role; every text is short enough to be sent."""
    cases = rendered.cases(settings, rendered.ANY_KEY_ID)

    for role in ("KmsWatchdogRole", "KmsProvisioningRole"):
        assert {one.allowed for one in cases if one.name.startswith(role)} == {True, False}
    assert all(len(body.encode()) < rendered.MAX_TEMPLATE_BYTES for body in rendered.templates(settings).values())
    assert "Fn::Sub" not in json.dumps([dict(one.document) for one in rendered.policies(settings, "mrk-1")])


def test_brackets_in_an_answer_are_shown_on_a_terminal() -> None:
    """They are AWS's words or a policy's, and no markup."""
    shown = io.StringIO()
    answer = Answer(id=ASKED.id, result=Result.REFUTED, says="at [/Statement/0]: [red]")

    preflight._show_table([answer], Console(file=shown, force_terminal=True, width=200))

    assert "at [/Statement/0]: [red]" in shown.getvalue()


# -- services that the local AWS has not --------------------------------------------------------------------------


class Services(ThreadingHTTPServer):
    """Access Analyzer, Service Quotas and IAM's simulator, which answer as they are told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.findings: list[dict[str, str]] = []
        self.quotas: dict[str, float] = {}
        self.decide: Callable[[dict[str, list[str]]], str] = lambda _: "allowed"
        self.policies: list[dict[str, str]] = []
        self.denied = False


class Handler(BaseHTTPRequestHandler):
    server: Services

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.server.denied:
            self.send({"__type": "AccessDeniedException", "message": "User: ann"}, status=403)
        elif self.path.startswith("/policy/validation"):
            self.server.policies.append(json.loads(text))
            self.send({"findings": self.server.findings})
        elif "ListServiceQuotas" in self.headers.get("X-Amz-Target", ""):
            found = [{"QuotaName": name, "Value": value} for name, value in self.server.quotas.items()]
            second = "NextToken" in json.loads(text)
            half = len(found) // 2
            self.send({"Quotas": found[half:]} if second else {"Quotas": found[:half], "NextToken": "2"})
        else:
            decision = self.server.decide(parse_qs(text))
            member = f"<member><EvalActionName>x</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"
            self.send_text(
                "<SimulateCustomPolicyResponse><SimulateCustomPolicyResult><IsTruncated>false</IsTruncated>"
                f"<EvaluationResults>{member}</EvaluationResults></SimulateCustomPolicyResult>"
                "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></SimulateCustomPolicyResponse>"
            )

    def send(self, document: Any, *, status: int = 200) -> None:
        self.send_text(json.dumps(document), status=status)

    def send_text(self, text: str, *, status: int = 200) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", "r-1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with Services() as server:
        for name in ("ACCESSANALYZER", "SERVICE_QUOTAS", "IAM", "CLOUDFORMATION", "CLOUDWATCH"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", f"http://127.0.0.1:{server.server_port}")
        aws._session.cache_clear()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    aws._session.cache_clear()


@pytest.fixture
def run(write_config: Callable[..., Any], clock: ManualClock) -> Run:
    settings = load(write_config(base=BASE.replace('"us-east-1", "us-west-2", "eu-west-1"', '"us-east-1"')))
    file = ResultFile(settings.state.dir, "r")
    file.begin(account_id=settings.estate.account_id, regions=settings.estate.regions)
    asker = Asker(settings, clock)
    return Run(
        settings=settings,
        asker=asker,
        file=file,
        clock=clock,
        run_id="r",
        regions=("us-east-1",),
        tell=lambda _: None,
    )


def answer_of(run: Run, wanted: str) -> Answer:
    return next(one for one in run.answers if one.id == wanted)


def decide_as_ours(run: Run) -> Callable[[dict[str, list[str]]], str]:
    cases = iter(rendered.cases(run.settings, rendered.ANY_KEY_ID))

    def decide(form: dict[str, list[str]]) -> str:
        case = next(cases)
        assert form["ActionNames.member.1"] == [case.action]
        return "allowed" if case.allowed else "implicitDeny"

    return decide


def test_policies_without_findings_and_a_simulator_that_agrees(run: Run, services: Services) -> None:
    """Every policy was sent, whole; suggestions are no refutation."""
    services.findings = [{"findingType": "SUGGESTION", "issueCode": "EMPTY"}]
    services.decide = decide_as_ours(run)

    run._about_rendered(rendered.ANY_KEY_ID)

    policies = rendered.policies(run.settings, rendered.ANY_KEY_ID)
    assert answer_of(run, POLICIES_VALIDATE).result is Result.CONFIRMED
    assert [json.loads(one["policyDocument"]) for one in services.policies] == [one.document for one in policies]
    assert answer_of(run, POLICIES_SIMULATE).result is Result.CONFIRMED
    assert all(one.request_id for one in answer_of(run, POLICIES_SIMULATE).evidence)


def test_findings_and_another_decision_refute_by_name(run: Run, services: Services) -> None:
    """Which policy, which finding; which case, and what ours says."""
    services.findings = [{"findingType": "ERROR", "issueCode": "INVALID_ACTION"}]

    run._about_rendered(rendered.ANY_KEY_ID)

    found, decided = answer_of(run, POLICIES_VALIDATE), answer_of(run, POLICIES_SIMULATE)
    assert found.result is decided.result is Result.REFUTED
    assert "KmsWatchdogRole: INVALID_ACTION" in found.says
    assert "KmsWatchdogRole kms:Decrypt without context: allowed, ours denies it" in decided.says
    assert "kms:Decrypt of a canary" not in decided.says


def test_services_that_deny_are_could_not_tell(run: Run, services: Services) -> None:
    """And whoever was denied is not named."""
    services.denied = True

    run._about_rendered(rendered.ANY_KEY_ID)
    run._about_account("us-east-1")

    assert {one.result for one in run.answers} == {Result.COULD_NOT_TELL}
    assert "ann" not in json.dumps([seen.to_json() for one in run.answers for seen in one.evidence])


QUOTAS = {
    "DescribeKey request rate": 2000, "GetKeyPolicy request rate": 1000, "GetKeyRotationStatus request rate": 1000,
    "ListAliases request rate": 500, "ListGrants request rate": 100, "PutKeyPolicy request rate": 15,
    "CreateKey request rate": 5, "ReplicateKey request rate": 5, "CreateAlias request rate": 5,
    "UpdateAlias request rate": 5, CRYPTOGRAPHIC: 20000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "result", "says"),
    [
        pytest.param({}, Result.CONFIRMED, "us-east-1 20000", id="as-written-down"),
        pytest.param({"ListGrants request rate": 99}, Result.REFUTED, "ListGrants request rate 99", id="less"),
        pytest.param({"ListGrants request rate": None}, Result.COULD_NOT_TELL, "not told: us-east-1: L", id="missing"),
    ],
)
def test_quotas_are_read_from_every_page(
    run: Run, services: Services, changed: dict[str, float | None], result: Result, says: str
) -> None:
    """Compared by their names."""
    services.quotas = {name: value for name, value in {**QUOTAS, **changed}.items() if value is not None}

    run._about_account("us-east-1")

    found = answer_of(run, KMS_QUOTAS)
    assert found.result is result, found.says
    assert says in found.says
    assert question(KMS_QUOTAS).id == found.id

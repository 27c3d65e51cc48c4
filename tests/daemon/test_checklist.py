"""The production checklist: eleven items, none good without evidence, and no evidence that lasts for ever."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import REGIONS, START, JournalFile, LocalCloud
from estate_kit import KEY_ID, OTHER_ID, FakeReader, reader_of
from ports import nobody
from readiness_kit import ALARM, define_alarm, drilled, prove_alarm, without_credentials
from rich.console import Console

from kms_core import SystemClock
from kms_core.kms import DECRYPT
from kms_local.admin_client import ask
from kms_watchdog import aws
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.cli import command
from kms_watchdog.commands import checklist
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.kms_admin import EstateError
from kms_watchdog.estate.observed import observe_region
from kms_watchdog.estate.role_plan import ObservedRole, desired_boundaries, desired_roles
from kms_watchdog.readiness import drill_evidence, estate_evidence, health_evidence, items
from kms_watchdog.readiness.alarm_evidence import proven
from kms_watchdog.readiness.checklist import of_measurement
from kms_watchdog.readiness.drill_evidence import JudgedRun, judged_runs
from kms_watchdog.readiness.estate_evidence import Estate, Seen, SeenBoundary, SeenRole
from kms_watchdog.readiness.items import BY_ID, ITEMS, Evidence, State
from kms_watchdog.readiness.measurement import Measurement, MeasurementFile
from kms_watchdog.readiness.sign_offs import SignOff
from kms_watchdog.readiness.timeouts import CONNECTIONS, OPERATIONS, Figures, propose

__all__ = ["without_credentials"]

DAY = timedelta(days=1)
NOW = START + 100 * DAY
LASTS = {"security-review": 366, "documentation": 184, "training": 366}


def test_it_is_the_setup_guides() -> None:
    """Its eleven items, in its words and order; people are asked about the last three alone."""
    assert [item.words for item in ITEMS] == [
        "All IAM roles and policies are created",
        "Multi-Region Keys are created and replicated",
        "Key rotation is enabled",
        "Health checks are implemented",
        "Monitoring and alerting are configured",
        "Circuit breakers are tested",
        "Failover scenarios are tested",
        "Performance testing is completed",
        "Security review is completed",
        "Documentation is updated",
        "Team training is completed",
    ]
    assert [item.id for item in ITEMS if item.asked] == list(LASTS)
    assert len(BY_ID) == 11


# -- what evidence makes of an item -------------------------------------------------------------------------------

ITEM = BY_ID[items.BREAKERS]


def seen(state: State = State.GOOD, days_ago: float = 0.0) -> Evidence:
    return Evidence(what="x", seen=str(state), at_utc=NOW - days_ago * DAY, state=state)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        pytest.param([], State.UNKNOWN, id="none-is-not-good"),
        pytest.param([seen()], State.GOOD, id="good"),
        pytest.param([seen(), seen(State.UNKNOWN)], State.UNKNOWN, id="one-that-nobody-could-see"),
        pytest.param([seen(), seen(State.UNKNOWN), seen(State.BAD)], State.BAD, id="one-that-is-bad"),
        pytest.param([seen(days_ago=34.9)], State.GOOD, id="not-yet-old"),
        pytest.param([seen(), seen(days_ago=35)], State.BAD, id="one-that-is-old"),
        pytest.param([seen(State.UNKNOWN, days_ago=99)], State.UNKNOWN, id="what-was-not-seen-does-not-age"),
    ],
)
def test_an_item_is_as_bad_as_the_worst_of_its_evidence(evidence: list[Evidence], state: State) -> None:
    """And as old as the oldest: only what is good has a time until which it is."""
    found = items.answer(ITEM, evidence, NOW)

    assert found.state is state
    good = state is State.GOOD
    assert found.expires_utc == (min(one.at_utc for one in evidence) + ITEM.lasts if good else None)
    assert items.worst_of([found, items.answer(ITEM, [seen()], NOW)]) is state


def test_no_answers_at_all_are_not_good() -> None:
    """Silence is never health."""
    assert items.worst_of([]) is State.UNKNOWN


def test_what_is_told_first_is_what_is_not_good() -> None:
    """And how much more there is."""
    bad = [Evidence(what=f"w{n}", seen="no", at_utc=NOW, state=State.BAD) for n in range(5)]

    assert items.answer(ITEM, [seen(), *bad], NOW).finding == "w0: no; w1: no; w2: no; and 2 more"


@pytest.mark.parametrize(("item", "days"), LASTS.items())
def test_what_people_sign_lasts_for_its_time(item: str, days: int) -> None:
    """Not signed, and signed too long ago, are both bad."""
    word = SignOff(subject=item, at_utc=NOW, by="Ada", note="SEC-12")

    fresh = items.asked(BY_ID[item], word, NOW + (days - 1) * DAY)
    old = items.asked(BY_ID[item], word, NOW + days * DAY)

    assert (fresh.state, fresh.expires_utc, fresh.finding) == (State.GOOD, NOW + days * DAY, "signed by Ada: SEC-12")
    assert (old.state, old.expires_utc) == (State.BAD, None)
    assert items.asked(BY_ID[item], None, NOW).state is State.BAD


# -- drills -------------------------------------------------------------------------------------------------------


def judged(drill: str, verdict: Verdict, *, days_ago: float = 1, **more: Any) -> JudgedRun:
    return JudgedRun(
        run_id=f"{drill}-{days_ago}", drill=drill, ended_at_utc=NOW - days_ago * DAY, verdict=verdict, **more
    )


GOOD_RUN = judged("a", Verdict.HELD, opened_and_closed=True, failed_over=9)


@pytest.mark.parametrize(
    ("runs", "breakers", "failover"),
    [
        pytest.param([], State.BAD, State.BAD, id="no-drill"),
        pytest.param([GOOD_RUN], State.GOOD, State.GOOD, id="held"),
        pytest.param([replace(GOOD_RUN, failed_over=0)], State.GOOD, State.BAD, id="nothing-failed-over"),
        pytest.param([replace(GOOD_RUN, opened_and_closed=False)], State.BAD, State.GOOD, id="no-breaker-moved"),
        pytest.param([replace(GOOD_RUN, doubt="edited")], State.BAD, State.BAD, id="not-believed"),
        pytest.param([judged("a", Verdict.INCONCLUSIVE, failed_over=9)], State.BAD, State.BAD, id="could-not-tell"),
        pytest.param(
            [GOOD_RUN, judged("b", Verdict.BROKE, days_ago=0.5, broke=frozenset({"breaker-moves"}))],
            State.BAD,
            State.GOOD,
            id="another-broke-in-its-breakers",
        ),
        pytest.param(
            [judged("a", Verdict.BROKE, days_ago=9, broke=frozenset({"nothing-lost"})), GOOD_RUN],
            State.GOOD,
            State.GOOD,
            id="broke-and-held-since",
        ),
        pytest.param(
            [GOOD_RUN, judged("b", Verdict.BROKE, days_ago=0.5, broke=frozenset({"alarms"}))],
            State.GOOD,
            State.GOOD,
            id="broke-in-what-is-neither",
        ),
    ],
)
def test_breakers_and_failover_are_shown_by_drills(runs: list[JudgedRun], breakers: State, failover: State) -> None:
    """By the newest run of each drill that could tell of them."""
    found = {
        item: items.answer(BY_ID[item], drill_evidence.evidence(BY_ID[item], runs, NOW), NOW).state
        for item in (items.BREAKERS, items.FAILOVER)
    }

    assert found == {items.BREAKERS: breakers, items.FAILOVER: failover}


def test_a_run_is_read_from_its_journal(tmp_path: Path, new_drill: Callable[..., JournalFile]) -> None:
    """With what moved; what ended before is left out, as is what has not ended."""
    drilled(new_drill("1-old"), at=0)
    drilled(new_drill("2-new"), at=86_400, verdict="BROKE", claims={"breaker-moves": "BROKE", "alarms": "HELD"})
    new_drill("3-open").begin(at=86_400)

    [found] = judged_runs(tmp_path / "state", START + timedelta(seconds=1))

    assert (found.run_id, found.verdict, found.doubt) == ("2-new", Verdict.BROKE, "")
    assert (found.broke, found.opened_and_closed, found.failed_over) == ({"breaker-moves"}, True, 2)


@pytest.mark.parametrize(
    ("spoil", "doubt"),
    [
        pytest.param(
            lambda d: d.folder.journal.write_bytes(
                d.folder.journal.read_bytes().replace(b'"half_open"', b'"full_open"')
            ),
            "edited",
            id="edited",
        ),
        pytest.param(lambda d: d.folder.verdict.unlink(), "FileNotFoundError", id="no-verdict"),
        pytest.param(lambda d: d.folder.verdict.write_text("{"), "JSONDecodeError", id="torn-verdict"),
        pytest.param(
            lambda d: d.folder.verdict.write_text(d.folder.verdict.read_text().replace('"HELD"', '"BROKE"')),
            "something else than the journal",
            id="another-verdict",
        ),
        pytest.param(
            lambda d: d.folder.verdict.write_text(d.folder.verdict.read_text().replace('"schema": 1', '"schema": 2')),
            "schema 2",
            id="newer",
        ),
    ],
)
def test_a_run_whose_files_disagree_is_no_evidence(
    tmp_path: Path, new_drill: Callable[..., JournalFile], spoil: Callable[[JournalFile], object], doubt: str
) -> None:
    """Its journal's chain is followed from the first line on, and its verdict is the journal's."""
    drilled(drill := new_drill(), at=0, more=100)  # so that what is edited lies far from both ends
    spoil(drill)

    runs = list(judged_runs(tmp_path / "state", START))

    assert doubt in runs[0].doubt
    [told] = drill_evidence.evidence(BY_ID[items.FAILOVER], runs, START)
    assert (told.state, doubt in told.seen) == (State.BAD, True)


# -- the estate ---------------------------------------------------------------------------------------------------

Readers = dict[tuple[str, str], FakeReader]


@pytest.fixture
def readers(settings: Settings) -> Readers:
    """Two keys in three regions, as they should be."""
    ids = {"general": KEY_ID, "payment": OTHER_ID}
    return {
        (key.purpose, region): reader_of(key, region, key_id=ids[key.purpose])
        for key in desired_keys(settings)
        for region in REGIONS
    }


def estate_of(settings: Settings, readers: Readers, spoil: Callable[[ObservedRole], ObservedRole | None]) -> Estate:
    """See all that `readers` tell, and roles that are as rendered but for what `spoil` does to the watchdog's."""
    keys = []
    for wanted, region in itertools.product(desired_keys(settings), REGIONS):
        try:
            found = observe_region(wanted, readers[wanted.purpose, region], region, None)
        except EstateError as e:
            keys.append(Seen(wanted=wanted, region=region, found=None, trouble=str(e)))
        else:
            keys.append(Seen(wanted=wanted, region=region, found=found))
    ids = estate_evidence.key_ids(keys)
    roles = [
        SeenRole(wanted=role, found=ObservedRole(trust=role.trust, policy=role.policy or {}, boundary=role.boundary))
        for role in desired_roles(settings, ids)
    ]
    at = next(at for at, role in enumerate(roles) if role.wanted.name == "KmsWatchdogRole")
    assert roles[at].found is not None
    roles[at] = replace(roles[at], found=spoil(roles[at].found))
    boundaries = tuple(SeenBoundary(wanted=one, found=one.policy) for one in desired_boundaries(settings))
    return Estate(keys=tuple(keys), key_ids=ids, roles=tuple(roles), boundaries=boundaries)


def as_it_is(role: ObservedRole) -> ObservedRole:
    return role


def states(estate: Estate) -> tuple[State, ...]:
    """Return how roles, keys and rotation stand."""
    found = estate_evidence.evidence(estate, NOW)
    return tuple(
        items.answer(BY_ID[item], found[item], NOW).state for item in (items.ROLES, items.KEYS, items.ROTATION)
    )


def test_an_estate_as_rendered_is_good(settings: Settings, readers: Readers) -> None:
    """Each key in each region, and each role, is a piece of evidence."""
    estate = estate_of(settings, readers, as_it_is)
    found = estate_evidence.evidence(estate, NOW)

    assert states(estate) == (State.GOOD, State.GOOD, State.GOOD)
    assert {item: len(evidence) for item, evidence in found.items()} == {
        items.KEYS: 6,
        items.ROTATION: 6,
        items.ROLES: 6 + len(estate.roles) + len(estate.boundaries),
    }


@pytest.mark.parametrize(
    ("plant", "roles", "keys", "rotation", "said"),
    [
        pytest.param(
            lambda r: setattr(r, "key_policy", {"Statement": []}),
            State.BAD, State.GOOD, State.GOOD, "its key policy is not the one rendered here", id="key-policy",
        ),
        pytest.param(
            lambda r: setattr(r, "on", False),
            State.GOOD, State.GOOD, State.BAD, "its rotation is off", id="rotation-off",
        ),
        pytest.param(
            lambda r: r.change(state="Disabled"), State.GOOD, State.BAD, State.GOOD, "is Disabled", id="disabled"
        ),
        pytest.param(
            lambda r: r.change(state="PendingDeletion"),
            State.GOOD, State.BAD, State.UNKNOWN, "KMS does not say while it is PendingDeletion", id="to-be-deleted",
        ),
        pytest.param(
            lambda r: r.alias_targets.clear(), State.BAD, State.BAD, State.BAD, "does not exist", id="no-alias"
        ),
        pytest.param(
            lambda r: r.fail("DescribeKey", "ConnectTimeoutError", unreachable=True),
            State.UNKNOWN, State.UNKNOWN, State.UNKNOWN, "DescribeKey: ConnectTimeoutError", id="region-dark",
        ),
        pytest.param(
            lambda r: r.fail("GetKeyPolicy", "AccessDeniedException"),
            State.UNKNOWN, State.UNKNOWN, State.UNKNOWN, "GetKeyPolicy: AccessDeniedException", id="denied",
        ),
    ],
)  # fmt: skip
def test_one_thing_wrong_in_one_region_is_found_by_name(
    settings: Settings,
    readers: Readers,
    plant: Callable[[FakeReader], object],
    roles: State,
    keys: State,
    rotation: State,
    said: str,
) -> None:
    """It makes its own item bad, and no other; what nobody could see makes all unknown."""
    plant(readers["payment", "eu-west-1"])

    estate = estate_of(settings, readers, as_it_is)

    told = [one for of in estate_evidence.evidence(estate, NOW).values() for one in of if one.state is not State.GOOD]
    assert states(estate) == (roles, keys, rotation)
    assert {one.what for one in told} == {"payment in eu-west-1"}
    assert any(said in one.seen for one in told)


def test_two_keys_behind_one_alias_are_bad(settings: Settings, readers: Readers) -> None:
    """The same name leads to another key in one region; roles cannot be judged by either."""
    key = next(key for key in desired_keys(settings) if key.purpose == "general")
    readers["general", "us-west-2"] = reader_of(key, "us-west-2", key_id=OTHER_ID)

    assert states(estate_of(settings, readers, as_it_is))[:2] == (State.UNKNOWN, State.BAD)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda _: None, "there is no such role", id="no-role"),
        pytest.param(lambda r: replace(r, policy=None), "it has no policy KmsWatchdogEstate", id="no-policy"),
        pytest.param(lambda r: replace(r, policy={"Statement": []}), "is not the one rendered here", id="other-policy"),
        pytest.param(lambda r: replace(r, trust={"Statement": []}), "its trust policy is not", id="other-trust"),
        pytest.param(lambda r: replace(r, boundary=""), "its permissions boundary is not", id="no-boundary"),
    ],
)
def test_a_role_that_is_not_as_rendered_is_bad(
    settings: Settings, readers: Readers, spoil: Callable[[ObservedRole], ObservedRole | None], said: str
) -> None:
    """By its name."""
    estate = estate_of(settings, readers, spoil)

    [bad] = [one for one in estate_evidence.evidence(estate, NOW)[items.ROLES] if one.state is State.BAD]
    assert bad.what == "role KmsWatchdogRole"
    assert said in bad.seen


def test_what_nobody_may_read_in_iam_is_unknown(settings: Settings, readers: Readers) -> None:
    """Denied is not missing."""
    estate = estate_of(settings, readers, as_it_is)
    role = replace(estate.roles[0], found=None, trouble="iam: GetRole: AccessDenied")
    boundary = replace(estate.boundaries[0], found=None, trouble="iam: GetPolicy: AccessDenied")

    assert states(replace(estate, roles=(role, *estate.roles[1:])))[0] is State.UNKNOWN
    assert states(replace(estate, boundaries=(boundary, *estate.boundaries[1:])))[0] is State.UNKNOWN


@pytest.mark.parametrize(
    ("found", "said"), [(None, "there is no such policy"), ({"Statement": []}, "it is not the policy rendered here")]
)
def test_a_boundary_that_is_not_as_rendered_is_bad(settings: Settings, readers: Readers, found: Any, said: str) -> None:
    """By its name: roles may more than they should at most."""
    estate = estate_of(settings, readers, as_it_is)
    boundaries = (replace(estate.boundaries[0], found=found), *estate.boundaries[1:])

    evidence = estate_evidence.evidence(replace(estate, boundaries=boundaries), NOW)[items.ROLES]

    assert [(e.what, e.seen) for e in evidence if e.state is State.BAD] == [
        (f"policy {estate.boundaries[0].wanted.name}", said)
    ]


# -- alarms, health, performance ----------------------------------------------------------------------------------


def proof(name: str, days_ago: float, *, told: bool = True, restored: bool = True) -> AlarmProof:
    fired = NOW - days_ago * DAY
    return AlarmProof(
        alarm=name,
        name=name,
        region="us-east-1",
        by="arn",
        run_id="r",
        fired_at_utc=fired,
        told_at_utc=fired if told else None,
        restored_at_utc=fired if restored else None,
    )


BOTH = [proof("a", 1), proof("b", 34)]


@pytest.mark.parametrize(
    ("proofs", "state", "said"),
    [
        pytest.param([], State.BAD, "of 2 alarms never proven: a, b. ", id="never"),
        pytest.param([proof("a", 1)], State.BAD, "of 2 alarms never proven: b. ", id="one-never"),
        pytest.param(BOTH, State.GOOD, "all 2 alarms, b longest ago", id="both-lately"),
        pytest.param([proof("a", 1), proof("b", 36)], State.BAD, "all 2 alarms, b longest ago", id="one-long-ago"),
        pytest.param(
            [proof("b", 2, told=False), *BOTH], State.BAD, "failed the last time: b in us-east-1. ", id="nobody-told"
        ),
        pytest.param(
            [*BOTH, proof("b", 2, restored=False)],
            State.BAD,
            "failed the last time: b in us-east-1. ",
            id="not-put-back",
        ),
        pytest.param([*BOTH, proof("b", 40, told=False)], State.GOOD, "all 2 alarms, b", id="failed-and-mended"),
        pytest.param([*BOTH, proof("c", 2, told=False)], State.GOOD, "all 2 alarms, b", id="one-that-is-no-more"),
    ],
)
def test_alarms_are_proven_when_the_last_one_is(proofs: list[AlarmProof], state: State, said: str) -> None:
    """All of them, in all their regions, within 35 days, and by the newest proof of each."""
    evidence = list(proven({"a": ["us-east-1"], "b": ["us-east-1"]}, proofs, NOW))

    assert items.answer(BY_ID[items.ALERTING], evidence, NOW).state is state
    assert [one.seen.startswith(said) for one in evidence] == [True]


def test_no_alarm_defined_is_not_proven() -> None:
    """Nobody knows which there should be."""
    assert [one.state for one in proven({}, [], NOW)] == [State.UNKNOWN]


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, int]]]:
    """A server, and what it answers by path."""
    codes = {"/livez": 200, "/readyz": 200, "/health": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", codes
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(
    ("code", "path", "state"),
    [
        (200, "/health", State.GOOD),
        (503, "/health", State.GOOD),
        (500, "/health", State.BAD),
        (503, "/readyz", State.BAD),
        (500, "/livez", State.BAD),
    ],
)
def test_health_checks_answer(answers: tuple[str, dict[str, int]], code: int, path: str, state: State) -> None:
    """That something is not well is an answer of /health; of the others it is none."""
    url, codes = answers
    codes[path] = code

    evidence = list(health_evidence.look(url, NOW))

    assert items.answer(BY_ID[items.HEALTH], evidence, NOW).state is state
    assert [one.what for one in evidence] == ["GET /livez", "GET /readyz", "GET /health"]


@pytest.mark.parametrize(
    ("url", "state"),
    [
        pytest.param(None, State.BAD, id="nobody-runs"),
        pytest.param(f"http://127.0.0.1:{nobody()}", State.UNKNOWN, id="no-answer"),
        pytest.param("ftp://x", State.UNKNOWN, id="no-address"),
    ],
)
def test_health_checks_that_nobody_could_ask_are_not_good(url: str | None, state: State) -> None:
    """None running here is bad; one that does not answer may be out of reach."""
    assert items.answer(BY_ID[items.HEALTH], health_evidence.look(url, NOW), NOW).state is state


def measurement(
    settings: Settings, *, warm: float = 0.02, regions: tuple[str, ...] = REGIONS, **more: Any
) -> Measurement:
    figures = tuple(
        Figures.of(region, operation, connection, [warm] * 100 if connection == "warm" else [warm + 0.05] * 20)
        for region, operation, connection in itertools.product(regions, OPERATIONS, CONNECTIONS)
    )
    values: dict[str, Any] = {
        "estate": settings.estate.name,
        "account_id": settings.estate.account_id,
        "measured_at_utc": NOW,
        "host": "here",
        "purpose": "general",
        "requests": 1,
        "usd": 0.0,
        "figures": figures,
        "proposed": propose(figures),
    }
    return Measurement(**{**values, **more})


def test_a_measurement_counts_for_its_own_estate_whole_and_fast_enough(settings: Settings) -> None:
    """Else it says what is wrong with it."""
    whole = measurement(settings)
    few = tuple(replace(f, count=f.count - 1) if f.region == "us-west-2" else f for f in whole.figures)
    slow = tuple(replace(f, p99_seconds=1.1) if f.connection == "cold" else f for f in whole.figures)
    some = replace(whole, figures=tuple(f for f in whole.figures if (f.region, f.operation) != ("eu-west-1", DECRYPT)))
    bad = {
        "there is none": None,
        "of estate other": measurement(settings, estate="other"),
        "in account 210987654321": measurement(settings, account_id="210987654321"),
        "it is without eu-west-1": some,
        "too few to tell: 19 cold GenerateDataKey in us-west-2, at least 20 are needed; and 3 more": replace(
            whole, figures=few
        ),
        "core.connect_timeout_seconds is 1 s, the p99 of a new connection is 1.080 s": replace(whole, figures=slow),
        "core.read_timeout_seconds is 2 s, the p99 of a warm request is 2.400 s": measurement(settings, warm=2.4),
    }

    good = of_measurement(whole, settings, NOW)
    assert (good.state, good.at_utc) == (State.GOOD, NOW)
    assert "the longest p99 is 0.070 s" in good.seen
    for said, each in bad.items():
        told = of_measurement(each, settings, NOW)
        assert (told.state, said in told.seen) == (State.BAD, True), told


# -- the command --------------------------------------------------------------------------------------------------


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["checklist", *arguments, "--config", str(config)])


def by_id(told: Result) -> dict[str, Any]:
    return {item["id"]: item for item in json.loads(told.stdout)["items"]}


@pytest.mark.usefixtures("without_credentials")
def test_without_credentials_nothing_of_aws_is_good(write_config: Callable[..., Path]) -> None:
    """What was signed is; the whole ends with 1, as other items are bad."""
    config = write_config()
    signed = run(config, "ack", "training", "--by", "Ada", "--note", "game day")
    told = run(config, "--json")

    found = by_id(told)
    assert (signed.exit_code, told.exit_code) == (0, 1)
    assert [item["id"] for item in json.loads(told.stdout)["items"]] == [item.id for item in ITEMS]
    for item in ("roles", "keys", "rotation", "alerting"):
        assert found[item]["state"] == "unknown"
    assert "NoCredentialsError" in found["keys"]["finding"]
    assert [i for i, item in found.items() if item["state"] == "good"] == ["training"]
    assert found["training"]["evidence"][0]["seen"] == "game day"


def test_brackets_in_a_finding_are_shown_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A note is whatever somebody wrote, and a file's name may be anything."""
    note = SignOff(subject="training", at_utc=NOW, by="[red]Ada", note="see [/runs/12]")

    checklist.show([items.asked(BY_ID["training"], note, NOW)], Console(force_terminal=True, width=200))

    assert "signed by [red]Ada: see [/runs/12]" in capsys.readouterr().out


@pytest.mark.parametrize("item", [item.id for item in ITEMS if not item.asked])
def test_nobody_signs_what_is_looked_at(write_config: Callable[..., Path], tmp_path: Path, item: str) -> None:
    """Refused: 4, and nothing is written."""
    told = run(write_config(), "ack", item, "--by", "Ada", "--note", "fine")

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (4, "", 1)
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("without_credentials")
def test_signatures_that_cannot_be_read_are_3(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Nothing is printed as if nobody had signed."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sign-offs.json").write_text("{")

    told = run(write_config())

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (3, "", 1)


def test_all_good_is_0_and_each_planted_mistake_is_found(
    cloud_here: LocalCloud,
    tmp_path: Path,
    answers: tuple[str, dict[str, int]],
    new_drill: Callable[..., JournalFile],
) -> None:
    """An estate from nothing to ready, on the local AWS; then one thing is spoiled after the other."""
    ask(cloud_here.directory, "PUT", "/iam", {"RoleDetailList": []})
    published = REGIONS[:2]
    config = cloud_here.config(tmp_path, define_alarm(tmp_path / "alarms", published), prefix="ready")
    settings, url = load(config), ("--url", answers[0])
    before = run(config, "--json", *url)
    made = cloud_here.run("provision", "apply", "--yes", config=config)
    assert made.returncode == 0, made.stderr
    for region in published:
        aws.client(settings, "cloudwatch", region).put_metric_alarm(**ALARM)
    prove_alarm(settings.state.dir, published)
    now = SystemClock().now_utc()
    drilled(new_drill(), at=(now - START).total_seconds() - 60)
    MeasurementFile(settings.state.dir).keep(measurement(settings, measured_at_utc=now))
    for item in LASTS:
        assert run(config, "ack", item, "--by", "Ada", "--note", "*seen* to").exit_code == 0

    ready, shown = run(config, "--json", *url), run(config, "--format", "markdown", *url)

    assert before.exit_code == 1
    assert (ready.exit_code, {i: item["state"] for i, item in by_id(ready).items()}) == (
        0,
        dict.fromkeys(BY_ID, "good"),
    ), ready.stdout
    lines = shown.stdout.splitlines()
    assert (shown.exit_code, lines[0]) == (0, "# Production checklist of ready")
    assert sum(line.startswith("- [x] ") for line in lines) == 11
    assert sum(line.endswith(r"signed by Ada: \*seen\* to (" + f"{now:%Y-%m-%d %H:%M} UTC)") for line in lines) <= 3
    assert r"\*seen\* to" in shown.stdout

    kms = aws.client(settings, "kms", "us-east-1")
    key_id = kms.describe_key(KeyId="alias/ready-pii")["KeyMetadata"]["KeyId"]
    kms.disable_key_rotation(KeyId=key_id)
    aws.client(settings, "cloudwatch", "us-west-2").put_metric_alarm(**{**ALARM, "Threshold": 99.0})
    wide = json.dumps({"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]})
    aws.client(settings, "iam", "us-east-1").put_role_policy(
        RoleName="KmsWatchdogRole", PolicyName="KmsWatchdogEstate", PolicyDocument=wide
    )
    answers[1]["/readyz"] = 503
    spoiled = run(config, "--json", *url)

    found = {item: each["finding"] for item, each in by_id(spoiled).items() if each["state"] != "good"}
    assert (spoiled.exit_code, found.keys()) == (1, {"roles", "rotation", "alerting", "health"})
    assert found["roles"].startswith("role KmsWatchdogRole: ")
    assert found["rotation"].count("pii in ") == 3
    assert found["alerting"] == "alarms in us-west-2: differs: ParkerFlight-KMS-Test. "
    assert found["health"] == "GET /readyz: 503"


def test_another_accounts_credentials_are_refused(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """4, before anything of it is told for ours."""
    config = cloud_here.config(tmp_path, prefix="ready-other")
    config.write_text(config.read_text().replace("123456789012", "210987654321"))

    told = run(config)

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (4, "", 1)

"""The preflight on a local AWS, whose answers are known: what is made goes again, whatever comes in between."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import REGIONS, LocalCloud
from readiness_kit import without_credentials
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_local.admin_client import ask
from kms_local.testing import start_local_aws
from kms_watchdog import aws
from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.estate.desired import ESTATE_TAG
from kms_watchdog.preflight import questions, record, throwaway
from kms_watchdog.preflight.answers import Seen
from kms_watchdog.preflight.asker import Asker
from kms_watchdog.preflight.record import ResultFile
from kms_watchdog.preflight.run import Run
from kms_watchdog.preflight.throwaway import ALIAS_PREFIX, REFUSED, TAG
from kms_watchdog.state_folder import StateError

__all__ = ["without_credentials"]

CONFIRMED, REFUTED, UNTOLD = "confirmed", "refuted", "could not tell"
OF_OTHER_SERVICES = {
    questions.POLICIES_VALIDATE,
    questions.POLICIES_SIMULATE,
    questions.TEMPLATES_VALIDATE,
    questions.KMS_QUOTAS,
}
"""The local AWS has none of these."""
ABOUT_KEYS = {one.id for one in questions.QUESTIONS} - OF_OTHER_SERVICES - {questions.FILL_WITHOUT_DATA}
USE = "GenerateDataKeyWithoutPlaintext"
CHANGES = ("CreateKey", "ReplicateKey", "CreateAlias", "DeleteAlias", "ScheduleKeyDeletion")


def preflight(config: Path, *words: str) -> Result:
    return CliRunner().invoke(command, ["preflight", *words, "--config", str(config)])


def results(document: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["result"] for one in document["answers"]}


def says(document: dict[str, Any], wanted: str) -> str:
    return next(str(one["says"]) for one in document["answers"] if one["id"] == wanted)


def live_keys(settings: Settings) -> list[str]:
    swept = throwaway.sweep(Asker(settings, SystemClock()), REGIONS)
    assert swept.blind == {}
    return [str(key) for key in swept.live]


@contextmanager
def fault(cloud: LocalCloud, **members: Any) -> Iterator[None]:
    number = ask(cloud.directory, "POST", "/faults", members)["id"]
    try:
        yield
    finally:
        ask(cloud.directory, "DELETE", f"/faults/{number}")


@pytest.fixture
def config(cloud_here: LocalCloud, tmp_path: Path) -> Path:
    return cloud_here.config(tmp_path, prefix="preflight")


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config)


# -- without an account -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_credentials")
def test_without_real_it_only_tells(write_config: Callable[..., Path]) -> None:
    """Every question, whatever is not asked and why, how many requests, and what it costs; nobody is asked."""
    told = preflight(write_config())
    found = preflight(write_config(), "--json")

    assert (told.exit_code, told.stderr) == (0, "")
    for one in (*questions.QUESTIONS, *questions.NOT_ASKED):
        assert f"\n{one.id}: {one.claim}" in f"\n{told.stdout}"
    assert "2 keys, alias/kms-watchdog-preflight-RUN" in told.stdout
    assert "about $0.0031 by list price; keys that are left cost $2.00 a month" in told.stdout
    document = json.loads(found.stdout)
    assert [one["id"] for one in document["questions"]] == [one.id for one in questions.QUESTIONS]
    assert all(all(one.values()) for one in (*document["questions"], *document["not_asked"]))
    assert len({one["id"] for one in (*document["questions"], *document["not_asked"])}) == len(
        document["questions"]
    ) + len(document["not_asked"])


@pytest.mark.usefixtures("without_credentials")
def test_without_credentials_nothing_is_made(write_config: Callable[..., Path]) -> None:
    """3, on one line."""
    told = preflight(write_config(), "--real", "--yes")

    assert told.exit_code == 3
    assert told.stderr == "kms-watchdog: STS in us-east-1 does not say who we are: NoCredentialsError\n"


def test_real_and_teardown_exclude_each_other(write_config: Callable[..., Path]) -> None:
    """2."""
    told = preflight(write_config(), "--real", "--teardown")

    assert (told.exit_code, told.stdout) == (2, "")
    assert "--real and --teardown exclude each other" in told.stderr


# -- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--real", "--teardown"])
def test_another_account_is_refused(config: Path, option: str) -> None:
    """4, before anything is asked of KMS."""
    config.write_text(config.read_text().replace("123456789012", "210987654321"))

    told = preflight(config, option, "--yes")

    assert told.exit_code == 4
    assert told.stderr.startswith("kms-watchdog: the credentials are of account 123456789012")


def test_without_a_terminal_nobody_can_confirm(config: Path, settings: Settings) -> None:
    """The cost is shown, and nothing is made."""
    told = preflight(config, "--real")

    assert told.exit_code == 4
    assert told.stderr.startswith("account 123456789012, regions us-east-1, us-west-2, eu-west-1\nabout ")
    assert " requests to KMS, without retries, and in each region" in told.stderr
    assert told.stderr.endswith("nobody can confirm; --yes goes without asking\n")
    assert list(record.folder(settings.state.dir).glob("*.json")) == []


def test_whoever_types_something_else_has_not_confirmed(cloud_here: LocalCloud, config: Path) -> None:
    """It takes the account's number."""
    ours, theirs = pty.openpty()
    os.write(ours, b"yes\n")

    arguments = [sys.executable, "-m", "kms_watchdog", "preflight", "--real", "--config", str(config)]
    told = subprocess.run(
        arguments, stdin=theirs, capture_output=True, text=True, check=False, timeout=60, env=cloud_here.environment
    )

    os.close(ours)
    os.close(theirs)
    assert (told.returncode, told.stdout) == (4, "")
    assert "Type the account's number (123456789012) to make these keys and ask" in told.stderr
    assert told.stderr.endswith("kms-watchdog: refused: not confirmed; nothing was made\n")


def test_one_at_a_time(config: Path, settings: Settings) -> None:
    """Or one would tear down the other's keys."""
    with record.only_one(settings.state.dir):
        told = preflight(config, "--real", "--yes")

    assert (told.exit_code, told.stderr) == (
        4,
        "kms-watchdog: refused: another preflight runs with this state folder\n",
    )


# -- on the local AWS ---------------------------------------------------------------------------------------------


def test_a_whole_run(config: Path, settings: Settings) -> None:
    """The local AWS confirms what the references say of KMS; every request has its id; nothing is left."""
    told = preflight(config, "--real", "--yes", "--json")

    document = json.loads(told.stdout)
    assert told.exit_code == 3, told.stderr  # services that are not there
    assert {name: result for name, result in results(document).items() if name in ABOUT_KEYS} == dict.fromkeys(
        ABOUT_KEYS, CONFIRMED
    )
    assert {says(document, name) for name in OF_OTHER_SERVICES - {questions.POLICIES_SIMULATE}} >= {
        "not answered: us-east-1: NoEndpointConfigured and 2 more"
    }
    assert list(results(document)) == [one.id for one in questions.QUESTIONS]
    of_keys = [one for one in document["answers"] if one["id"] in ABOUT_KEYS]
    assert all(seen["request_id"] for one in of_keys for seen in one["evidence"])
    assert all(one["request_id"] for one in document["changes"])
    assert [one["operation"] for one in document["changes"]] == [
        "CreateKey",
        "ReplicateKey",
        "CreateAlias",
        *["ReplicateKey"] * 3,
        "ScheduleKeyDeletion",
        "DeleteAlias",
        "ScheduleKeyDeletion",
    ]
    assert (document["torn_down"], document["left"], live_keys(settings)) == (True, [], [])
    path = record.folder(settings.state.dir) / f"{document['run_id']}.json"
    assert json.loads(path.read_text()) == document


def test_it_asks_no_more_than_it_announced(config: Path, settings: Settings, cloud_here: LocalCloud) -> None:
    """And KMS saw no key but its own used, nor any secret asked for."""
    log = cloud_here.directory / "requests.ndjson"
    before = len(log.read_text().splitlines()) if log.exists() else 0
    announced = json.loads(preflight(config, "--json").stdout)

    told = preflight(config, "--real", "--yes", "--json")

    asked = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    finding = {"ListKeys", "ListResourceTags", "ListAliases", "DescribeKey"}
    changing = [one for one in asked if one["operation"] not in finding]
    assert told.exit_code == 3
    assert 0 < len(changing) <= announced["kms_requests"]
    assert {one["operation"] for one in changing} == {
        *CHANGES,
        "EnableKeyRotation",
        "GetKeyRotationStatus",
        "GetKeyPolicy",
        "GenerateDataKeyWithoutPlaintext",
    }


def test_the_table_says_what_each_answer_means(config: Path) -> None:
    """One line a question, then what was torn down, and where the file is."""
    told = preflight(config, "--real", "--yes")

    lines = told.stdout.splitlines()
    assert f"{questions.REPLICATE_TWICE}\tconfirmed\tAlreadyExistsException\tnothing to change: a provisioning" in (
        told.stdout
    )
    assert [line.split("\t")[0] for line in lines[: len(questions.QUESTIONS)]] == [
        one.id for one in questions.QUESTIONS
    ]
    assert lines[-1].startswith("result: ")


@pytest.mark.parametrize(
    ("operation", "untold", "why"),
    [
        pytest.param(
            "EnableKeyRotation",
            {questions.ALIAS_ENABLE_ROTATION, questions.ROTATION_ON_REPLICA},
            "not judged: AccessDeniedException",
            id="one-question's",
        ),
        pytest.param(
            "CreateAlias",
            {questions.ALIAS_ENABLE_ROTATION, questions.ALIAS_ROTATION_STATUS, questions.ALIAS_KEY_POLICY},
            "no alias was made: AccessDeniedException",
            id="an-alias",
        ),
        pytest.param("CreateKey", ABOUT_KEYS, "no key was made: CreateKey: AccessDeniedException", id="the-key-itself"),
    ],
)
def test_a_denied_call_is_could_not_tell_and_the_others_are_asked(
    config: Path, settings: Settings, cloud_here: LocalCloud, operation: str, untold: set[str], why: str
) -> None:
    """3; the account's name for the session is not in the evidence."""
    with fault(cloud_here, service="kms", operation=operation, error_code="AccessDeniedException"):
        told = preflight(config, "--real", "--yes", "--json")

    document = json.loads(told.stdout)
    assert told.exit_code == 3
    assert {name for name in ABOUT_KEYS if results(document)[name] == UNTOLD} == untold
    assert {says(document, name) for name in untold} == {why}
    assert "not authorized" not in told.stdout
    assert live_keys(settings) == []


def test_another_answer_refutes(config: Path, settings: Settings, cloud_here: LocalCloud) -> None:
    """1, with the code that came."""
    with fault(cloud_here, service="kms", operation="GetKeyPolicy", error_code="DisabledException"):
        told = preflight(config, "--real", "--yes", "--json")

    document = json.loads(told.stdout)
    assert told.exit_code == 1
    assert (results(document)[questions.ALIAS_KEY_POLICY], says(document, questions.ALIAS_KEY_POLICY)) == (
        REFUTED,
        "DisabledException",
    )
    assert live_keys(settings) == []


def test_a_silent_region_is_gone_without(cloud_here: LocalCloud, config: Path, settings: Settings) -> None:
    """Two regions are enough for all but one question."""
    kms = cloud_here.endpoints["regions"]["us-west-2"]["kms"]
    config.write_text(config.read_text().replace(kms, "https://127.0.0.1:1"))

    told = preflight(config, "--real", "--yes", "--json")

    document = json.loads(told.stdout)
    assert told.exit_code == 3
    assert {name for name in ABOUT_KEYS if results(document)[name] != CONFIRMED} == {questions.REPLICATE_REPLICA}
    assert says(document, questions.REPLICATE_REPLICA) == "it takes three regions that answer"
    assert live_keys(settings) == []


def test_without_the_primary_region_no_key_is_made(cloud_here: LocalCloud, config: Path, settings: Settings) -> None:
    """Nothing is known of KMS, and nothing is left."""
    kms = cloud_here.endpoints["regions"]["us-east-1"]["kms"]
    config.write_text(config.read_text().replace(kms, "https://127.0.0.1:1"))

    told = preflight(config, "--real", "--yes", "--json")

    document = json.loads(told.stdout)
    assert told.exit_code == 3
    assert {says(document, name) for name in ABOUT_KEYS} == {"KMS in us-east-1 does not answer"}
    assert (document["changes"], live_keys(settings)) == ([], [])


def test_what_cannot_be_torn_down_is_told_and_done_later(
    config: Path, settings: Settings, cloud_here: LocalCloud
) -> None:
    """3; the next teardown finds it by its tag."""
    with fault(cloud_here, service="kms", operation="ScheduleKeyDeletion", error_code="AccessDeniedException"):
        told = preflight(config, "--real", "--yes", "--json")
    document = json.loads(told.stdout)

    later = preflight(config, "--teardown", "--yes", "--json")

    assert (told.exit_code, document["torn_down"], len(document["left"])) == (3, False, 2)
    assert "ScheduleKeyDeletion: AccessDeniedException" in document["left"][0]
    assert later.exit_code == 0, later.output
    assert [one["run_id"] for one in json.loads(later.stdout)["torn_down"]] == [document["run_id"]] * 2
    path = record.folder(settings.state.dir) / f"{document['run_id']}.json"
    assert json.loads(path.read_text())["torn_down"] is True
    assert live_keys(settings) == []


# -- changes that are seen late -----------------------------------------------------------------------------------


def new_run(
    settings: Settings, asker: Asker, regions: tuple[str, ...] = REGIONS, file: ResultFile | None = None
) -> Run:
    """Return one whose file is begun, as the command begins it."""
    clock = SystemClock()
    run_id = record.run_id(clock.now_utc(), os.urandom(3))
    file = file or ResultFile(settings.state.dir, run_id)
    file.begin(run_id=run_id, account_id=settings.estate.account_id, regions=settings.estate.regions)
    return Run(
        settings=settings, asker=asker, file=file, clock=clock, run_id=run_id, regions=regions, tell=lambda _: None
    )


def answered(operation: str, code: str = "", **answer: Any) -> Seen:
    return Seen(region="us-east-1", operation=operation, code=code, answer=answer)


class Late(Asker):
    """AWS, where a change is seen late: requests are answered by what was until DescribeKey was asked so often."""

    def __init__(self, settings: Settings, change: str, looks: int, before: dict[str, Seen]) -> None:
        super().__init__(settings, SystemClock())
        self.change, self.looks, self.before = change, looks, before
        self.then: dict[str, list[Seen]] = {}
        """What is answered next, whatever the local AWS would say."""
        self.changed = False

    def pause(self, seconds: float) -> None:
        super().pause(min(seconds, 0.02))

    def ask(self, service: str, region: str, operation: str, call: Callable[[Any], Any], member: str = "") -> Seen:
        if self.changed and self.looks and operation in self.before:
            self.looks -= operation == "DescribeKey"
            return self.before[operation]
        if self.changed and self.then.get(operation):
            return self.then[operation].pop(0)
        self.changed |= operation == self.change
        return super().ask(service, region, operation, call, member)


def result_of(run: Run, wanted: str) -> tuple[str, str]:
    return next((str(one.result), one.says) for one in run.answers if one.id == wanted)


@pytest.mark.parametrize(
    ("looks", "code", "found"),
    [
        pytest.param(3, "NotFoundException", (REFUTED, "it was accepted"), id="seen-by-and-by"),
        pytest.param(
            99,
            "NotFoundException",
            (UNTOLD, "the alias is not seen: DescribeKey: NotFoundException"),
            id="never-seen",
        ),
        pytest.param(
            1,
            "AccessDeniedException",
            (UNTOLD, "the alias is not seen: DescribeKey: AccessDeniedException"),
            id="nobody-may-look",
        ),
    ],
)
def test_an_alias_that_is_not_seen_yet_confirms_nothing(
    config: Path, settings: Settings, looks: int, code: str, found: tuple[str, str]
) -> None:
    """An operation that takes aliases does not find a new one either."""
    unknown = {name: answered(name, "NotFoundException") for name in ("GetKeyPolicy", "GetKeyRotationStatus")}
    asker = Late(settings, "CreateAlias", looks, {**unknown, "DescribeKey": answered("DescribeKey", code)})
    asker.then["GetKeyPolicy"] = [answered("GetKeyPolicy", Policy="{}")]
    run = new_run(settings, asker, REGIONS[:1])

    run.ask_all()

    assert result_of(run, questions.ALIAS_KEY_POLICY) == found
    assert preflight(config, "--teardown", "--yes").exit_code == 0


IN_USE = {"DescribeKey": {"KeyMetadata": {"KeyState": "Enabled"}}, USE: {"CiphertextBlob": b"x"}}


@pytest.mark.parametrize(
    ("looks", "uses", "found"),
    [
        pytest.param(2, 0, (CONFIRMED, "KMSInvalidStateException"), id="described-late"),
        pytest.param(0, 3, (CONFIRMED, "KMSInvalidStateException"), id="used-a-little-longer"),
        pytest.param(0, 99, (REFUTED, "it was accepted"), id="used-all-the-time"),
        pytest.param(99, 0, (UNTOLD, "its deletion is scheduled and not seen: Enabled"), id="never-described"),
    ],
)
def test_a_deletion_that_is_not_seen_yet_refutes_nothing(
    config: Path, settings: Settings, looks: int, uses: int, found: tuple[str, str]
) -> None:
    """Use is asked of a key that KMS says is to go, and more than once."""
    before = {name: answered(name, **answer) for name, answer in IN_USE.items()}
    asker = Late(settings, "ScheduleKeyDeletion", looks, before)
    asker.then[USE] = [before[USE]] * uses
    run = new_run(settings, asker)

    run.ask_all()

    assert result_of(run, questions.PENDING_DELETION) == found
    assert preflight(config, "--teardown", "--yes").exit_code == 0


# -- broken off ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As the process's end is to the code: nothing may catch it."""


class DiesAt(Asker):
    """Its process dies at the `left`-th change; `lost` says whether that change still happened."""

    def __init__(self, settings: Settings, left: int, *, lost: bool) -> None:
        super().__init__(settings, SystemClock())
        self.left, self.lost = left, lost

    def ask(self, service: str, region: str, operation: str, call: Callable[[Any], Any], member: str = "") -> Any:
        if operation in CHANGES:
            self.left -= 1
            if self.left < 0:
                if self.lost:
                    super().ask(service, region, operation, call, member)
                raise Killed
        return super().ask(service, region, operation, call, member)


class FullDisk(ResultFile):
    """The disk is full when an operation's success is to be written."""

    def __init__(self, state_dir: Path, at: str) -> None:
        super().__init__(state_dir, f"full-{at}")
        self.at = at

    def changed(self, seen: Seen) -> None:
        if seen.operation == self.at and not seen.code:
            raise StateError("no space left on device")
        super().changed(seen)


@pytest.mark.parametrize(("at", "keys"), [("CreateKey", 1), ("ReplicateKey", 2)])
def test_a_key_that_could_not_be_written_down_is_known_to_the_teardown(
    config: Path, settings: Settings, cloud_here: LocalCloud, at: str, keys: int
) -> None:
    """Also where KMS does not list it."""
    asker = Asker(settings, SystemClock())
    run = new_run(settings, asker, file=FullDisk(settings.state.dir, at))
    with pytest.raises(StateError, match="no space left"):
        run.ask_all()

    with fault(cloud_here, service="kms", operation="ListKeys", error_code="AccessDeniedException"):
        swept = throwaway.sweep(asker, REGIONS, run.made)

    assert [key.run_id for key in swept.live] == [run.run_id] * keys
    preflight(config, "--teardown", "--yes")
    assert live_keys(settings) == []


@pytest.mark.slow
@pytest.mark.parametrize("lost", [pytest.param(False, id="before-it"), pytest.param(True, id="answer-lost")])
@pytest.mark.parametrize("calls", range(9))
def test_killed_at_any_change_the_teardown_finds_what_is_left(
    config: Path, settings: Settings, calls: int, *, lost: bool
) -> None:
    """By the tag alone: the file may not know of the key whose answer was lost."""
    run = new_run(settings, DiesAt(settings, calls, lost=lost))
    with pytest.raises(Killed):
        run.ask_all()

    told = preflight(config, "--teardown", "--yes")

    assert told.exit_code == 0, told.output
    assert live_keys(settings) == []
    assert json.loads(run.file.path.read_text())["torn_down"] is True


@pytest.mark.slow
def test_a_replica_that_is_being_made_is_waited_for(tmp_path: Path) -> None:
    """KMS deletes none before it is made; on AWS that takes some seconds, here three."""
    flags = ("--creating-seconds", "3")
    with start_local_aws(tmp_path / "aws", flags=flags, toxiproxy=False) as server, pytest.MonkeyPatch.context() as env:
        for name, value in server.environment().items():
            env.setenv(name, value)
        cloud = LocalCloud(server.directory, server.endpoints, server.process)
        config = cloud.config(tmp_path / "configuration", prefix="preflight")
        settings = load(config)
        run = new_run(settings, DiesAt(settings, CHANGES_UNTIL_THE_REPLICA, lost=True))
        with pytest.raises(Killed):
            run.ask_all()

        told = preflight(config, "--teardown", "--yes")

        assert told.exit_code == 0, told.output
        assert live_keys(settings) == []


CHANGES_UNTIL_THE_REPLICA = 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "then", "code"),
    [
        pytest.param(signal.SIGKILL, "--teardown", 0, id="killed-then-teardown"),
        pytest.param(signal.SIGKILL, "--real", 3, id="killed-then-run-again"),
        pytest.param(signal.SIGINT, "--teardown", 0, id="ctrl-c"),
    ],
)
def test_a_process_that_ends_in_the_middle(
    config: Path, settings: Settings, cloud_here: LocalCloud, sent: signal.Signals, then: str, code: int
) -> None:
    """Ctrl-C tears down by itself; after SIGKILL the next run or `--teardown` does."""
    with (
        fault(cloud_here, service="kms", operation="GetKeyRotationStatus", latency_ms=4500),
        fault(cloud_here, service="kms", operation="GetKeyPolicy", latency_ms=4500),  # nine seconds to catch it
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "kms_watchdog", "preflight", "--real", "--yes", "--config", str(config)],
            env=cloud_here.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: in_the_middle(settings), says="it waits for an answer")
        process.send_signal(sent)
        _, said = process.communicate(timeout=30)
    left = live_keys(settings)

    told = preflight(config, then, "--yes")

    interrupted = sent is signal.SIGINT
    assert (process.returncode, len(left)) == ((3, 0) if interrupted else (-signal.SIGKILL, 1)), said
    assert ("kms-watchdog: interrupted; torn down: yes" in said) == interrupted
    assert told.exit_code == code, told.output
    assert live_keys(settings) == []
    files = [json.loads(path.read_text()) for path in record.folder(settings.state.dir).glob("*.json")]
    assert [one["torn_down"] for one in files] == [True] * (2 if then == "--real" else 1)


def in_the_middle(settings: Settings) -> bool:
    paths = list(record.folder(settings.state.dir).glob("*.json"))
    return bool(paths) and questions.ALIAS_ENABLE_ROTATION in paths[0].read_text()


# -- what is not ours ---------------------------------------------------------------------------------------------


def make_key(settings: Settings, tags: dict[str, str], alias: str = "") -> str:
    kms = aws.client(settings, "kms", "us-east-1")
    listed = [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
    key_id = str(kms.create_key(MultiRegion=True, Tags=listed)["KeyMetadata"]["KeyId"])
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=key_id)
    return key_id


@pytest.mark.parametrize(
    ("tags", "alias", "why"),
    [
        pytest.param({}, "alias/pf-untagged", "it has no tag", id="no-tag"),
        pytest.param({TAG: "x", ESTATE_TAG: "test"}, "", "it is a key of an estate", id="an-estate's"),
        pytest.param({TAG: "x"}, "alias/pf-orders", "it is called alias/pf-orders", id="somebody's-name"),
    ],
)
def test_a_key_that_is_not_ours_is_never_destroyed(
    config: Path, settings: Settings, tags: dict[str, str], alias: str, why: str
) -> None:
    """Not by the teardown, and not by whoever names it."""
    key_id = make_key(settings, tags, alias)
    kms = aws.client(settings, "kms", "us-east-1")
    try:
        [change] = throwaway.schedule_deletion(Asker(settings, SystemClock()), "us-east-1", key_id)
        told = preflight(config, "--teardown", "--yes")

        assert change.code == REFUSED
        assert why in change.message
        assert (told.exit_code, f"left: {key_id} in us-east-1 is left alone: " in told.stderr) == (
            (3, True) if tags else (0, False)
        )
        assert kms.describe_key(KeyId=key_id)["KeyMetadata"]["KeyState"] == "Enabled"
    finally:
        kms.untag_resource(KeyId=key_id, TagKeys=[TAG])


def test_one_key_that_nobody_may_read_hides_no_region(config: Path, settings: Settings, cloud_here: LocalCloud) -> None:
    """It was there before the run, so it is none of the run's; the teardown of all that is left says so."""
    key_id = make_key(settings, {})

    with fault(
        cloud_here, service="kms", operation="ListResourceTags", key_id=key_id, error_code="AccessDeniedException"
    ):
        told = preflight(config, "--real", "--yes", "--json")
        torn = preflight(config, "--teardown", "--yes")

    document = json.loads(told.stdout)
    assert {results(document)[name] for name in ABOUT_KEYS} == {CONFIRMED}
    assert (document["torn_down"], document["left"]) == (True, [])
    assert torn.exit_code == 3
    assert torn.stderr == (
        f"left: {key_id} in us-east-1 is left alone: it cannot be told whose it is: "
        "ListResourceTags: AccessDeniedException\n"
    )


@pytest.mark.parametrize(
    ("account_id", "regions"),
    [
        pytest.param("210987654321", REGIONS, id="another-account"),
        pytest.param("123456789012", (*REGIONS, "ap-southeast-2"), id="a-region-that-is-not-looked-at"),
    ],
)
def test_a_run_is_not_torn_down_where_nobody_looked(
    config: Path, settings: Settings, account_id: str, regions: tuple[str, ...]
) -> None:
    """Its file stays open, and is named each time: 3."""
    file = ResultFile(settings.state.dir, "20260101T000000Z-aaaaaa")
    file.begin(run_id="20260101T000000Z-aaaaaa", account_id=account_id, regions=regions)

    torn = preflight(config, "--teardown", "--yes")
    told = preflight(config, "--real", "--yes")

    document = json.loads(file.path.read_text())
    assert (document["torn_down"], document["ended_at_utc"]) == (False, None)
    assert (torn.exit_code, str(file.path) in torn.stderr) == (3, True)
    assert "of earlier runs: run 20260101T000000Z-aaaaaa of another account, or of other regions" in told.stderr


def test_a_key_that_is_left_alone_is_not_torn_down(config: Path, settings: Settings) -> None:
    """Somebody has given it a name of theirs: its run's file says so, also when the next run looks."""
    run_id = "20260101T000000Z-bbbbbb"
    file = ResultFile(settings.state.dir, run_id)
    file.begin(run_id=run_id, account_id=settings.estate.account_id, regions=REGIONS)
    key_id = make_key(settings, {TAG: run_id}, "alias/pf-adopted")
    try:
        told = preflight(config, "--real", "--yes", "--json")
    finally:
        aws.client(settings, "kms", "us-east-1").untag_resource(KeyId=key_id, TagKeys=[TAG])

    kept = f"{key_id} in us-east-1 is left alone: it is called alias/pf-adopted"
    document = json.loads(file.path.read_text())
    assert (document["torn_down"], document["left"]) == (False, [kept])
    assert f"of earlier runs: {kept}\n" in told.stderr
    assert json.loads(told.stdout)["torn_down"] is True


def test_a_run_of_another_machine_is_not_disturbed_by_ours(config: Path, settings: Settings) -> None:
    """Begun a moment ago with another state folder: a run lets it be; `--teardown` is told to."""
    run_id = record.run_id(SystemClock().now_utc(), b"xyz")
    key_id = make_key(settings, {TAG: run_id}, f"{ALIAS_PREFIX}{run_id}")

    told = preflight(config, "--real", "--yes")
    beside = live_keys(settings)
    torn = preflight(config, "--teardown", "--yes")

    assert told.exit_code == 3
    assert beside == [f"{key_id} in us-east-1 (run {run_id})"]
    assert (torn.exit_code, torn.stdout) == (0, f"torn down: {key_id} in us-east-1 (run {run_id})\n")
    assert preflight(config, "--teardown", "--yes").stdout == "nothing to tear down\n"


def test_a_result_file_that_is_damaged_is_told_before_anything_is_made(config: Path, settings: Settings) -> None:
    """One line that names it; it is not written over."""
    folder = record.folder(settings.state.dir)
    folder.mkdir(parents=True)
    (folder / "20260101T000000Z-aaaaaa.json").write_text("{", encoding="utf-8")

    told = preflight(config, "--real", "--yes")

    assert told.exit_code == 3
    assert "20260101T000000Z-aaaaaa.json: not JSON; move it away" in told.stderr
    assert live_keys(settings) == []

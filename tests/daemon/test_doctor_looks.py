"""One question at a time: what is noted of each answer, and when there is no use in asking on. No AWS, no sockets."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doctor_kit import HOME, KEY_ID, given, seen
from estate_kit import FakeReader, key_in, reader_of

from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.cli import command
from kms_watchdog.config import Settings
from kms_watchdog.doctor import report
from kms_watchdog.doctor.codes import find
from kms_watchdog.doctor.diagnosis import diagnose
from kms_watchdog.doctor.examination import alongside, told_of_caller
from kms_watchdog.doctor.keys import Asker, KeyLook, WrappedKey, is_expected
from kms_watchdog.doctor.questions import Questions, SilentError
from kms_watchdog.doctor.seen import Notebook, Seen, Subject
from kms_watchdog.doctor.subjects import Wanted
from kms_watchdog.estate.access import Caller
from kms_watchdog.estate.desired import DesiredKey, desired_keys

SECRET = b"a data key in clear, 32 bytes..."
WANTED = Wanted(purpose="general", alias="alias/general")


def refusal(code: str, message: str = "", status: int = 400) -> Exception:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "req-9"},
    }
    error: Exception = aws.ClientError(response, "GenerateDataKey")
    return error


@dataclass
class Kms:
    """A client that answers every request alike, and remembers what it was asked."""

    answer: Exception | Mapping[str, Any]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def generate_data_key(self, **members: Any) -> Mapping[str, Any]:
        self.asked.append(members)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    decrypt = generate_data_key


@dataclass
class Room:
    """A look at one region, and the notebook it is written into."""

    reader: FakeReader
    kms: Kms
    notebook: Notebook = field(default_factory=Notebook)

    @property
    def questions(self) -> Questions:
        return Questions(region=HOME, notebook=self.notebook, clock=ManualClock())

    @property
    def look(self) -> KeyLook:
        return KeyLook(questions=self.questions, reader=self.reader, kms=self.kms)

    @property
    def lines(self) -> tuple[Seen, ...]:
        return self.notebook.lines([HOME])


@pytest.fixture
def wanted(settings: Settings) -> DesiredKey:
    return desired_keys(settings)[0]


@pytest.fixture
def room(wanted: DesiredKey) -> Room:
    return Room(reader_of(wanted, HOME), Kms(refusal("DryRunOperationException")))


def test_dry_runs_are_dry_and_under_the_canarys_context(room: Room) -> None:
    """Both of the canary's requests; the second only for the key that wrapped the old message."""
    wrapped = WrappedKey(key_id=KEY_ID, ciphertext=b"w", context={"canary": "true", "kind": "golden"})

    room.look.would_work(WANTED, KEY_ID, wrapped, (), Asker())
    room.look.would_work(WANTED, "mrk-another", wrapped, (), Asker())

    assert [(one["DryRun"], one["EncryptionContext"]["canary"]) for one in room.kms.asked] == [(True, "true")] * 3
    assert [line.fact("operation") for line in room.lines] == ["GenerateDataKey", "Decrypt", "GenerateDataKey"]
    assert {(line.answered, line.request_id, line.code) for line in room.lines} == {
        ("it would have worked", "req-9", "")
    }


def test_a_server_that_knows_no_dry_runs_gives_nothing_away(room: Room) -> None:
    """What it made is dropped: it stands in no line."""
    room.kms.answer = {"Plaintext": SECRET, "CiphertextBlob": b"w", "KeyId": "arn"}

    room.look.would_work(WANTED, KEY_ID, None, (), Asker())

    [line] = room.lines
    assert line.good
    assert SECRET.decode() not in str(line) + str(line.to_json())
    assert "dropped" in line.answered


def test_awss_words_are_judged_and_not_repeated(room: Room) -> None:
    """They name a session; which policy it was is what is wanted."""
    room.kms.answer = refusal("AccessDeniedException", "User: arn:…/alice … with an explicit deny in a session policy")

    room.look.would_work(WANTED, KEY_ID, None, (), Asker())

    assert room.lines[0].answered == "AccessDeniedException: an explicit deny in a session policy"
    assert room.lines[0].fact("refused_by") == "session policy"
    assert "alice" not in str(room.lines)


@pytest.mark.parametrize(
    ("error", "of_credentials"),
    [
        (aws.BotoCoreError(), False),
        (refusal("ExpiredTokenException"), True),
        (refusal("UnrecognizedClientException"), True),
    ],
    ids=["unreachable", "expired", "unknown"],
)
def test_where_there_is_no_use_in_asking_on(room: Room, error: Exception, *, of_credentials: bool) -> None:
    """Nobody answers, or nobody believes us: noted, and that is the end in this region."""
    room.kms.answer = error

    with pytest.raises(SilentError) as stopped:
        room.look.would_work(WANTED, KEY_ID, None, (), Asker())

    assert stopped.value.of_credentials is of_credentials
    assert len(room.lines) == 1


@pytest.mark.parametrize("code", ["KMSInternalException", "ThrottlingException", "DisabledException"])
def test_where_an_answer_came_the_next_question_is_asked(room: Room, code: str) -> None:
    """It says nothing of the next key."""
    room.kms.answer = refusal(code, status=500 if code.startswith("KMSInt") else 400)

    room.look.would_work(WANTED, KEY_ID, None, (), Asker())

    assert [(line.code, line.request_id) for line in room.lines] == [(code, "req-9")]


def test_an_answer_that_was_cut_off_is_none(room: Room) -> None:
    """A success without members, as botocore has it (aws.md, trap G)."""
    answered = room.questions.call(Subject.IDENTITY, "GetCallerIdentity", lambda: {"Account": "1"}, told_of_caller)

    assert answered is None
    assert [line.code for line in room.lines] == ["Truncated"]


def test_a_policy_that_cannot_be_judged_is_told_with_its_place(room: Room) -> None:
    """And is no answer."""
    room.reader.key_policy = {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "kms:${x}"}}
    assert room.reader.key is not None

    access = room.look.access(WANTED, room.reader.key, ())

    assert access is None
    assert room.lines[0].code == "PolicyError"
    assert "policy variables" in room.lines[0].answered


def test_alias_and_key_that_are_not_there(room: Room, wanted: DesiredKey) -> None:
    """Read, and nothing found: that is an answer."""
    room.reader.alias_targets, room.reader.key = {}, None

    read = room.look.alias(Wanted(purpose="general", alias=wanted.alias))
    key = room.look.key(WANTED, KEY_ID, None)

    assert read is not None
    assert (read.value, key) == (None, None)
    assert [(line.code, line.answered) for line in room.lines] == [
        ("", "alias/general does not exist"),
        ("", f"{KEY_ID} is not there"),
    ]


def test_an_alias_that_nobody_may_read_is_no_answer(room: Room, wanted: DesiredKey) -> None:
    """Neither there nor missing."""
    room.reader.fail("DescribeKey", "ThrottlingException")

    assert room.look.alias(Wanted(purpose="general", alias=wanted.alias)) is None
    assert room.look.alias(Wanted(purpose="x", key_id=KEY_ID)) is None  # asked for by its id: it has none
    assert [(line.code, line.request_id) for line in room.lines] == [("ThrottlingException", "r-1")]


def test_the_state_is_told_with_the_day_of_deletion(room: Room, wanted: DesiredKey) -> None:
    """As KMS has it."""
    room.reader.key = key_in(wanted, HOME, state="PendingDeletion", deletion_at_utc=ManualClock().now_utc())

    room.look.key(WANTED, room.reader.key.key_id, None)

    assert "is PendingDeletion, deletion on 2026-01-01 (PRIMARY)" in room.lines[0].answered


@pytest.mark.parametrize(
    ("asker", "expected"),
    [
        (Asker(), True),
        (Asker(role="App", known=True), True),
        (Asker(role="Watchdog", known=True), True),
        (Asker(role="Admin", known=True), False),
        (Asker(role="Other", known=True), False),
        (Asker(known=True), False),
    ],
)
def test_who_should_be_able_to_use_a_key(asker: Asker, *, expected: bool) -> None:
    """Its applications and the watchers; and whoever is not known, so that no refusal is explained away."""
    callers = (
        Caller(role="App", uses=True),
        Caller(role="Watchdog", uses=False, watches=True),
        Caller(role="Other", uses=False),
    )

    assert is_expected(asker, callers) is expected


def test_one_that_hangs_holds_up_no_other() -> None:
    """It is named, and left behind; what it had to do ends whenever it ends."""
    let_go, done = threading.Event(), threading.Event()
    clock = SystemClock()

    def stuck() -> None:
        let_go.wait(30)

    late = alongside({"stuck": stuck, "quick": done.set}, 0.2, clock)
    was_done = clock.wait(done, 20)
    let_go.set()

    assert "stuck" in late
    assert was_done
    assert alongside({"quick": done.set}, 20, clock) == set()


def test_the_report_tells_a_code_and_what_could_not_be_told() -> None:
    """Its nearest name, what the core does after it, where it may come from."""
    lines = [seen(Subject.POLICY, code="AccessDeniedException", purpose="pii", answered="no")]

    def text(name: str, lines: list[Seen]) -> str:
        code = find(name)
        return "\n".join(report.text(diagnose(lines, given(code=code)), lines, code, None))

    misspelt, known, above = (
        text("ThrotlingException", lines),
        text("KMSInternalException", lines),
        text("KmsCoreError", []),
    )

    assert "in no table here; did you mean ThrottlingException?" in misspelt
    assert "    1 ?? us-east-1 pii: something: no" in known
    assert "could not tell:\n  us-east-1 pii: something: no  [evidence 1]" in known
    assert "the core: asks the same region once more; asks the next region; counts it against the region" in known
    assert "it is above the others and says nothing" in above
    assert "evidence" not in above


def test_a_person_is_told_in_lines(tmp_path: Path) -> None:
    """Checks of a machine without a configuration; 1, since there is none."""
    told = CliRunner().invoke(command, ["doctor", "--prerequisites", "--config", str(tmp_path / "none.toml")])

    assert told.exit_code == 1
    assert told.stdout.splitlines()[0].startswith("good     python: 3.")
    assert f"bad      configuration: {tmp_path / 'none.toml'}" in told.stdout
    assert "\n         first: " in told.stdout

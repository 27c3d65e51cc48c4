"""Files that somebody spoilt, by accident or on purpose: each reader has one kind of error for them, of one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import START, undo_record
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kms_alarms.alarm_tests import AlarmTestError
from kms_alarms.alarm_tests import read as read_alarm_tests
from kms_chaos import drill
from kms_chaos.drill import SHIPPED, DrillError
from kms_core.config import CoreConfig
from kms_core.errors import ConfigurationError
from kms_watchdog import alarm_definitions, config
from kms_watchdog.alarm_definitions import DefinitionsError
from kms_watchdog.config import ConfigError
from kms_watchdog.costs import prices
from kms_watchdog.costs.prices import PricesError
from kms_watchdog.drills import approval, halt_order, journal, undo
from kms_watchdog.drills.approval import ApprovalError
from kms_watchdog.drills.halt_order import HaltOrderError
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecordError
from kms_watchdog.iam.files import read_files
from kms_watchdog.json_text import read_json
from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.state_folder import StateError

EXAMPLE = (Path(__file__).parents[2] / "daemon" / "watchdog.example.toml").read_text(encoding="utf-8")
DRILL = (SHIPPED / "region-blackhole.toml").read_text(encoding="utf-8")
UNCOMMENTED = "\n".join(line.removeprefix("# ") if "=" in line else line for line in EXAMPLE.splitlines())
"""Every key that there is, at its default or an example of it."""
VALUES = (
    '""', '"\\u0000"', '"\\u001b[2J"', "-1", "0", "1e400", "nan", "inf", "true", "[]", "[[]]", "{}", "{ a = 1 }",
    '"${HOME}"', '"${"', '"${NOPE}"', "1979-05-27", "07:32:00", "9223372036854775807", '["a", "a"]', '"https://[::1"',
    '"https://x:99999"',
    '"' + "a" * 5000 + '"', '"../.."', '"/"', '"~nobody"', "1" * 5000, '"s3://"', '"alias/"', '"arn:aws:kms:::"',
    '"31"',
)  # fmt: skip
LETTERS = st.sampled_from("\0\t\x1b\"'[]{}=#.\\\u202e\U0001f600a1")

DEEP_JSON, DEEP_TOML = "[" * 100_000, "a = " + "[" * 100_000
DEEP_TABLES, LONG_NUMBER = "a." * 3000 + "b = 1", "a = " + "1" * 5000


@st.composite
def spoilt(draw: st.DrawFn, text: str) -> str:
    """Return `text` with a few lines changed, doubled, taken away or broken."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                lines[where] = f"{lines[where].partition('=')[0]}= {draw(st.sampled_from(VALUES))}"
            case 1:
                lines.insert(where, lines[draw(st.integers(0, len(lines) - 1))])
            case 2 if len(lines) > 1:
                del lines[where]
            case _:
                at = draw(st.integers(0, len(lines[where])))
                lines[where] = lines[where][:at] + draw(LETTERS) + lines[where][at:]
    return "\n".join(lines)


def refusal(error: type[Exception], read: Callable[[], object]) -> str:
    """Return why `read` refused, empty where it did not; any other error is a crash."""
    try:
        read()
    except error as e:
        return str(e)
    return ""


@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(spoilt(EXAMPLE), spoilt(UNCOMMENTED)))
def test_no_configuration_crashes_its_reader(text: str, tmp_path: Path) -> None:
    """It is used, or it is refused in one line."""
    path = tmp_path / "watchdog.toml"
    path.write_text(text, encoding="utf-8")

    told = refusal(ConfigError, lambda: config.load(path, environ={"HOME": "/nowhere"}).core_config())

    assert told.isprintable(), told  # one line, and nothing of the file's moves a cursor


@hypothesis_settings(deadline=None, max_examples=150)
@given(text=spoilt(DRILL))
@example(text=DRILL.replace('kind = "blackhole"', 'kind = "\\u0000\\u001b[2J"', 1))  # pydantic repeats it as it is
def test_no_drill_file_crashes_its_reader(text: str) -> None:
    """Likewise."""
    told = refusal(DrillError, lambda: drill.parse(text, name="mine", where="mine.toml"))

    assert told.isprintable(), told


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
RECORD, _ = journal.line(seq=0, at_utc=START, t=0.0, event="run-started", fields={"drill": "x"}, prev=journal.GENESIS)
UNDO = undo_record("20260101T000000Z-region-blackhole").to_json()


@given(member=st.sampled_from(sorted(json.loads(RECORD))), value=JSON_VALUES)
def test_no_line_of_a_journal_crashes_its_reader(member: str, value: Any) -> None:
    """Any value in the place of any member: not a line of this chain."""
    raw = json.dumps({**json.loads(RECORD), member: value}).encode()

    for read in (lambda: journal.parse(raw, prev=journal.GENESIS, seq=0), lambda: journal.sequence_of(raw)):
        told = refusal(JournalError, read)
        assert told.isprintable(), told


@given(member=st.sampled_from(sorted(UNDO)), value=JSON_VALUES)
def test_no_undo_record_crashes_its_reader(member: str, value: Any) -> None:
    """A healer that fell over one record would leave the faults of all others."""
    told = refusal(UndoRecordError, lambda: undo.UndoRecord.from_json({**UNDO, member: value}))

    assert told.isprintable(), told


def halted(path: Path) -> object:
    """Read `path` as the order to halt."""
    where = halt_order.path(path.parent)
    where.parent.mkdir(exist_ok=True)
    where.write_bytes(path.read_bytes())
    return halt_order.read(path.parent)


def checked(path: Path) -> object:
    """Read `path` as policies; what cannot be read is told, not raised."""
    found = read_files([path])
    if found.not_read:
        raise ValueError("; ".join(found.not_read.values()))
    return found


@pytest.mark.parametrize(
    ("read", "error", "text"),
    [
        pytest.param(undo.read, UndoRecordError, DEEP_JSON, id="undo-record"),
        pytest.param(undo.read, UndoRecordError, "\udcff", id="undo-record-no-text"),
        pytest.param(approval.read, ApprovalError, DEEP_JSON, id="approval"),
        pytest.param(halted, HaltOrderError, DEEP_JSON, id="halt"),
        pytest.param(lambda path: journal.sequence_of(path.read_bytes()), JournalError, DEEP_JSON, id="journal"),
        pytest.param(lambda path: KeptFile(path, schema=1).read(), StateError, DEEP_JSON, id="sign-offs"),
        pytest.param(alarm_definitions.read, DefinitionsError, DEEP_JSON, id="alarms"),
        pytest.param(checked, ValueError, DEEP_JSON, id="policies"),
        pytest.param(lambda path: read_json(path.read_bytes()), ValueError, DEEP_JSON, id="json"),
        *(
            pytest.param(read, error, text, id=f"{name}-{what}")
            for name, read, error in (
                ("configuration", config.load, ConfigError),
                ("drill", lambda path: drill.find(str(path)), DrillError),
                ("prices", prices.read, PricesError),
                ("alarm-tests", read_alarm_tests, AlarmTestError),
                ("core", CoreConfig.from_toml, ConfigurationError),
            )
            for what, text in (("deep", DEEP_TOML), ("tables", DEEP_TABLES), ("long", LONG_NUMBER))
        ),
    ],
)
def test_what_is_nested_without_end_or_no_text_is_refused(
    read: Callable[[Path], object], error: type[Exception], text: str, tmp_path: Path
) -> None:
    """Python's own readers end such a file with a RecursionError, and a number of 5000 digits with a ValueError."""
    path = tmp_path / "spoilt.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")

    with pytest.raises(error) as refused:
        read(path)

    assert len(str(refused.value)) < 1000

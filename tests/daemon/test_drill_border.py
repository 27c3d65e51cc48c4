"""The files between daemon and drill: what one writes the other reads, and what was tampered with is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import START, JournalFile, undo_record, write_undo
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecordError
from kms_watchdog.drills.verdict import Claim, Judgement, Verdict

JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
FIELDS = st.dictionaries(st.text(min_size=1).filter(lambda n: n not in journal._OWN), JSON_VALUES, max_size=4)


def chain(records: list[dict[str, Any]]) -> bytes:
    raw, prev = b"", journal.GENESIS
    for seq, fields in enumerate(records):
        line, prev = journal.line(seq=seq, at_utc=START, t=float(seq), event="e", fields=fields, prev=prev)
        raw += line
    return raw


@given(st.lists(FIELDS, max_size=5), st.binary(max_size=20).filter(lambda b: b"\n" not in b))
def test_a_journal_reads_back_as_it_was_written(records: list[dict[str, Any]], torn: bytes) -> None:
    """Every field, in order; a line whose writer died is kept apart and never believed."""
    found = journal.parse_all(chain(records) + torn)

    assert [dict(record.fields) for record in found.records] == records
    assert found.torn == torn


@given(st.data())
def test_no_edit_goes_unseen(data: st.DataObject) -> None:
    """A changed byte, a line taken out, two lines swapped: refused."""
    lines = chain([{"n": i} for i in range(4)]).splitlines(keepends=True)
    at = data.draw(st.integers(0, 2))
    match data.draw(st.sampled_from(["byte", "gap", "swap"])):
        case "byte":
            spot = data.draw(st.integers(0, len(lines[at]) - 2))
            changed = lines[at][spot] ^ data.draw(st.integers(1, 127))
            lines[at] = lines[at][:spot] + bytes([changed]) + lines[at][spot + 1 :]
        case "gap":
            del lines[at]
        case _:
            lines[at], lines[at + 1] = lines[at + 1], lines[at]

    with pytest.raises(JournalError):
        journal.parse_all(b"".join(lines))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"schema": 2}, "schema 2", id="another-schema"),
        pytest.param({"at_utc": "yesterday"}, "not a journal record", id="not-a-time"),
    ],
)
def test_what_this_version_does_not_know_is_refused(change: dict[str, Any], says: str) -> None:
    """Named, with the line's number."""
    values = json.loads(chain([{}]))
    del values["hash"]
    raw = journal.canonical(journal.seal({**values, **change})) + b"\n"

    with pytest.raises(JournalError, match=says):
        journal.parse_all(raw)


@pytest.mark.parametrize("raw", [b"[]\n", b"{}\n", b"null\n", b'{"hash":1}\n', b"\xff\n", b"\n"])
def test_what_is_no_record_is_one_kind_of_error(raw: bytes) -> None:
    """Whatever a file holds."""
    with pytest.raises(JournalError):
        journal.parse_all(raw)


def test_a_field_may_not_pretend_to_be_the_lines_own() -> None:
    """Nobody sets a hash or a number by hand."""
    with pytest.raises(ValueError, match="may not be called hash"):
        journal.line(seq=0, at_utc=START, t=0, event="e", fields={"hash": "x"}, prev=journal.GENESIS)


def test_a_journal_knows_its_head_and_whether_it_is_closed(new_drill: Callable[..., JournalFile]) -> None:
    """What a healer needs to go on."""
    drill = new_drill()
    assert journal.read(drill.folder.journal).head == journal.GENESIS

    drill.begin()
    begun = journal.read(drill.folder.journal)
    drill.append("closed", by="drill", verdict=None)
    closed = journal.read(drill.folder.journal)

    assert (begun.closed, closed.closed) == (False, True)
    assert closed.head == drill.prev


def test_an_undo_record_survives_the_disk(new_drill: Callable[..., JournalFile]) -> None:
    """All of it, times and proxies too."""
    drill = new_drill()
    record = undo_record(drill.folder.run_id)

    write_undo(record, drill.folder)

    assert undo.read(drill.folder.undo) == record


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text[: len(text) // 2], id="torn"),
        pytest.param(lambda text: text.replace('"schema": 1', '"schema": 9'), id="schema"),
        pytest.param(lambda text: text.replace('"listen"', '"lisen"'), id="misspelt"),
        pytest.param(lambda _: "[]", id="not-an-object"),
    ],
)
def test_a_spoilt_undo_record_is_one_kind_of_error(
    new_drill: Callable[..., JournalFile], spoil: Callable[[str], str]
) -> None:
    """Never a KeyError from inside."""
    drill = new_drill()
    drill.folder.undo.write_text(spoil(json.dumps(undo_record("r").to_json())))

    with pytest.raises(UndoRecordError):
        undo.read(drill.folder.undo)


def test_a_folder_has_one_owner(new_drill: Callable[..., JournalFile]) -> None:
    """The lock tells whether the drill lives; it is free again when its holder lets go."""
    folder = new_drill().folder

    with folder.owned():
        held = folder.has_owner()
        with pytest.raises(FolderBusyError), folder.owned():
            pass

    assert (held, folder.has_owner()) == (True, False)


def test_only_run_ids_name_folders(tmp_path: Path, new_drill: Callable[..., JournalFile]) -> None:
    """What comes from an address never leads out of the state folder."""
    new_drill("20260102T000000Z-b")
    new_drill("20260101T000000Z-a")
    (tmp_path / "state" / "drills" / ".hidden").mkdir()
    (tmp_path / "state" / "drills" / "file").write_text("")

    assert [f.run_id for f in folders.folders(tmp_path / "state")] == ["20260101T000000Z-a", "20260102T000000Z-b"]
    assert folders.folders(tmp_path / "nowhere") == ()
    for bad in ("..", ".", "", "a/b", "../../etc", "a" * 81, "-x"):
        with pytest.raises(ValueError, match="run id"):
            folders.folder(tmp_path / "state", bad)
    with pytest.raises(ValueError, match="run id"):
        DrillFolder(tmp_path / "with space")


def test_a_verdict_has_its_exit_code_and_form() -> None:
    """0 good, 1 bad found, 3 could not tell; a judgement is JSON."""
    claim = Claim(name="bite", title="t", verdict=Verdict.HELD, finding="f", evidence=(3,))
    judgement = Judgement(
        run_id="r", drill="d", region="us-east-1", verdict=Verdict.BROKE, claims=(claim,), journal_head="h"
    )

    document = json.loads(json.dumps(judgement.to_json()))

    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 3]
    assert document["verdict"] == "BROKE"
    assert document["claims"][0]["evidence"] == [3]

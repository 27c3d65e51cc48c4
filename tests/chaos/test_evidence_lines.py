"""What is wrong with a journal is said line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence_kit import STARTED, write_journal
from hypothesis import given
from hypothesis import strategies as st

from kms_chaos.evidence.lines import flaws
from kms_watchdog.drills import journal


def chain(count: int, text: str = "x") -> list[bytes]:
    lines, prev = [], journal.GENESIS
    for seq in range(count):
        raw, prev = journal.line(seq=seq, at_utc=STARTED, t=seq, event="x", fields={"text": f"{text}{seq}"}, prev=prev)
        lines.append(raw)
    return lines


LINES = chain(6)
EDITED = LINES[2].replace(b"x2", b"y2")
REHASHED = chain(3, "z")[2]
SEQ_9 = b'{"event":"x","hash":"%s","prev":"%s","schema":1,"seq":9,"t":0}\n' % (b"1" * 64, b"2" * 64)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(LINES, [], id="whole"),
        pytest.param([], [], id="empty"),
        pytest.param([*LINES, b'{"torn'], [], id="torn"),
        pytest.param([*LINES[:2], EDITED, *LINES[3:]], ["line 3 (seq 2): edited"], id="edited"),
        pytest.param([*LINES[:2], *LINES[3:]], ["seq 2 is missing"], id="missing"),
        pytest.param(LINES[1:], ["seq 0 is missing"], id="first-missing"),
        pytest.param([LINES[0], *LINES[4:]], ["seq 1 to 3 are missing"], id="several-missing"),
        pytest.param([*LINES[:2], LINES[3], LINES[2], *LINES[4:]], ["line 4 (seq 2): re-ordered"], id="re-ordered"),
        pytest.param([*LINES[:3], *LINES[2:]], ["line 4 (seq 2): repeats the number of line 3"], id="twice"),
        pytest.param([*LINES[:2], b"{}\n", *LINES[3:]], ["line 3: is no journal record"], id="no-record"),
        pytest.param([*LINES[:2], b"\n", *LINES[3:]], ["line 3: is no journal record"], id="blank"),
        pytest.param([*LINES, SEQ_9], ["line 7 (seq 9): edited", "seq 6 to 8 are missing"], id="far"),
    ],
)
def test_each_flaw_is_named(lines: list[bytes], found: list[str]) -> None:
    """With the line's number as an editor shows it, and `seq` as other files refer to it; nothing else is named."""
    named = flaws(b"".join(lines))

    assert len(named) == len(found), named
    assert all(says.startswith(wanted) for says, wanted in zip(named, found, strict=True)), named


def test_a_line_in_anothers_place_is_named() -> None:
    """Edited and hashed anew: the next line gives it away."""
    named = flaws(b"".join([*LINES[:2], REHASHED, *LINES[3:]]))

    assert any(says.startswith("line 3 (seq 2): does not follow") for says in named)
    assert any(says.startswith("line 4 (seq 3): does not follow") for says in named)


def test_a_number_beyond_sense_costs_nothing() -> None:
    """Whoever edits a journal cannot make its reader count to it."""
    absurd = b'{"event":"x","hash":"%s","prev":"%s","seq":%d}\n' % (b"1" * 64, b"2" * 64, 10**15)

    assert any("seq 6 to 999999999999999 are missing" in says for says in flaws(b"".join([*LINES, absurd])))


@given(at=st.integers(min_value=0, max_value=sum(map(len, LINES)) - 1), bit=st.integers(min_value=0, max_value=7))
def test_no_bit_changes_unseen(at: int, bit: int) -> None:
    """In whole lines; what makes the last newline another byte leaves a torn line, which is never believed."""
    raw = bytearray(b"".join(LINES))
    raw[at] ^= 1 << bit

    whole = bytes(raw).rpartition(b"\n")[2] == b""
    assert flaws(bytes(raw)) or not whole


@given(order=st.permutations(range(6)))
def test_no_order_but_one_is_good(order: list[int]) -> None:
    """And taking lines from the end is not seen by the chain: the signature and the next drill see it."""
    shuffled = b"".join(LINES[each] for each in order)

    assert (flaws(shuffled) == ()) == (order == sorted(order))
    assert flaws(b"".join(LINES[:4])) == ()


def test_the_reader_and_the_flaws_agree(tmp_path: Path) -> None:
    """A journal that the judge refuses has a flaw, and one that it takes has none."""
    path = tmp_path / "journal.ndjson"
    write_journal(path, [("a", {"text": 'a "hash":"b", ü'}), ("b", {"number": 1e-7}), ("c", {"hashes": {"hash": "x"}})])
    raw = path.read_bytes()

    assert flaws(raw) == ()
    assert len(journal.parse_all(raw).records) == 3
    spaced = raw.replace(b'"t":1.0', b'"t": 1.0')
    assert flaws(spaced)
    with pytest.raises(journal.JournalError, match="edited"):
        journal.parse_all(spaced)


def test_a_member_twice_is_seen() -> None:
    """Readers of JSON differ in which of two they believe; the bytes do not."""
    raw = LINES[0].replace(b'"text":"x0"', b'"text":"x0","text":"x0"')

    assert json.loads(raw) == json.loads(LINES[0])
    assert flaws(raw)

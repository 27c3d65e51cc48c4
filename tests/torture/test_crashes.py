"""A crash before and after every operation on the disk and every request: what the product makes of what each leaves.

The full run is `python tests/torture crashes`. KMS_WATCHDOG_CRASH_SEED chooses what is drawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_census import sites
from crash_drill import RUN_ID, Ground, ground, journal_is_wrong, look, look_at_archive
from crash_figures import table
from crash_runs import PROTOCOLS, Runs
from crash_sites import Crash
from crash_strace import why_not
from crash_trace import Op
from evidence_kit import make_run

from kms_chaos.testing import END, Story, held_story, of
from kms_watchdog.drills.folder import folder
from kms_watchdog.drills.journal import JournalError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.heavy,
    pytest.mark.minutes(5),
    pytest.mark.timeout(3000),
    pytest.mark.skipif(bool(why_not()), reason=f"no process can be traced here: {why_not()}"),
]

SEED = int(os.environ.get("KMS_WATCHDOG_CRASH_SEED", "20261201"))
NOT_TRACED = {
    "durable.py write: unlink": "of a draft, when it could not be written",
    "tables.py upgrade: DELETE FROM results": "of the file of an older version, once",
    "tables.py upgrade: UPDATE results SET": "as above",
    "tables.py upgrade: write": "as above",
    "toxiproxy.py remove_toxic: _call": "from a proxy that the drill did not make; its own it replaces, and deletes",
}
"""Places that change a disk or a Toxiproxy, and no traced run comes by; each with when it would."""


def test_a_crash_at_any_site_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    """Queue, history, ledger, documents, journals; a drill, its healer, its archive: all traced, all crashed."""
    runs = Runs(folder=tmp_path, seed=SEED, drawn=1)

    runs.run([name for name in PROTOCOLS if name != "apply"])  # that is test_provision_estate's

    came_by, others = runs.census()
    print(table(runs.protocols), json.dumps(runs.to_json(), indent=1), sep="\n")
    assert runs.findings == []
    assert runs.wrong == 0
    assert set(runs.protocols) == set(PROTOCOLS) - {"apply"}
    assert all(each.operations["write"] and each.operations["fsync"] for each in runs.protocols.values())
    assert runs.protocols["drill"].operations["request"] > 10
    assert {site.name for site in others} <= set(NOT_TRACED), others
    assert len(came_by) > 60


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Ground]:
    with ground(tmp_path) as made:
        yield made


def crash(*requests: Op, said: tuple[bytes, ...] = ()) -> Crash:
    return Crash(model="kill", number=1, last="nothing", tree={}, said=said, requests=requests)


def request(method: str, path: str, **body: object) -> Op:
    return Op(kind="request", method=method, path=path, content=json.dumps(body).encode())


def test_what_a_crash_must_not_leave_is_noticed(here: Ground) -> None:
    """Done on purpose, one after the other."""
    name = f"kmswd.{RUN_ID}.us-east-1"
    made = request("POST", "/proxies", name=name, listen="127.0.0.1:0", upstream="127.0.0.1:9", enabled=True)

    assert look(here, crash()) == []
    assert noticed(look(here, crash(made)), "no undo record names", "Toxiproxy has")
    assert look(here, crash(made, request("DELETE", f"/proxies/{name}"))) == []
    assert noticed(look(here, crash(), before=b"a line\n"), "lines that were on disk are gone")


def test_a_journal_that_says_what_it_does_not_prove_is_noticed(tmp_path: Path) -> None:
    """A verdict that its lines do not bear out, or that nobody gave; no end; a fault without its undo record."""
    where = folder(tmp_path, RUN_ID)
    where.path.mkdir(parents=True)
    where.verdict.touch()
    held = held_story().add(END, "verdict", verdict="HELD").add(END + 1, "closed", by="drill", verdict="HELD")

    def told(story: Story, before: bytes = b"") -> list[str]:
        where.journal.write_bytes(story.raw())
        return list(journal_is_wrong(where, before))

    assert told(held) == []
    assert noticed(told(held.without(of("fault-removed"))), "its journal said ['HELD']")
    assert noticed(told(held.without(of("verdict"))), "judged HELD, its journal said []", "verdict.json is there: True")
    assert noticed(told(held.without(of("closed"))), "is not closed once")
    assert noticed(told(held.without(of("undo-recorded"))), "before it no undo record")
    assert noticed(told(held, b"another line\n"), "healing took lines away")
    where.journal.write_bytes(held.raw().replace(b"HELD", b"HELP", 1))
    with pytest.raises(JournalError):
        list(journal_is_wrong(where, b""))


def test_an_archive_that_is_neither_old_nor_whole_is_noticed(here: Ground) -> None:
    """Half of one; and the old one, once it was told that there is a new one."""
    make_run(here.lane.state / "drills", RUN_ID)
    path = here.folder / "evidence.zip"

    path.write_bytes(b"PK")
    assert noticed(look_at_archive(here, crash(), b"old"), "neither the old one nor a whole one")
    whole = path.read_bytes()
    assert not noticed(look_at_archive(here, crash(said=(b"made",)), b"old"), "the archive is")
    assert noticed(look_at_archive(here, crash(said=(b"made",)), whole), "it had been told")


def noticed(told: list[str], *wanted: str) -> bool:
    """Whether each is among what was told."""
    return all(any(each in one for one in told) for each in wanted)


def test_every_place_that_changes_something_is_counted() -> None:
    """By name and line: files, names, requests, and what changes rows."""
    found = {site.name for site in sites()}

    assert {
        "durable.py sync_folder: fsync", "durable.py move: replace", "store.py _write_once: link",
        "heal.py _cut: ftruncate", "toxiproxy.py create: _call", "queue.py _put: INSERT INTO waiting",
    } <= found  # fmt: skip

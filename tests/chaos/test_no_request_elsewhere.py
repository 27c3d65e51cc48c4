"""Whom a healer asks: the configured Toxiproxy or one on this machine, whatever an undo record says, and only its own.

The record is a file in the state folder, and so is the journal that holds its copy: data, as far as healing goes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_server import Canary, listening
from click.testing import CliRunner

from kms_chaos import heal, undo_record
from kms_chaos.cli import cli
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.testing import RUN_ID, STARTED, held_story, of
from kms_core.testing import ManualClock
from kms_watchdog.drills import undo
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord, UndoRecordError

OURS = f"kmswd.{RUN_ID}.us-east-1"


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listening() as found:
        yield found


@pytest.fixture
def where(tmp_path: Path) -> DrillFolder:
    found = folder(tmp_path / "state", RUN_ID)
    found.path.mkdir(parents=True)
    return found


def record(url: str, **proxy: Any) -> UndoRecord:
    values: dict[str, Any] = {
        "name": OURS, "region": "us-east-1", "listen": "", "upstream": "127.0.0.1:9", "made_by_drill": True, **proxy,
    }  # fmt: skip
    return UndoRecord(
        run_id=RUN_ID, drill="region-blackhole", toxiproxy_url=url, created_at_utc=STARTED, expires_at_utc=STARTED,
        proxies=(ProxyUndo(**values),),
    )  # fmt: skip


def asked_by_healing(where: DrillFolder, **more: Any) -> type[Exception] | None:
    try:
        heal.heal(where, ManualClock(start_utc=STARTED, auto_advance=True), **more)
    except (UndoRecordError, ToxiproxyError) as e:
        return type(e)
    return None


def test_a_server_that_nobody_configured_is_not_asked(where: DrillFolder, canary: Canary) -> None:
    """By the record, and by the journal's copy of it; a person is told, and the run stays open."""
    url = f"http://{canary.digits}"
    undo_record.write(where, record(url))
    with_record = asked_by_healing(where, toxiproxy_url="http://127.0.0.1:8474")
    where.undo.unlink()
    where.journal.write_bytes(
        held_story().changed(of("undo-recorded"), undo=record(url).to_json()).without(of("closed")).raw()
    )
    with_journal = asked_by_healing(where, toxiproxy_url="http://127.0.0.1:8474")

    assert (with_record, with_journal, canary.asked) == (UndoRecordError, UndoRecordError, [])
    assert heal.open_runs(where.path.parents[1]) == (where,)


def test_the_configured_server_is_asked_wherever_it_is(where: DrillFolder, canary: Canary) -> None:
    """This is also what shows that the canary sings."""
    url = f"http://{canary.digits}"
    undo_record.write(where, record(url))

    assert asked_by_healing(where, toxiproxy_url=url) is None
    assert canary.asked[0] == "GET /proxies"


def test_one_whose_time_is_up_is_not_asked_elsewhere_either(where: DrillFolder, canary: Canary) -> None:
    """Its owner lives, so that the journal is not touched: the same rule holds."""
    undo_record.write(where, record(f"http://{canary.digits}"))

    with where.owned():
        outcome = asked_by_healing(where, toxiproxy_url="http://127.0.0.1:8474")

    assert (outcome, canary.asked) == (UndoRecordError, [])


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param({"toxiproxy_url": "http://127.0.0.1:8474@203.0.113.7:80"}, id="user-part"),
        pytest.param({"toxiproxy_url": "http://127.0.0.1:8474/x?y"}, id="path"),
        pytest.param({"toxiproxy_url": "http://127.0.0.1:99999"}, id="no-such-port"),
        pytest.param({"toxiproxy_url": "file:///etc/passwd"}, id="file"),
        pytest.param({"toxiproxy_url": "gopher://127.0.0.1:8474"}, id="another-scheme"),
        pytest.param({"toxiproxy_url": ""}, id="empty"),
        pytest.param({"toxiproxy_url": 7}, id="number"),
        pytest.param({"name": "../../reset"}, id="a-path-for-a-name"),
        pytest.param({"name": ".."}, id="upwards"),
        pytest.param({"name": f"{OURS}?x"}, id="a-query-for-a-name"),
        pytest.param({"name": f"{OURS}\r\nX: y"}, id="a-header-for-a-name"),
        pytest.param({"name": 7}, id="no-text"),
        pytest.param({"toxics": ["../../reset"]}, id="a-path-for-a-toxic"),
        pytest.param({"name": "production-db"}, id="a-proxy-that-no-drill-makes"),
    ],
)
def test_a_record_that_no_drill_writes_is_refused(where: DrillFolder, hostile: dict[str, Any]) -> None:
    """Before anything is asked; in one line that can be printed. Somebody else's proxy is not deleted for a drill's."""
    values = record("http://127.0.0.1:1").to_json()
    values["toxiproxy_url"] = hostile.get("toxiproxy_url", values["toxiproxy_url"])
    values["proxies"][0] |= {name: value for name, value in hostile.items() if name != "toxiproxy_url"}
    where.undo.write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(UndoRecordError) as refused:
        undo.read(where.undo)

    assert str(refused.value).isprintable()


def test_somebodys_proxy_may_be_named_to_be_put_back(where: DrillFolder) -> None:
    """As DESIGN has it: one that the drill did not make gets back what it was."""
    theirs = record("http://127.0.0.1:1", name="theirs", made_by_drill=False)
    undo_record.write(where, theirs)

    assert undo.read(where.undo) == theirs


def test_the_command_says_whom_it_did_not_ask(make_offline: Callable[[], Path], canary: Canary) -> None:
    """Exit code 1: something is not undone, and why."""
    config = make_offline()
    found = folder(config.parent / "state", RUN_ID)
    found.path.mkdir(parents=True)
    undo_record.write(found, dataclasses.replace(record(f"http://{canary.digits}")))

    healed = CliRunner().invoke(cli, ["heal", "--config", str(config)])

    assert (healed.exit_code, canary.asked) == (1, [])
    assert "[drills] toxiproxy_url" in healed.stderr


@pytest.fixture
def make_offline(tmp_path: Path) -> Callable[[], Path]:
    def make() -> Path:
        path = tmp_path / "watchdog.toml"
        path.write_text(
            '[estate]\naccount_id = "123456789012"\nprimary_region = "us-east-1"\n'
            'regions = ["us-east-1", "us-west-2"]\n[keys.general]\nalias = "alias/a"\n[state]\ndir = "state"\n',
            encoding="utf-8",
        )
        return path

    return make

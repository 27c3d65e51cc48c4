"""What the engine gets: evidence that is looked at before anything is touched, and that never changes a verdict."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from evidence_kit import BUCKET, STARTED, MoodyStore, make_bucket, make_run, moto_aws, private_key_file, write_config

from kms_chaos import drill
from kms_chaos.evidence.keeper import Keeper
from kms_chaos.evidence.signing import SigningRefusedError, signer
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.run import Run, plan
from kms_core.testing import ManualClock
from kms_watchdog.config import Endpoint, Settings, load
from kms_watchdog.drills import journal
from kms_watchdog.evidence.store import StoreRefusedError

pytestmark = pytest.mark.slow  # each keeps a whole drill

__all__ = ["moto_aws"]


def a_run(settings: Settings, clock: ManualClock) -> Run:
    """Return a run whose KMS does not answer: nothing here is to wait for one."""
    dark = {region: Endpoint(kms="https://127.0.0.1:1") for region in settings.estate.regions}
    settings = settings.model_copy(update={"endpoints": {**dark, **settings.endpoints}})
    return plan(settings, drill.find("region-blackhole"), region=None, clock=clock, run_id="20270101T000000Z-me")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=STARTED + timedelta(days=40))


def test_without_configuration_the_journal_says_so(tmp_path: Path, clock: ManualClock) -> None:
    """The state folder only, unsigned; and the drill before is named all the same."""
    before = make_run(tmp_path / "state" / "drills")

    about = Keeper.open(a_run(load(write_config(tmp_path)), clock)).about()

    assert about["evidence"] == {"store": None, "store_state": "state folder only", "signing": None}
    assert about["previous"]["run_id"] == before.run_id
    assert about["previous_sought_in"] == ["state"]
    assert about["clock"]["kms_offset"] is None
    assert len(about["config_fingerprint"]) == 12


@pytest.mark.usefixtures("moto_aws")
def test_an_unfit_store_refuses_and_one_out_of_reach_does_not(tmp_path: Path, clock: ManualClock) -> None:
    """An outage of S3 is no reason to leave a drill undone; a bucket that could lose evidence is."""
    config = write_config(tmp_path, f'store = "s3://{BUCKET}"')
    make_bucket(load(config), lock=False)
    with pytest.raises(StoreRefusedError, match="Object Lock"):
        Keeper.open(a_run(load(config), clock))

    dark = load(config).model_copy(update={"endpoints": {"us-east-1": Endpoint(s3="https://127.0.0.1:1")}})
    about = Keeper.open(a_run(dark, clock)).about()

    assert about["evidence"]["store"] == f"s3://{BUCKET}"
    assert "EndpointConnectionError" in about["evidence"]["store_state"]
    assert about["previous_sought_in"] == ["state"]


def test_a_key_that_cannot_sign_this_run_refuses(tmp_path: Path, clock: ManualClock) -> None:
    """Before anything is touched."""
    config = write_config(tmp_path, 'signing = {kind = "kms", key_id = "alias/x", regions = ["us-east-1"]}')

    with pytest.raises(SigningRefusedError, match="hurts us-east-1"):
        Keeper.open(a_run(load(config), clock))


def test_what_fails_while_streaming_is_in_the_journal_and_nothing_is_after_it(
    tmp_path: Path, clock: ManualClock, wait_until: Any
) -> None:
    """A closed journal takes no more lines: then it is in the log."""
    private_key_file(tmp_path)
    signing = 'signing = {kind = "ed25519", private_key_file = "9d61b19d.pem"}'
    run = a_run(load(write_config(tmp_path, f"segment_seconds = 0.2\n{signing}")), clock)
    store = MoodyStore(tmp_path / "kept")
    keeper = Keeper(run, store, "ready", signer(run.settings))
    run.folder.path.mkdir(parents=True)
    with JournalWriter(run.folder.journal, clock) as writer:
        writer.append_now("run-started", run_id=run.run_id, **keeper.about())
        store.down = True
        with keeper.streaming(writer, writer.append):
            clock.advance(1)
            wait_until(lambda: len(journal.read(run.folder.journal).records) > 1, 20.0, "the failure in the journal")
        writer.append_now("closed", by="drill", verdict="HELD")
        keeper.finish()

    events = [record.event for record in journal.read(run.folder.journal).records]
    assert events == ["run-started", "evidence-failing", "closed"]
    assert run.folder.signature.exists()

    store.down = False
    keeper.finish()
    assert f"runs/{run.run_id}/manifest.json" in store.sizes()


def test_earlier_runs_are_sent_with_this_one(tmp_path: Path, clock: ManualClock) -> None:
    """What the store did not take then."""
    earlier = make_run(tmp_path / "state" / "drills")
    run = a_run(load(write_config(tmp_path)), clock)
    store = MoodyStore(tmp_path / "kept")
    make_run(tmp_path / "state" / "drills", run.run_id)

    Keeper(run, store, "ready", None).finish()

    assert store.folders("runs") == (earlier.run_id, run.run_id)

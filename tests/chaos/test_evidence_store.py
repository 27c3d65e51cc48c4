"""Stores: what is kept is whole, is never written over, and a bucket that could lose it is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from evidence_kit import BUCKET, STARTED, make_bucket, moto_aws, write_config

from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import ConflictError, DirStore, Store, StoreError, StoreRefusedError

pytestmark = pytest.mark.slow  # each with a bucket of its own

__all__ = ["moto_aws"]


def in_bucket(folder: Path, more: str = "") -> Settings:
    return load(write_config(folder, f'store = "s3://{BUCKET}/kms"\n{more}'))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=STARTED)


@pytest.fixture(params=["dir", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Store:
    """Either kind, empty."""
    if request.param == "s3":
        request.getfixturevalue("moto_aws")
        settings = in_bucket(tmp_path)
        make_bucket(settings)
    else:
        settings = load(write_config(tmp_path, f'store = "dir:{tmp_path}/kept"'))
    opened = open_store(settings, clock)
    assert opened is not None
    opened.check()
    return opened


def test_what_is_put_is_there(store: Store) -> None:
    """Bytes, sizes and folders."""
    store.put("runs/a/segments/000000.ndjson", b"\x00one")
    store.put("runs/b/journal.ndjson", b"two\n")
    store.put("golden/pii/1.json", b"3")

    assert store.get("runs/a/segments/000000.ndjson") == b"\x00one"
    assert store.sizes() == {"golden/pii/1.json": 1, "runs/a/segments/000000.ndjson": 4, "runs/b/journal.ndjson": 4}
    assert list(store.sizes("runs/b/")) == ["runs/b/journal.ndjson"]
    assert store.folders("runs") == ("a", "b")
    assert store.folders("nothing") == ()
    assert store.remarks() == {}


def test_nothing_is_written_over(store: Store) -> None:
    """The same again is no error, as after an answer that was lost; anything else is."""
    store.put("runs/a/verdict.json", b"HELD")
    store.put("runs/a/verdict.json", b"HELD")

    with pytest.raises(ConflictError, match="something else is there"):
        store.put("runs/a/verdict.json", b"BROKE")

    assert store.get("runs/a/verdict.json") == b"HELD"


def test_what_is_not_there_is_told(store: Store) -> None:
    """Never an empty file."""
    with pytest.raises(StoreError, match=r"runs/a/nothing\.json"):
        store.get("runs/a/nothing.json")


@pytest.mark.slow
def test_many_objects_are_all_listed(store: Store) -> None:
    """S3 lists a thousand at a time."""
    for number in range(1005):
        store.put(f"runs/a/segments/{number:06d}", b"x")

    assert len(store.sizes("runs/a/")) == 1005


def test_a_folder_keeps_whole_files_that_nobody_edits_by_accident(tmp_path: Path) -> None:
    """Read-only, no drafts left, and no way out of the folder."""
    store = DirStore(tmp_path / "kept")
    store.put("runs/a/x", b"1")

    assert [p.name for p in (tmp_path / "kept/runs/a").iterdir()] == ["x"]
    assert (tmp_path / "kept/runs/a/x").stat().st_mode & 0o222 == 0
    with pytest.raises(StoreRefusedError):
        store.put("../elsewhere", b"1")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Before a drill begins."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreRefusedError, match="cannot be made"):
        DirStore(tmp_path / "file" / "kept").check()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda s: make_bucket(s, lock=False, versions=False), "keeps no versions", id="no-versions"),
        pytest.param(lambda s: make_bucket(s, lock=False), "has no Object Lock", id="no-lock"),
        pytest.param(lambda _: None, "NoSuchBucket", id="no-bucket"),
    ],
)
@pytest.mark.usefixtures("moto_aws")
def test_a_bucket_that_could_lose_evidence_is_refused(
    tmp_path: Path, clock: ManualClock, make: Callable[[Settings], Any], says: str
) -> None:
    """At the start, and with the reason."""
    settings = in_bucket(tmp_path)
    make(settings)
    store = open_store(settings, clock)
    assert store is not None

    with pytest.raises(StoreRefusedError, match=says):
        store.check()


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
@pytest.mark.usefixtures("moto_aws")
def test_every_object_has_its_own_retention(tmp_path: Path, clock: ManualClock, mode: str) -> None:
    """Seven years from when it was put, unless told; a version cannot be deleted before."""
    settings = in_bucket(tmp_path, f'object_lock = "{mode}"')
    s3, store = make_bucket(settings), open_store(settings, clock)
    assert store is not None
    store.put("runs/a/verdict.json", b"HELD")

    kept = s3.head_object(Bucket=BUCKET, Key="kms/runs/a/verdict.json")

    assert kept["ObjectLockMode"] == mode
    assert kept["ObjectLockRetainUntilDate"] == STARTED + timedelta(days=2557)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=BUCKET, Key="kms/runs/a/verdict.json", VersionId=kept["VersionId"])


@pytest.mark.usefixtures("moto_aws")
def test_the_first_version_is_what_counts(tmp_path: Path, clock: ManualClock) -> None:
    """Who may write to the bucket can put another version, or hide it; both show, and neither changes what is read."""
    settings = in_bucket(tmp_path)
    s3, store = make_bucket(settings), open_store(settings, clock)
    assert store is not None
    store.put("runs/a/over.json", b"first")
    store.put("runs/a/gone.json", b"first")

    s3.put_object(Bucket=BUCKET, Key="kms/runs/a/over.json", Body=b"second, and longer")
    s3.delete_object(Bucket=BUCKET, Key="kms/runs/a/gone.json")

    assert (store.get("runs/a/over.json"), store.get("runs/a/gone.json")) == (b"first", b"first")
    assert store.sizes() == {"runs/a/gone.json": 5, "runs/a/over.json": 5}
    remarks = store.remarks()
    assert "deleted" in remarks["runs/a/gone.json"]
    assert "2 versions" in remarks["runs/a/over.json"]
    assert store.folders("runs") == ("a",)


@pytest.mark.usefixtures("moto_aws")
def test_who_may_not_is_refused_and_who_cannot_is_told(tmp_path: Path, clock: ManualClock) -> None:
    """A bucket that is not there asks for a person; an outage asks for patience."""
    store = open_store(in_bucket(tmp_path), clock)
    assert store is not None
    with pytest.raises(StoreRefusedError, match="NoSuchBucket"):
        store.put("x", b"")

    dark = load(write_config(tmp_path, f'store = "s3://{BUCKET}"'))
    dark = dark.model_copy(update={"endpoints": {"us-east-1": dark_endpoint()}})
    unreachable = open_store(dark, clock)
    assert unreachable is not None
    with pytest.raises(StoreError) as told:
        unreachable.check()
    assert not isinstance(told.value, StoreRefusedError)


def dark_endpoint() -> Any:
    from kms_watchdog.config import Endpoint  # noqa: PLC0415 - the one test that needs it

    return Endpoint(s3="https://127.0.0.1:1")


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        pytest.param('store = "dir:relative"', "dir:/ABSOLUTE/PATH", id="relative"),
        pytest.param('store = "s3://UPPER/x"', "s3://BUCKET/PREFIX", id="no-bucket-name"),
        pytest.param('store = "ftp://x"', "s3://BUCKET/PREFIX", id="kind"),
        pytest.param("retention_days = 0", "retention_days", id="no-retention"),
        pytest.param('signing = {kind = "ed25519"}', "needs private_key_file", id="no-key"),
        pytest.param('signing = {kind = "kms", key_id = "alias/x"}', "needs regions", id="no-region"),
        pytest.param(
            'signing = {kind = "ed25519", private_key_file = "x", key_id = "y"}', "knows no key_id", id="surplus"
        ),
        pytest.param(
            'signing = {kind = "kms", key_id = "a b", regions = ["us-east-1"]}', "a key's id, alias or ARN", id="key"
        ),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, evidence: str, says: str) -> None:
    """In one line, before anything begins."""
    with pytest.raises(ValueError, match=says) as refused:
        load(write_config(tmp_path, evidence))

    assert "\n" not in str(refused.value)


def test_the_key_file_counts_from_the_configurations_folder(tmp_path: Path) -> None:
    """As every path does."""
    path = write_config(tmp_path, 'signing = {kind = "ed25519", private_key_file = "key.pem"}')

    signing = load(path).drills.evidence.signing

    assert signing is not None
    assert signing.private_key_file == tmp_path / "key.pem"


def test_without_a_store_there_is_none(tmp_path: Path, clock: ManualClock) -> None:
    """The default: the state folder alone."""
    assert open_store(load(write_config(tmp_path)), clock) is None
    with pytest.raises(StoreRefusedError):
        open_store(load(write_config(tmp_path)), clock, "ftp://x")

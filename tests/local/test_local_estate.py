"""The estate on made-up times, without wire: deletion windows, ciphertexts, what is logged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_local import request_log
from kms_local.kms import aliases, cryptography, lifecycle, rotation
from kms_local.kms.call import Call
from kms_local.kms.ciphertext import encode_context, open_sealed, parse, seal
from kms_local.kms.keys import Estate, Family, Material, make_estate
from kms_local.request_log import Entry, RequestLog
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

NOON, DAY = 1_800_000_000.0, 86_400.0
OPERATIONS = {
    **lifecycle.OPERATIONS,
    **cryptography.OPERATIONS,
    **aliases.OPERATIONS,
    **rotation.OPERATIONS,
}
CONTEXTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4)


def ask(estate: Estate, region: str, operation: str, now: float = NOON, **members: Any) -> dict[str, Any]:
    """Call one operation at a made-up time."""
    estate.settle(now)
    call = Call(
        estate=estate,
        region=estate.regions[region],
        params=Params(members),
        now=now,
        entropy=random.Random(now).randbytes,
    )
    return OPERATIONS[operation](call)


@pytest.fixture
def estate() -> Estate:
    return make_estate("123456789012", ("us-east-1", "us-west-2"), creating_seconds=2.0)


@pytest.fixture
def key(estate: Estate) -> str:
    """A multi-Region key with a replica that is Enabled from NOON + 2 s on."""
    key_id = str(ask(estate, "us-east-1", "CreateKey", MultiRegion=True)["KeyMetadata"]["KeyId"])
    ask(estate, "us-east-1", "ReplicateKey", KeyId=key_id, ReplicaRegion="us-west-2")
    return key_id


def state(estate: Estate, region: str, key_id: str, now: float) -> str:
    return str(ask(estate, region, "DescribeKey", now, KeyId=key_id)["KeyMetadata"]["KeyState"])


def test_a_replica_leaves_creating_by_itself(estate: Estate, key: str) -> None:
    """Not before its time, and not later."""
    assert state(estate, "us-west-2", key, NOON + 1.9) == "Creating"
    assert state(estate, "us-west-2", key, NOON + 2.0) == "Enabled"


def test_a_deleted_key_is_gone_with_its_aliases(estate: Estate) -> None:
    """At the end of its window the key does not exist, and neither does its name."""
    key_id = ask(estate, "us-east-1", "CreateKey")["KeyMetadata"]["KeyId"]
    ask(estate, "us-east-1", "CreateAlias", AliasName="alias/x", TargetKeyId=key_id)
    ask(estate, "us-east-1", "ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)

    assert state(estate, "us-east-1", key_id, NOON + 7 * DAY - 1) == "PendingDeletion"
    with pytest.raises(ServiceError, match="does not exist"):
        state(estate, "us-east-1", key_id, NOON + 7 * DAY)
    with pytest.raises(ServiceError, match="is not found"):
        state(estate, "us-east-1", "alias/x", NOON + 7 * DAY)


def test_a_primarys_window_begins_when_its_last_replica_is_gone(estate: Estate, key: str) -> None:
    """It waits in PendingReplicaDeletion as long as a replica exists, however long."""
    later = NOON + 10
    ask(estate, "us-east-1", "ScheduleKeyDeletion", later, KeyId=key, PendingWindowInDays=7)
    assert state(estate, "us-east-1", key, later + 100 * DAY) == "PendingReplicaDeletion"

    ask(estate, "us-west-2", "ScheduleKeyDeletion", later + 100 * DAY, KeyId=key, PendingWindowInDays=30)

    assert state(estate, "us-east-1", key, later + 129 * DAY) == "PendingReplicaDeletion"
    assert state(estate, "us-east-1", key, later + 130 * DAY) == "PendingDeletion"
    with pytest.raises(ServiceError, match="does not exist"):
        state(estate, "us-east-1", key, later + 137 * DAY)


def test_rotation_names_its_next_date(estate: Estate, key: str) -> None:
    """The date is the period after the switch; while pending deletion there is none."""
    ask(estate, "us-east-1", "EnableKeyRotation", KeyId=key, RotationPeriodInDays=100)
    found = ask(estate, "us-west-2", "GetKeyRotationStatus", NOON + 5, KeyId=key)
    assert found["NextRotationDate"] == NOON + 100 * DAY

    ask(estate, "us-east-1", "ScheduleKeyDeletion", NOON + 5, KeyId=key)

    assert ask(estate, "us-east-1", "GetKeyRotationStatus", NOON + 5, KeyId=key)["KeyRotationEnabled"] is False


def test_old_ciphertexts_open_after_a_new_material() -> None:
    """A family with several materials seals under the newest and opens under all."""
    rng = random.Random(5)
    family = Family("mrk-" + "0" * 32, multi_region=True, primary_region="us-east-1", materials=[])
    blobs = []
    for _ in range(3):
        family.materials.append(Material(rng.randbytes(16), rng.randbytes(32)))
        blobs.append(seal(family, b"secret", {"a": "b"}, rng.randbytes))

    assert [open_sealed(family, parse(blob), {"a": "b"})[0] for blob in blobs] == [b"secret"] * 3
    assert len({parse(blob).material_id for blob in blobs}) == 3


@given(one=CONTEXTS, other=CONTEXTS)
def test_two_contexts_never_look_alike(one: dict[str, str], other: dict[str, str]) -> None:
    """The canonical form is the same for equal contexts and for no others."""
    assert (encode_context(one) == encode_context(other)) == (one == other)


@given(st.binary(max_size=400))
def test_any_blob_is_parsed_or_refused(blob: bytes) -> None:
    """Garbage is an InvalidCiphertextException and nothing else."""
    try:
        parse(blob)
    except ServiceError as error:
        found = error.code
    else:
        found = "InvalidCiphertextException"
    assert found == "InvalidCiphertextException"


def test_the_request_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit the file is set aside, and one older file is kept."""
    monkeypatch.setattr(request_log, "_MAX_BYTES", 1000)
    log = RequestLog(tmp_path / "requests.ndjson")
    for number in range(30):
        log.write(Entry(region="us-east-1", request_id=str(number), peer_port=1).ended("ok", NOON))
    log.close()

    assert {path.name for path in tmp_path.iterdir()} == {"requests.ndjson", "requests.ndjson.1"}
    newest = (tmp_path / "requests.ndjson").read_text().splitlines()
    assert json.loads(newest[-1])["request_id"] == "29"
    assert all(path.stat().st_size < 1500 for path in tmp_path.iterdir())

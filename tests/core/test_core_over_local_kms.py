"""The core over real sockets and TLS, beside the real `aws-encryption-sdk` on the same keys."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import ports
import pytest
from aws_encryption_sdk import Algorithm, CommitmentPolicy, EncryptionSDKClient
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.key_providers.kms import KMSMasterKey, MRKAwareKMSMasterKey

from kms_core import ConfigurationError, Core, KeyConfig, KmsDeniedError, KmsUnavailableError, MessageError
from kms_core.events import Attempt, BreakerMoved
from kms_core.message import encrypted_data_keys

pytestmark = pytest.mark.usefixtures("local_credentials")

CONTEXT = {"canary": "true"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
SDK = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
QUICK = {"connect_timeout_seconds": 0.3, "read_timeout_seconds": 0.3, "attempt_timeout_seconds": 0.5}


@pytest.fixture
def clients(local_aws: Any) -> Iterator[dict[str, Any]]:
    made = {region: local_aws.client(region) for region in (EAST, WEST, IRELAND)}
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An endpoint that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An endpoint where nobody listens."""
    return f"https://127.0.0.1:{ports.nobody()}"


def sdk_key(local_aws: Any, clients: dict[str, Any], region: str, kind: Any = MRKAwareKMSMasterKey) -> Any:
    arn = f"arn:aws:kms:{region}:123456789012:key/{local_aws.key_ids['general']}"
    return kind(key_id=arn, client=clients[region])


def test_each_region_opens_what_each_region_sealed(local_aws: Any) -> None:
    """The three regions are one key."""
    with Core(local_aws.config()) as core:
        for sealer in (EAST, WEST, IRELAND):
            message = core.pinned(sealer).encrypt(b"x", purpose="general", context=CONTEXT)
            for opener in (EAST, WEST, IRELAND):
                assert core.pinned(opener).decrypt(message, purpose="general", context=CONTEXT) == b"x"
        assert core.health().keys == local_aws.key_ids
        assert all(region.joined for region in core.health().regions.values())


@pytest.mark.parametrize("region", [EAST, WEST])
def test_the_sdk_opens_what_the_core_sealed(local_aws: Any, clients: dict[str, Any], region: str) -> None:
    """In the region it was sealed in, and through a replica."""
    with Core(local_aws.config()) as core:
        message = core.encrypt(b"from the core", purpose="general", context=CONTEXT)

    plaintext, header = SDK.decrypt(source=message, key_provider=sdk_key(local_aws, clients, region))

    assert plaintext == b"from the core"
    assert header.encryption_context == CONTEXT


@pytest.mark.parametrize("region", [EAST, IRELAND])
@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY, id="0478"),
        pytest.param(Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384, id="0578 signed"),
    ],
)
def test_the_core_opens_what_the_sdk_sealed(
    local_aws: Any, clients: dict[str, Any], region: str, algorithm: Algorithm
) -> None:
    """Sealed anywhere, opened everywhere; a signed message's own context pair is not in the way."""
    message, _ = SDK.encrypt(
        source=b"from the SDK" * 1000,
        key_provider=sdk_key(local_aws, clients, region),
        encryption_context=CONTEXT,
        algorithm=algorithm,
    )

    with Core(local_aws.config()) as core:
        assert core.decrypt(message, purpose="general", context=CONTEXT) == b"from the SDK" * 1000
        for opener in (EAST, WEST, IRELAND):
            opened = core.pinned(opener).decrypt(message, purpose="general", context=CONTEXT)
            assert opened == b"from the SDK" * 1000
        with pytest.raises(MessageError):
            core.decrypt(message, purpose="payment", context=CONTEXT)


def test_a_single_region_keys_messages_cross_both_ways(local_aws: Any, clients: dict[str, Any]) -> None:
    """It is in one region, and has no relatives that could open for it."""
    created = clients[EAST].create_key()["KeyMetadata"]
    clients[EAST].create_alias(AliasName="alias/single", TargetKeyId=created["KeyId"])
    theirs = KMSMasterKey(key_id=created["Arn"], client=clients[EAST])
    sealed, _ = SDK.encrypt(source=b"from the SDK", key_provider=theirs, encryption_context=CONTEXT)

    with Core(local_aws.config(keys={"general": KeyConfig(alias="alias/single")})) as core:
        message = core.encrypt(b"from the core", purpose="general", context=CONTEXT)
        assert core.decrypt(sealed, purpose="general", context=CONTEXT) == b"from the SDK"
        with pytest.raises(ConfigurationError, match="single-region"):
            core.pinned(WEST).decrypt(message, purpose="general", context=CONTEXT)

    assert SDK.decrypt(source=message, key_provider=theirs)[0] == b"from the core"


def test_a_message_sealed_in_a_failover_is_read_by_peers_that_know_of_replicas(
    local_aws: Any, clients: dict[str, Any], nobody: str
) -> None:
    """It names the replica's ARN: MRK-aware peers open it anywhere, a plain strict one pinned to the primary cannot."""
    with Core(local_aws.config(endpoints={EAST: nobody})) as core:
        message = core.encrypt(b"sealed in the west", purpose="general", context=CONTEXT)
        assert core.decrypt(message, purpose="general", context=CONTEXT) == b"sealed in the west"

    (wrapped,) = encrypted_data_keys(message)
    assert f":{WEST}:".encode() in wrapped.provider_info
    assert SDK.decrypt(source=message, key_provider=sdk_key(local_aws, clients, EAST))[0] == b"sealed in the west"
    with pytest.raises(AWSEncryptionSDKClientError):
        SDK.decrypt(source=message, key_provider=sdk_key(local_aws, clients, EAST, KMSMasterKey))


def test_a_plain_peer_reads_a_failovers_message_that_names_the_primary(
    local_aws: Any, clients: dict[str, Any], nobody: str
) -> None:
    """With `edk_arn="primary"`, peers pinned to the primary need not know of replicas; those that do read it too."""
    config = local_aws.config(endpoints={EAST: nobody}, edk_arn="primary", primary_region=EAST)
    with Core(config) as core:
        message = core.encrypt(b"sealed in the west", purpose="general", context=CONTEXT)
        assert core.decrypt(message, purpose="general", context=CONTEXT) == b"sealed in the west"

    (wrapped,) = encrypted_data_keys(message)
    assert f":{EAST}:".encode() in wrapped.provider_info
    for region, kind in ((EAST, KMSMasterKey), (EAST, MRKAwareKMSMasterKey), (WEST, MRKAwareKMSMasterKey)):
        key = sdk_key(local_aws, clients, region, kind)
        assert SDK.decrypt(source=message, key_provider=key)[0] == b"sealed in the west"
    with pytest.raises(AWSEncryptionSDKClientError):
        SDK.decrypt(source=message, key_provider=sdk_key(local_aws, clients, WEST, KMSMasterKey))


def test_kms_itself_refuses_another_context_in_every_region(local_aws: Any) -> None:
    """The evidence a drill needs: a refusal by the core would say nothing of a region."""
    with Core(local_aws.config()) as core:
        (wrapped,) = encrypted_data_keys(core.encrypt(b"x", purpose="general", context=CONTEXT))
        for region in (EAST, WEST, IRELAND):
            core.pinned(region).unwrap(wrapped, CONTEXT, purpose="general")
            with pytest.raises(MessageError) as refused:
                core.pinned(region).unwrap(wrapped, {"canary": "no"}, purpose="general")
            assert refused.value.error_code == "InvalidCiphertextException"
            assert refused.value.attempts[0].request_id


def test_a_black_hole_costs_three_timeouts_and_no_request(local_aws: Any, black_hole: str, recorder: Any) -> None:
    """The region was never reachable at the start either; the breaker is open by then, and no call waits."""
    # Longer than the calls take: a probe of the region would be none of theirs.
    with Core(local_aws.config(endpoints={EAST: black_hole}, breaker_open_seconds=60, **QUICK), recorder) as core:
        assert core.health().regions[EAST].breaker == "open"
        before = len(recorder.of(Attempt))
        for number in range(5):
            message = core.encrypt(b"x", purpose="general", context={"number": str(number)})
            assert core.decrypt(message, purpose="general", context={"number": str(number)}) == b"x"
        assert EAST not in {attempt.region for attempt in recorder.of(Attempt)[before:]}
        for _ in range(2):
            with pytest.raises(KmsUnavailableError) as failed:
                core.pinned(EAST).encrypt(b"x", purpose="general", context=CONTEXT)
            assert failed.value.error_code in {"ReadTimeout", "ConnectTimeout", "Deadline"}

    assert [move.cause for move in recorder.of(BreakerMoved)] == ["failures"]
    assert {attempt.error_code for attempt in recorder.of(Attempt)} <= {"", "ReadTimeout", "ConnectTimeout", "Deadline"}


def test_with_every_region_silent_the_error_comes_in_time(local_aws: Any, black_hole: str) -> None:
    """The deadline ends it, not the number of attempts; with every attempt listed."""
    silent = dict.fromkeys((EAST, WEST, IRELAND), black_hole)
    with (
        Core(local_aws.config(endpoints=silent, deadline_seconds=1.0, **QUICK)) as core,
        pytest.raises(KmsUnavailableError) as failed,
    ):
        core.encrypt(b"x", purpose="general", context=CONTEXT)

    assert 2 <= len(failed.value.attempts) < 6


def test_a_key_disabled_in_one_region_is_used_in_another(local_aws: Any, clients: dict[str, Any]) -> None:
    """For a strict key it is refused instead."""
    with Core(local_aws.config()) as core:
        for purpose in ("general", "payment"):
            clients[EAST].disable_key(KeyId=local_aws.key_ids[purpose])
        try:
            message = core.encrypt(b"x", purpose="general", context=CONTEXT)
            with pytest.raises(KmsDeniedError) as denied:
                core.encrypt(b"x", purpose="payment", context=CONTEXT)
        finally:
            for purpose in ("general", "payment"):
                clients[EAST].enable_key(KeyId=local_aws.key_ids[purpose])

    assert f":{WEST}:".encode() in encrypted_data_keys(message)[0].provider_info
    assert denied.value.error_code == "DisabledException"


def test_nothing_of_a_closed_core_is_left(local_aws: Any, black_hole: str) -> None:
    """Its threads end, that of an abandoned call as soon as its socket does."""
    with Core(local_aws.config(endpoints={EAST: black_hole}, **QUICK)) as core:
        core.encrypt(b"x", purpose="general", context=CONTEXT)
        assert [thread for thread in threading.enumerate() if thread.name.startswith("kms-core")]

    for thread in threading.enumerate():
        if thread.name.startswith("kms-core"):
            thread.join(5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kms-core")]

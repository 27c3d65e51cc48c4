"""`pinned(region)`: what it says is about that region, and about nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from kms_core import Core
from kms_core.errors import KmsDeniedError, KmsUnavailableError, MessageError, Step
from kms_core.events import Attempt, BreakerMoved, CacheLookup
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate, ManualClock

CONTEXT = {"canary": "true"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def test_it_asks_its_region_each_time(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """No cache: a canary that a cache answers proves nothing."""
    pinned = core.pinned(WEST)
    for _ in range(2):
        message = pinned.encrypt(b"x", purpose="general", context=CONTEXT)
        assert pinned.decrypt(message, purpose="general", context=CONTEXT) == b"x"

    assert estate.asked() == [WEST] * 4
    assert not recorder.of(CacheLookup)
    assert all(attempt.pinned for attempt in recorder.of(Attempt))


def test_it_opens_what_another_region_sealed(core: Core) -> None:
    """Multi-Region keys: each region opens what any other sealed."""
    for sealer in (EAST, WEST, IRELAND):
        message = core.pinned(sealer).encrypt(b"x", purpose="general", context=CONTEXT)
        for opener in (EAST, WEST, IRELAND):
            assert core.pinned(opener).decrypt(message, purpose="general", context=CONTEXT) == b"x"


def test_it_does_not_fail_over(core: Core, estate: FakeEstate) -> None:
    """The region's own failure, once."""
    estate.fail("ReadTimeout", regions=[WEST])

    with pytest.raises(KmsUnavailableError) as failed:
        core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)

    assert estate.asked() == [WEST]
    assert failed.value.error_code == "ReadTimeout"


def test_its_failures_open_the_breaker_and_its_probes_close_it(
    core: Core, estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """Canaries find an outage before a request does, and the way back too; no breaker refuses them."""
    pinned = core.pinned(EAST)
    estate.fail("ReadTimeout", regions=[EAST])
    for _ in range(4):
        with pytest.raises(KmsUnavailableError):
            pinned.encrypt(b"x", purpose="general", context=CONTEXT)
    assert estate.asked() == [EAST] * 4
    assert core.health().regions[EAST].breaker == "open"

    estate.fail(None)
    clock.advance(6.1)
    for _ in range(2):
        pinned.encrypt(b"x", purpose="general", context=CONTEXT)

    assert core.health().regions[EAST].breaker == "closed"
    assert [move.cause for move in recorder.of(BreakerMoved)] == ["failures", "cooldown_over", "probe_succeeded"]


def test_a_canary_sees_a_disabled_key_each_time(core: Core, estate: FakeEstate) -> None:
    """Quarantine is for traffic."""
    estate.set_key_state(estate[EAST].aliases["alias/general"], "Disabled", regions=[EAST])
    for _ in range(2):
        with pytest.raises(KmsDeniedError):
            core.pinned(EAST).encrypt(b"x", purpose="general", context=CONTEXT)

    assert estate.asked() == [EAST, EAST]


def test_unwrap_asks_kms_with_exactly_the_context_given(core: Core, estate: FakeEstate) -> None:
    """So that a refusal is KMS's own, also for a context that the core would have refused first."""
    (wrapped,) = encrypted_data_keys(core.encrypt(b"x", purpose="general", context=CONTEXT))
    estate.calls.clear()

    for region in (EAST, WEST, IRELAND):
        core.pinned(region).unwrap(wrapped, CONTEXT, purpose="general")
        with pytest.raises(MessageError) as refused:
            core.pinned(region).unwrap(wrapped, {"canary": "false"}, purpose="general")
        assert refused.value.error_code == "InvalidCiphertextException"
        assert refused.value.attempts[0].region == region

    assert [call.context["canary"] for call in estate.calls] == ["true", "false"] * 3


def test_unwrap_of_another_purposes_key_is_refused_by_the_core(core: Core, estate: FakeEstate) -> None:
    """The error code is empty: KMS was not asked."""
    (wrapped,) = encrypted_data_keys(core.encrypt(b"x", purpose="payment", context=CONTEXT))
    estate.calls.clear()

    with pytest.raises(MessageError) as refused:
        core.pinned(EAST).unwrap(wrapped, CONTEXT, purpose="general")

    assert (refused.value.step, refused.value.error_code) == (Step.KEY, "")
    assert not estate.calls

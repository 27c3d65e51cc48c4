"""Key material and plaintext show nowhere: not in `repr`, events, logs, exceptions or tracebacks."""

from __future__ import annotations

import base64
import gc
import logging
import traceback
from typing import Any

import pytest

import kms_core
from kms_core import Core, KmsCoreError
from kms_core._keyring import PurposeKey
from kms_core.kms import GeneratedKey, UnwrappedKey
from kms_core.observers import FanOut
from kms_core.observers.logging import LoggingObserver
from kms_core.testing import FakeEstate, InlineLane

CONTEXT = {"tenant": "parker"}
EAST = "us-east-1"
PLAINTEXT = b"passport X1234567, most secret"


class Secrets:
    """Notes every data key that KMS gave, and every region's key."""

    def __init__(self, estate: FakeEstate) -> None:
        self.found: list[bytes] = [PLAINTEXT, *(key.material for key in estate.keys.values())]

    def wrap(self, kms: Any) -> Any:
        secrets = self

        class Noting:
            region = kms.region
            describe_key, close = kms.describe_key, kms.close

            def generate_data_key(self, *args: Any) -> GeneratedKey:
                made: GeneratedKey = kms.generate_data_key(*args)
                secrets.found.append(made.plaintext)
                return made

            def decrypt(self, *args: Any) -> UnwrappedKey:
                opened: UnwrappedKey = kms.decrypt(*args)
                secrets.found.append(opened.plaintext)
                return opened

        return Noting()

    def spellings(self) -> set[str]:
        """Every way in which a secret might be shown."""
        spelt: set[str] = set()
        for secret in self.found:
            spelt |= {secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1], str(list(secret))[1:-1]}
        return spelt


def _failures(core: Any, estate: FakeEstate, message: bytes) -> list[str]:
    """Return the tracebacks of all kinds of failure."""
    said = []
    changed = message[:-1] + bytes([message[-1] ^ 1])
    calls = [
        lambda: core.decrypt(changed, purpose="general", context=CONTEXT),
        lambda: core.decrypt(message, purpose="payment", context=CONTEXT),
        lambda: core.decrypt(message, purpose="general", context={"tenant": "other"}),
        lambda: core.decrypt(message[:50], purpose="general", context=CONTEXT),
        lambda: core.encrypt(PLAINTEXT, purpose="nobody", context=CONTEXT),
        lambda: core.encrypt(PLAINTEXT, purpose="general", context={}),
        lambda: core.pinned(EAST).encrypt(PLAINTEXT, purpose="general", context=CONTEXT),
        lambda: core.encrypt(PLAINTEXT, purpose="payment", context={"tenant": "new"}),
    ]
    estate.fail("KMSInternalException")
    for call in calls:
        try:
            call()
        except KmsCoreError as e:
            said.append("".join(traceback.format_exception(e)) + repr(e) + str(e) + repr(e.attempts))
    estate.fail(None)
    assert len(said) == len(calls)
    return said


def _reprs() -> list[str]:
    """Return how every living object of the core's own classes shows itself."""
    return [repr(one) for one in gc.get_objects() if _ours(type(one))]


def _ours(kind: type) -> bool:
    return str(getattr(kind, "__module__", "")).startswith(kms_core.__name__)


def test_a_whole_run_shows_no_secret(
    estate: FakeEstate, config: Any, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Sealing, opening, failing over, failing: everything that is said is searched for everything secret."""
    caplog.set_level(logging.DEBUG)
    secrets = Secrets(estate)
    wrapped = {region: secrets.wrap(kms) for region, kms in estate.kms.items()}
    with Core(
        config,
        FanOut(recorder, LoggingObserver()),
        clock=estate.clock,
        connect=lambda region: wrapped[region],
        lane=lambda _: InlineLane(estate.clock),
    ) as core:
        message = core.encrypt(PLAINTEXT, purpose="general", context=CONTEXT)
        assert core.decrypt(message, purpose="general", context=CONTEXT) == PLAINTEXT
        estate.fail("ConnectionRefused", regions=[EAST])
        core.pinned("us-west-2").decrypt(message, purpose="general", context=CONTEXT)
        core.encrypt(PLAINTEXT, purpose="general", context={"tenant": "second"})
        said = [*_failures(core, estate, message), *_reprs(), repr(core.health()), repr(core.self_check())]

    said += [repr(event) for event in recorder.events] + [record.getMessage() for record in caplog.records]
    text = "\n".join(said)
    assert len(secrets.found) > 5
    assert PurposeKey.__name__ in text, "the search saw the core's own objects"
    assert not [spelt for spelt in secrets.spellings() if spelt in text]

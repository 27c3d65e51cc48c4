"""Public fakes and seams for tests of code that uses the core; they pass the same contract tests as the real thing."""

from __future__ import annotations

from kms_core.testing.clock import ManualClock
from kms_core.testing.decode import Decoded, decode, decode_stream, encode, raw_aes_unwrap
from kms_core.testing.estate import Call, FakeEstate, FakeKms
from kms_core.testing.inline import HeldLane, InlineLane, core_over

__all__ = [
    "Call",
    "Decoded",
    "FakeEstate",
    "FakeKms",
    "HeldLane",
    "InlineLane",
    "ManualClock",
    "core_over",
    "decode",
    "decode_stream",
    "encode",
    "raw_aes_unwrap",
]

"""Production crypto core: envelope encryption under multi-Region AWS KMS keys."""

from __future__ import annotations

from kms_core._facade_lifecycle import WarmUp
from kms_core._health import CoreHealth, RegionHealth
from kms_core._pinned import PinnedCore
from kms_core._self_check import RoundTrip, SelfCheck
from kms_core.batch import Opened, Refused, Sealed, ToOpen, ToSeal
from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig, KeyConfig
from kms_core.core import Core
from kms_core.errors import (
    AttemptFailure,
    ClosedError,
    ConfigurationError,
    ContextError,
    ForkedError,
    KmsCoreError,
    KmsDeniedError,
    KmsUnavailableError,
    MessageError,
    NotStreamableError,
    TruncatedStreamError,
)

__all__ = [
    "AttemptFailure",
    "Clock",
    "ClosedError",
    "ConfigurationError",
    "ContextError",
    "Core",
    "CoreConfig",
    "CoreHealth",
    "ForkedError",
    "KeyConfig",
    "KmsCoreError",
    "KmsDeniedError",
    "KmsUnavailableError",
    "MessageError",
    "NotStreamableError",
    "Opened",
    "PinnedCore",
    "Refused",
    "RegionHealth",
    "RoundTrip",
    "Sealed",
    "SelfCheck",
    "SystemClock",
    "ToOpen",
    "ToSeal",
    "TruncatedStreamError",
    "WarmUp",
]

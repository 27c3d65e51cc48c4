"""Production crypto core: envelope encryption under multi-Region AWS KMS keys."""

from __future__ import annotations

from kms_core.clock import Clock, SystemClock
from kms_core.config import CoreConfig, KeyConfig
from kms_core.core import Core, CoreHealth, PinnedCore, RegionHealth
from kms_core.errors import (
    AttemptFailure,
    ClosedError,
    ConfigurationError,
    ContextError,
    KmsCoreError,
    KmsDeniedError,
    KmsUnavailableError,
    MessageError,
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
    "KeyConfig",
    "KmsCoreError",
    "KmsDeniedError",
    "KmsUnavailableError",
    "MessageError",
    "PinnedCore",
    "RegionHealth",
    "SystemClock",
]

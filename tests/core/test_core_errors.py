"""Errors are copied, pickled and printed without losing or giving away anything."""

from __future__ import annotations

import copy
import pickle

import pytest

from kms_core import errors
from kms_core.errors import AttemptFailure, KmsCoreError, MessageError, Step

ATTEMPT = AttemptFailure(region="us-east-1", operation="Decrypt", error_code="ReadTimeout", request_id="", seconds=2.0)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errors.KmsUnavailableError("x", attempts=[ATTEMPT]), id="unavailable"),
        pytest.param(errors.KmsDeniedError("x", attempts=[ATTEMPT]), id="denied"),
        pytest.param(errors.ConfigurationError("x"), id="configuration"),
        pytest.param(errors.TruncatedStreamError(), id="truncated"),
        pytest.param(errors.NotStreamableError(), id="not streamable"),
        pytest.param(errors.ClosedError("x"), id="closed"),
        pytest.param(errors.MessageError(step=Step.COMMITMENT, attempts=[ATTEMPT]), id="message"),
        pytest.param(errors.ContextError("x"), id="context"),
    ],
)
def test_an_error_survives_being_copied_and_pickled(error: KmsCoreError) -> None:
    """Callers of a shared request each get a copy, and processes hand errors on."""
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.attempts == error.attempts
        assert twin.error_code == error.error_code
        assert getattr(twin, "step", None) == getattr(error, "step", None)


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.BASE64])
def test_a_refusal_looks_the_same_from_outside(step: Step) -> None:
    """Its step is for tests and for the operator's log."""
    assert str(MessageError(step=step)) == "the message cannot be opened"


def test_attempts_read_as_an_operator_wants_them() -> None:
    """Region, operation, code and time."""
    assert str(ATTEMPT) == "us-east-1: Decrypt ReadTimeout after 2000 ms"

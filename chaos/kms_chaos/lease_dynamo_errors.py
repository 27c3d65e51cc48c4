"""Why DynamoDB did not take a write, told apart: whose item it was, and whether the same may be taken in a moment."""

from __future__ import annotations

from kms_watchdog import aws

_CANCELED = "TransactionCanceledException"
_PASSING = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "ThrottlingError",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""DynamoDB API Reference, TransactWriteItems, "Errors" and "CancellationReasons"."""


def reasons(error: Exception) -> list[str]:
    """Return why a transaction was canceled: a code for each of its items."""
    if aws.error_code(error) != _CANCELED:
        return []
    return [str(reason.get("Code")) for reason in getattr(error, "response", {}).get("CancellationReasons", [])]


def may_pass(error: Exception) -> bool:
    """Return whether the same request may be taken in a moment: a conflict, throttling, no answer."""
    if found := reasons(error):
        return bool(_PASSING & set(found))
    return aws.error_code(error) in _PASSING or aws.trouble(error) in {"throttled", "unreachable"}

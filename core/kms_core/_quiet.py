"""Keeps botocore's debug log from showing what KMS and STS are asked and answer: data keys and credentials in clear.

An application that sets its root logger to DEBUG would otherwise write every data key to its log. Only requests that
the core itself makes are kept quiet; what the application does with boto3 is its own affair.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

_LOGGERS = ("botocore.parsers", "botocore.endpoint", "botocore.auth")
"""They write answers, requests and the headers that are signed."""

_asking = threading.local()


class _NotShown(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_asking, "depth", 0):
            record.msg, record.args = "not shown by kms_core: it may hold key material or credentials", ()
        return True


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_NotShown())


@contextlib.contextmanager
def secrets_in_answers() -> Iterator[None]:
    """Make requests in this thread whose contents no log shall show."""
    _asking.depth = getattr(_asking, "depth", 0) + 1
    try:
        yield
    finally:
        _asking.depth -= 1

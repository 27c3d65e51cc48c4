"""The body of a request as it was before the client compressed it."""

from __future__ import annotations

import zlib

from kms_local.wire.errors import serialization_error
from kms_local.wire.exchange import MAX_BODY_BYTES, Request

_GZIP_WINDOW = 31  # zlib's name for "a gzip header and trailer"


def inflated(request: Request) -> bytes:
    """Return the body, decompressed if it says that it is gzip.

    Raises:
        ServiceError: SerializationException: it is no gzip, cut short, or far larger than any request may be.
    """
    if request.headers.get("content-encoding", "").lower() != "gzip":
        return request.body
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        body = inflater.decompress(request.body, MAX_BODY_BYTES)
    except zlib.error as e:
        raise serialization_error() from e
    if not inflater.eof:
        raise serialization_error()
    return body

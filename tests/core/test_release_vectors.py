"""Messages that earlier releases committed, and that the SDK made then, open in this one, for ever."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms_core.errors import MessageError, Step
from kms_core.suites import COMMITTED, DERIVED
from kms_core.testing import decode, decode_stream, raw_aes_unwrap

VECTORS = Path(__file__).parents[1] / "vectors"


def _cases() -> Iterator[Any]:
    for path in sorted(VECTORS.glob("release-*/*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for case in document["cases"]:
            yield pytest.param(document["raw_aes_key"], case, id=f"{path.parent.name}, {path.stem}: {case['name']}")


CASES = list(_cases())


def unwrap_of(key: dict[str, str]) -> Any:
    return raw_aes_unwrap(key["namespace"], key["name"], bytes.fromhex(key["key"]))


def test_there_is_a_folder_for_every_release_so_far() -> None:
    """A release without messages would be one that nobody promises to read."""
    assert {path.name for path in VECTORS.glob("release-*")} >= {"release-0.1.0"}


@pytest.mark.parametrize(("key", "case"), CASES)
def test_a_committed_message_opens(key: dict[str, str], case: dict[str, Any]) -> None:
    """To the plaintext, the context, the suite and the frames that it was made with."""
    message = base64.b64decode(case["message"])

    plaintext, header = decode(message, unwrap_of(key))

    assert plaintext == bytes(index % 251 for index in range(case["size"]))
    assert {k: v for k, v in header.context.items() if not k.startswith("aws-crypto-")} == case["context"]
    assert (f"{header.suite.id:04x}", header.frame_length) == (case["suite"], case["frame_length"])


@pytest.mark.parametrize(("key", "case"), CASES)
def test_a_committed_message_is_refused_by_a_narrower_policy(key: dict[str, str], case: dict[str, Any]) -> None:
    """Version 1 without the flag, and suites without key derivation even with it."""
    message, suite = base64.b64decode(case["message"]), int(case["suite"], 16)

    for accepted in (COMMITTED, COMMITTED | DERIVED):
        if suite not in accepted:
            with pytest.raises(MessageError) as refused:
                decode(message, unwrap_of(key), suites=accepted)
            assert refused.value.step is Step.SUITE


@pytest.mark.parametrize(("key", "case"), [case for case in CASES if case.values[1]["suite"] == "0478"])
def test_a_committed_message_opens_as_a_stream(key: dict[str, str], case: dict[str, Any]) -> None:
    """The stream's reader is another one than the whole message's; framed messages only."""
    sink = io.BytesIO()
    source = io.BytesIO(base64.b64decode(case["message"]))

    if not case["frame_length"]:
        with pytest.raises(MessageError, match="use decrypt"):
            decode_stream(source, sink, unwrap_of(key))
        return
    decode_stream(source, sink, unwrap_of(key))

    assert sink.getvalue() == bytes(index % 251 for index in range(case["size"]))

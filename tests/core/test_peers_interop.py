"""Messages cross with AWS's other SDKs under KMS keys: Python with its material providers, and JavaScript.

Each lives in an environment of its own, which `make interop` builds; without it, its tests are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import ports
import pytest

from kms_core import Core, MessageError
from kms_core.message import parse_header

pytestmark = [pytest.mark.usefixtures("local_credentials"), pytest.mark.slow]  # `make interop` runs them all

HERE = Path(__file__).parent / "peers"
BUILT = Path(__file__).parents[2] / ".state" / "interop"
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
CONTEXT = {"canary": "true", "Tenant_ID": "7", "größe": "ü", "\U0001f511": "beyond the BMP", "\uffee": "below it"}
"""Keys that JavaScript's own sorting puts in another order than their bytes are in."""


def _left_out(why: str) -> NoReturn:
    """Skip, but not in CI, which builds what it can."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def _mpl() -> list[str]:
    python = BUILT / "mpl" / "bin" / "python"
    if not python.exists():
        _left_out("no environment with aws-cryptographic-material-providers: `make interop` builds it")
    return [str(python), str(HERE / "mpl_peer.py")]


def _js() -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here")
    if not (BUILT / "js" / "node_modules").exists():
        _left_out("no @aws-crypto/client-node: `make interop` installs it")
    return [node, str(BUILT / "js" / "js_peer.cjs")]


Peer = Callable[..., bytes]


@pytest.fixture(params=[pytest.param(_mpl, id="Python MPL"), pytest.param(_js, id="JavaScript")])
def peer(request: pytest.FixtureRequest, local_aws: Any) -> Peer:
    """Return a function that has the peer seal or open something in a region."""
    command = request.param()

    def ask(operation: str, source: bytes, *, region: str = EAST, key: str = EAST, mrk_aware: bool = True) -> bytes:
        asked = {
            "operation": operation,
            "source": base64.b64encode(source).decode(),
            "context": CONTEXT,
            "region": region,
            "endpoint": local_aws.endpoints[region],
            "ca_bundle": local_aws.ca_bundle,
            "key_arn": f"arn:aws:kms:{key}:123456789012:key/{local_aws.key_ids['general']}",
            "mrk_aware": mrk_aware,
        }
        environment = os.environ | {"NODE_EXTRA_CA_CERTS": local_aws.ca_bundle}
        ended = subprocess.run(
            command, input=json.dumps(asked), env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        if ended.returncode:
            raise PeerError(ended.stderr)
        return base64.b64decode(json.loads(ended.stdout)["result"])

    return ask


class PeerError(Exception):
    """The peer has refused; its text says why."""


@pytest.mark.parametrize("region", [EAST, IRELAND])
def test_a_peer_opens_what_the_core_sealed(local_aws: Any, peer: Peer, region: str) -> None:
    """In the region where it was sealed, and through a replica; whatever order it sorts a context in."""
    with Core(local_aws.config()) as core:
        message = core.encrypt(b"from the core" * 10_000, purpose="general", context=CONTEXT)

    assert peer("decrypt", message, region=region, key=region) == b"from the core" * 10_000


@pytest.mark.parametrize("region", [EAST, IRELAND])
def test_the_core_opens_what_a_peer_sealed(local_aws: Any, peer: Peer, region: str) -> None:
    """Signed, as they all do by default; everywhere, and for its own purpose and context alone."""
    message = peer("encrypt", b"from a peer" * 10_000, region=region, key=region)

    assert parse_header(message).suite.id == 0x0578
    with Core(local_aws.config()) as core:
        for opener in (EAST, WEST, IRELAND):
            opened = core.pinned(opener).decrypt(message, purpose="general", context=CONTEXT)
            assert opened == b"from a peer" * 10_000
        for purpose, context in (("payment", CONTEXT), ("general", CONTEXT | {"canary": "false"})):
            with pytest.raises(MessageError):
                core.decrypt(message, purpose=purpose, context=context)


def test_a_message_of_a_failover_is_read_by_who_knows_of_replicas(local_aws: Any, peer: Peer) -> None:
    """It names the replica: keyrings that are aware of them open it at the primary, plain ones pinned to it do not."""
    nobody = f"https://127.0.0.1:{ports.nobody()}"
    with Core(local_aws.config(endpoints={EAST: nobody})) as core:
        message = core.encrypt(b"sealed in the west", purpose="general", context=CONTEXT)
    with Core(local_aws.config(endpoints={EAST: nobody}, edk_arn="primary", primary_region=EAST)) as core:
        naming_primary = core.encrypt(b"sealed in the west", purpose="general", context=CONTEXT)

    assert peer("decrypt", message) == b"sealed in the west"
    with pytest.raises(PeerError):
        peer("decrypt", message, mrk_aware=False)
    assert peer("decrypt", naming_primary, mrk_aware=False) == b"sealed in the west"
    assert peer("decrypt", naming_primary) == b"sealed in the west"

"""The local KMS without a wire: an estate, a clock moved by hand, and a way to ask."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Any

from kms_local.kms.call import Call
from kms_local.kms.keys import Estate, make_estate
from kms_local.kms.operations import perform
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

ACCOUNT = "123456789012"
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
NOON, DAY = 1_800_000_000.0, 86_400.0
CREATING_SECONDS = 2.0


@dataclass
class Desk:
    """Where requests to an estate are handed in, at the time that the clock shows."""

    estate: Estate
    rng: random.Random
    now: float = NOON

    def ask(self, region: str, operation: str, **members: Any) -> dict[str, Any]:
        """Have a request answered."""
        self.estate.settle(self.now)
        call = Call(
            estate=self.estate,
            region=self.estate.regions[region],
            params=Params(members),
            now=self.now,
            entropy=self.rng.randbytes,
        )
        return perform(operation, call)

    def refusal(self, region: str, operation: str, **members: Any) -> tuple[str, str | None]:
        """Have a request refused, and return the code and the text."""
        try:
            answer = self.ask(region, operation, **members)
        except ServiceError as error:
            return error.code, error.message
        raise AssertionError(f"{operation} was not refused but answered {answer}")

    def wait(self, *, days: float = 0.0, seconds: float = 0.0) -> None:
        """Move the clock."""
        self.now += days * DAY + seconds

    def make_key(self, *replicas: str, multi_region: bool = True) -> str:
        """Make a key in us-east-1, and replicas that are Enabled before this returns."""
        made = self.ask(EAST, "CreateKey", MultiRegion=multi_region)
        key_id = str(made["KeyMetadata"]["KeyId"])
        for region in replicas:
            self.ask(EAST, "ReplicateKey", KeyId=key_id, ReplicaRegion=region)
        if replicas:
            self.wait(seconds=CREATING_SECONDS)
        return key_id

    def state(self, region: str, key_id: str) -> str:
        """Return a key's state as DescribeKey tells it."""
        return str(self.ask(region, "DescribeKey", KeyId=key_id)["KeyMetadata"]["KeyState"])

    def encrypt(self, region: str, key_id: str, plaintext: bytes = b"secret", **context: str) -> str:
        """Encrypt, and return the blob as it comes over the wire."""
        members = {"KeyId": key_id, "Plaintext": base64.b64encode(plaintext).decode(), "EncryptionContext": context}
        return str(self.ask(region, "Encrypt", **members)["CiphertextBlob"])

    def decrypt(self, region: str, blob: str, **context: str) -> bytes:
        """Decrypt without naming a key."""
        answer = self.ask(region, "Decrypt", CiphertextBlob=blob, EncryptionContext=context)
        return base64.b64decode(answer["Plaintext"])


@dataclass
class Seeded:
    """What makes desks: the same seed makes the same keys."""

    seed: int = 5
    regions: tuple[str, ...] = field(default=(EAST, WEST, IRELAND))

    def desk(self) -> Desk:
        """Return a desk of an empty estate."""
        rng = random.Random(self.seed)
        return Desk(make_estate(ACCOUNT, self.regions, creating_seconds=CREATING_SECONDS, entropy=rng.randbytes), rng)


def arn(region: str, key_id: str) -> str:
    """Return a key's ARN."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}"

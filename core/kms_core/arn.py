"""KMS key ARNs: the only name a key has in a message, and the way one key is told from another."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_KEY_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):key/(?P<key_id>[\w-]+)", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyArn:
    """One key in one region."""

    partition: str
    region: str
    account: str
    key_id: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:key/{self.key_id}"

    @property
    def multi_region(self) -> bool:
        """Whether the key has, or may have, relatives with the same material in other regions."""
        return self.key_id.startswith("mrk-")

    def in_region(self, region: str) -> KeyArn:
        """Return the same key's name in `region`."""
        return replace(self, region=region)

    def opens(self, other: KeyArn) -> bool:
        """Return whether this key opens what `other` wrapped: it is the same, or its relative in another region."""
        return self == (other.in_region(self.region) if self.multi_region else other)


def parse_key_arn(text: str) -> KeyArn | None:
    """Return the key that `text` names, or None when it is no key's ARN; an alias's is none."""
    found = _KEY_ARN.fullmatch(text)
    return KeyArn(**found.groupdict()) if found else None

"""What one run of the local AWS serves, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


class ServeError(Exception):
    """`serve` cannot start; its text is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What one run serves, and where."""

    directory: Path
    regions: tuple[str, ...] = ("us-east-1", "us-west-2", "eu-west-1")
    host: str = "127.0.0.1"
    first_port: int = 0  # 0: free ports; else admin, Toxiproxy, then two ports a region from here on
    account_id: str = "123456789012"
    creating_seconds: float = 0.5
    evaluate_seconds: float = 1.0
    toxiproxy: bool = True
    advertise: tuple[str, ...] = ()  # further names and addresses that certificates are good for
    iam: Path | None = None  # roles, as `aws iam get-account-authorization-details` writes them
    enforce_policies: bool = False
    keep_state: bool = False

    def __post_init__(self) -> None:
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise ValueError("regions must be a list without repetitions, of one region at least")
        if not _ACCOUNT.fullmatch(self.account_id):
            raise ValueError(f"{self.account_id!r} is not the number of an account: 12 digits")
        for region in self.regions:
            if not _REGION.fullmatch(region):
                raise ValueError(f"{region!r} is not the name of an AWS region, such as us-east-1")
        if self.creating_seconds < 0 or self.evaluate_seconds <= 0:
            raise ValueError("creating-seconds may not be negative, and evaluate-seconds must be more than 0")

    @property
    def reached_at(self) -> str:
        """The host that clients are told: where every address is listened on, the first advertised name."""
        everywhere = self.host in {"0.0.0.0", "::"}  # noqa: S104  compared with, not bound
        return self.advertise[0] if everywhere and self.advertise else self.host

    @property
    def ca_file(self) -> Path:
        """Where the private CA is written."""
        return self.directory.absolute() / "ca.pem"

    def port(self, offset: int) -> int:
        """Return the port at `offset` from the first, or 0 for a free one."""
        return self.first_port + offset if self.first_port else 0

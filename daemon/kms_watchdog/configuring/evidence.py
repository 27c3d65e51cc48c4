"""`[drills.evidence]`: where a drill's evidence is kept besides the state folder, and what signs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_REGION = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_KEY_ID = re.compile(r"[A-Za-z0-9:/_-]{1,256}")

SEVEN_YEARS_DAYS = 2557
"""Seven years, of which two are leap years at the most: what SOX and many regulators ask for."""

SignAlgorithm = Literal[
    "ECDSA_SHA_256",
    "ECDSA_SHA_384",
    "ECDSA_SHA_512",
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "HMAC_SHA_256",
    "HMAC_SHA_384",
    "HMAC_SHA_512",
]
"""KMS's own names, of Sign's `SigningAlgorithm` and GenerateMac's `MacAlgorithm`."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Signing(_Section):
    """What signs a journal when it is closed: a key in a file, or one in KMS that is used for nothing else."""

    kind: Literal["ed25519", "kms"]
    private_key_file: Annotated[Path | None, Field(strict=False)] = None  # PEM, PKCS #8, of kind ed25519
    key_id: str | None = None  # of kind kms: id, alias or ARN
    regions: Annotated[tuple[_REGION, ...], Field(strict=False)] = ()  # of kind kms, in order; a hurt one never signs
    algorithm: SignAlgorithm = "ECDSA_SHA_256"  # of kind kms

    @field_validator("key_id")
    @classmethod
    def _is_a_key(cls, value: str | None) -> str | None:
        if value is not None and not _KEY_ID.fullmatch(value):
            raise ValueError("a key's id, alias or ARN")
        return value

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        given = {name for name in ("private_key_file", "key_id", "regions") if getattr(self, name)}
        needed = {"private_key_file"} if self.kind == "ed25519" else {"key_id", "regions"}
        if missing := sorted(needed - given):
            raise ValueError(f"kind = {self.kind!r} needs {missing[0]}")
        if surplus := sorted(given - needed):
            raise ValueError(f"kind = {self.kind!r} knows no {surplus[0]}")
        return self


class Evidence(_Section):
    """Where evidence goes while a drill runs, and how it is signed at its end."""

    store: str | None = None  # "dir:/ABSOLUTE/PATH" or "s3://BUCKET/PREFIX"; None: the state folder alone
    region: _REGION | None = None  # of the bucket; None: the home region
    retention_days: int = Field(default=SEVEN_YEARS_DAYS, ge=1, le=36_500)  # of an object in a bucket
    # COMPLIANCE cannot be taken back by anybody before its time: a mistake in this file should not last seven years.
    object_lock: Literal["GOVERNANCE", "COMPLIANCE"] = "GOVERNANCE"
    segment_seconds: float = Field(default=10.0, ge=0.2, le=3600)  # how old what is not stored yet may become
    segment_kilobytes: int = Field(default=256, ge=1, le=16_384)  # how large a segment may become
    signing: Signing | None = None  # None: nothing is signed

    @field_validator("store")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is None:
            return None
        kind, _, place = value.partition(":")
        if kind == "dir" and place.startswith("/"):
            return value
        bucket, _, prefix = place.removeprefix("//").partition("/")
        prefix = prefix.rstrip("/")
        if kind == "s3" and place.startswith("//") and _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(prefix or "x"):
            return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        raise ValueError(f"dir:/ABSOLUTE/PATH or s3://BUCKET/PREFIX, not {value!r}")

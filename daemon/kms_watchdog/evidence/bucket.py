"""An S3 bucket as evidence store: versions keep what somebody writes over, Object Lock what somebody deletes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.evidence.store import ConflictError, StoreError, StoreRefusedError

_THERE_ALREADY = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Which bucket, and how long what is put there stays."""

    name: str
    prefix: str
    """Empty, or ends with `/`."""
    retention: timedelta
    object_lock: str
    client: Any = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, place: str) -> Self:
        """Return the bucket that `place`, as `BUCKET/PREFIX`, names. Call it in the main thread."""
        evidence = settings.drills.evidence
        name, _, prefix = place.partition("/")
        return cls(
            name=name,
            prefix=f"{prefix.strip('/')}/" if prefix.strip("/") else "",
            retention=timedelta(days=evidence.retention_days),
            object_lock=evidence.object_lock,
            client=aws.client(settings, "s3", evidence.region or settings.home_region),
        )


@dataclass(slots=True)
class _Kept:
    """What the bucket remembers of one name."""

    first_version: str = ""
    first_at: Any = None
    size: int = 0
    versions: int = 0
    hidden: bool = False


class S3Store:
    """Objects are put once, each with its own retention; what is read is always the first version of a name."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket, self._clock = bucket, clock

    @property
    def place(self) -> str:
        """As `Store.place`."""
        return f"s3://{self._bucket.name}/{self._bucket.prefix}".rstrip("/")

    def check(self) -> None:
        """As `Store.check`: the bucket has versions and Object Lock."""
        with self._asking("the bucket"):
            versioning = self._bucket.client.get_bucket_versioning(Bucket=self._bucket.name)
        if versioning.get("Status") != "Enabled":
            raise StoreRefusedError(f"{self.place}: the bucket keeps no versions: evidence could be written over")
        if not self._is_locked():
            raise StoreRefusedError(f"{self.place}: the bucket has no Object Lock: evidence could be deleted")

    def _is_locked(self) -> bool:
        try:
            found = self._bucket.client.get_object_lock_configuration(Bucket=self._bucket.name)
        except aws.AwsError as e:
            if aws.error_code(e) == _NO_LOCK:
                return False
            raise self._error("the bucket", e) from e
        return bool(found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def put(self, name: str, content: bytes) -> None:
        """As `Store.put`; S3 itself refuses a second object of that name, and one that was damaged on its way."""
        try:
            self._bucket.client.put_object(
                Bucket=self._bucket.name,
                Key=self._key(name),
                Body=content,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",  # S3 wants it named where a retention is given
                ChecksumSHA256=base64.b64encode(hashlib.sha256(content).digest()).decode(),
                ObjectLockMode=self._bucket.object_lock,
                ObjectLockRetainUntilDate=self._clock.now_utc() + self._bucket.retention,
            )
        except aws.AwsError as e:
            if aws.error_code(e) not in _THERE_ALREADY:
                raise self._error(name, e) from e
            if self.get(name) != content:
                raise ConflictError(f"{self.place}: {name}: something else is there") from e

    def get(self, name: str) -> bytes:
        """As `Store.get`: the first version, whatever was written over it."""
        kept = self._kept(name).get(name)
        if kept is None:
            raise StoreRefusedError(f"{self.place}: {name}: is not there")
        with self._asking(name):
            found = self._bucket.client.get_object(
                Bucket=self._bucket.name, Key=self._key(name), VersionId=kept.first_version
            )
            return bytes(found["Body"].read())

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """As `Store.sizes`, hidden objects too."""
        return {name: kept.size for name, kept in sorted(self._kept(prefix).items())}

    def remarks(self, prefix: str = "") -> Mapping[str, str]:
        """As `Store.remarks`."""
        found = {}
        for name, kept in sorted(self._kept(prefix).items()):
            if kept.hidden:
                found[name] = "deleted: a delete marker hides it; its first version is still there and was read"
            elif kept.versions > 1:
                found[name] = f"written over: it has {kept.versions} versions; the first was read"
        return found

    def folders(self, prefix: str) -> tuple[str, ...]:
        """As `Store.folders`."""
        below = f"{prefix}/"
        listed = self._pages(below, Delimiter="/")
        names = [each["Prefix"] for page in listed for each in page.get("CommonPrefixes", ())]
        return tuple(sorted(name.removeprefix(self._key(below)).rstrip("/") for name in names))

    def _kept(self, prefix: str) -> dict[str, _Kept]:
        found: dict[str, _Kept] = {}
        for page in self._pages(prefix):
            for version in page.get("Versions", ()):
                kept = found.setdefault(self._name(version["Key"]), _Kept())
                kept.versions += 1
                if kept.first_at is None or version["LastModified"] <= kept.first_at:  # listed newest first
                    kept.first_version, kept.first_at = version["VersionId"], version["LastModified"]
                    kept.size = version["Size"]
            for marker in page.get("DeleteMarkers", ()):
                found.setdefault(self._name(marker["Key"]), _Kept()).hidden |= bool(marker["IsLatest"])
        return {name: kept for name, kept in found.items() if kept.versions}

    def _pages(self, prefix: str, **more: str) -> Iterator[Any]:
        asked: dict[str, Any] = {"Bucket": self._bucket.name, "Prefix": self._key(prefix), "MaxKeys": _LISTED, **more}
        while True:
            with self._asking("the list of objects"):
                page = self._bucket.client.list_object_versions(**asked)
            yield page
            if not page.get("IsTruncated"):
                return
            markers = {name: page.get(f"Next{name}") for name in ("KeyMarker", "VersionIdMarker")}
            asked = {**asked, **{name: marker for name, marker in markers.items() if marker}}

    def _key(self, name: str) -> str:
        return f"{self._bucket.prefix}{name}"

    def _name(self, key: str) -> str:
        return key.removeprefix(self._bucket.prefix)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except aws.AwsError as e:
            raise self._error(what, e) from e

    def _error(self, what: str, error: Exception) -> StoreError:
        kind = StoreRefusedError if aws.trouble(error) in {"denied", "refused"} else StoreError
        return kind(f"{self.place}: {what}: {aws.error_code(error)}")

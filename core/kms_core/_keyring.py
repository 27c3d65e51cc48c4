"""Which key each purpose has: pinned in the configuration, or what its alias points to."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from kms_core._breakers import Breakers
from kms_core._deadline import Deadline
from kms_core._failover import Failover
from kms_core._regions import AttemptFailedError, Flight, Regions, Request
from kms_core._single_flight import SingleFlight
from kms_core.arn import KeyArn, parse_key_arn
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import ConfigurationError
from kms_core.kms import DESCRIBE_KEY, MAX_WRAPPED_BYTES, OK, DescribedKey, Kms, KmsFailure
from kms_core.message import KMS_PROVIDER, EncryptedDataKey
from kms_core.taxonomy import WRONG_ACCOUNT, WRONG_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeKey:
    """The key of one purpose, in every region that has it."""

    purpose: str
    arn: KeyArn
    arns: Mapping[str, str]
    """Region to the key's ARN there, in the order in which regions are tried."""
    strict: bool

    @property
    def order(self) -> tuple[str, ...]:
        """The regions that have the key, the preferred one first."""
        return tuple(self.arns)

    def wraps(self, wrapped: EncryptedDataKey) -> bool:
        """Return whether `wrapped` names this key, in whatever region: anything else is another purpose's."""
        if wrapped.provider_id != KMS_PROVIDER:
            return False
        if not 0 < len(wrapped.ciphertext) <= MAX_WRAPPED_BYTES:
            return False
        try:
            text = wrapped.provider_info.decode("ascii")
        except UnicodeDecodeError:
            return False
        if text in self.arns.values():
            return True
        named = parse_key_arn(text)
        return named is not None and self.arn.opens(named)


class KeyRing:
    """Keys by purpose; what could not be resolved at the start is resolved at its first use."""

    def __init__(self, config: CoreConfig, failover: Failover, *, clock: Clock) -> None:
        self._config = config
        self._failover = failover
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: SingleFlight[str] = SingleFlight(clock)
        self._keys: dict[str, PurposeKey] = {
            purpose: self._purpose_key(purpose, self._pinned_arn(key.key_id))
            for purpose, key in config.keys.items()
            if key.key_id is not None
        }

    def ids(self) -> dict[str, str | None]:
        """Return purpose to key id; None where it is not known yet."""
        keys = self._keys
        return {purpose: keys[purpose].arn.key_id if purpose in keys else None for purpose in self._config.keys}

    def regions(self, purpose: str) -> tuple[str, ...]:
        """Return the regions that have the key of `purpose`; all of them while it is not known."""
        key = self._keys.get(purpose)
        return key.order if key is not None else self._config.region_order

    def get(self, purpose: str, deadline: Deadline, *, region: str | None = None) -> PurposeKey:
        """Return the key of `purpose`, asking KMS, in `region` alone when given, while it is not known.

        Raises:
            ConfigurationError: no such purpose is configured, or it has the key of another one.
            KmsUnavailableError, KmsDeniedError: the alias could not be resolved.
        """
        if (key := self._keys.get(purpose)) is not None:
            return key
        if purpose not in self._config.keys:
            raise ConfigurationError(f"purpose {purpose!r} is not configured; {', '.join(self._config.keys)} are")
        if region is not None:
            self._resolve(purpose, (region,), deadline, pinned=True)
        else:
            self._flights.join(
                purpose, lambda: self._resolve(purpose, self._config.region_order, deadline, pinned=False), deadline
            )
        return self.get(purpose, deadline, region=region)

    def resolve_at_start(
        self, regions: Regions, breakers: Breakers, attempt_seconds: float, deadline: Deadline
    ) -> None:
        """Ask all regions at once what the aliases point to; those that answer must agree.

        Regions that could not be reached begin with an open breaker, and join later. What stays unknown because
        some region could not be asked is no error yet.

        Raises:
            ConfigurationError: every region says that an alias does not exist, or it is another account's key, or
                not the same key in every region, or another purpose's key.
        """
        asked = {
            purpose: [(region, self._begin(purpose, region, regions, breakers)) for region in self._config.region_order]
            for purpose in self._config.keys
            if purpose not in self._keys
        }
        limit = Deadline(self._clock, min(attempt_seconds, deadline.left()))
        for purpose, flights in asked.items():
            errors = [self._finish(purpose, flight, limit) for _, flight in flights]
            for (region, _), error in zip(flights, errors, strict=True):
                _trip_if_unreachable(region, error, breakers)
            if purpose not in self._keys:
                self._refuse_if_wrong(purpose, [error for error in errors if error is not None])

    def connect(self, regions: Regions, breakers: Breakers, limit: Deadline) -> tuple[str, ...]:
        """Ask every region at once for a key that we have, and return those that answered, whatever they said.

        Regions that could not be reached have an open breaker from then on, as at the start.
        """
        purpose = next(iter(self._config.keys))
        flights = [(region, self._begin(purpose, region, regions, breakers)) for region in self._config.region_order]
        errors = [(region, self._asked(flight, limit)) for region, flight in flights]
        for region, error in errors:
            _trip_if_unreachable(region, error, breakers)
        return tuple(region for region, error in errors if error is None or error.error.answered)

    def _begin(self, purpose: str, region: str, regions: Regions, breakers: Breakers) -> Flight[DescribedKey]:
        return regions.begin(self._request(purpose), region, breakers.admit_anyway(region))

    def _finish(self, purpose: str, flight: Flight[DescribedKey], limit: Deadline) -> AttemptFailedError | None:
        try:
            described = flight.finish(limit.left())
        except AttemptFailedError as e:
            return e
        if purpose not in self._keys:
            self._learn(purpose, described)
        self._refuse_if_another(purpose, described)
        return None

    def _asked(self, flight: Flight[DescribedKey], limit: Deadline) -> AttemptFailedError | None:
        try:
            flight.finish(limit.left())
        except AttemptFailedError as e:
            return e
        return None

    def _refuse_if_another(self, purpose: str, described: DescribedKey) -> None:
        """Refuse an alias that is not the same key everywhere: what one region sealed, another could not open."""
        arn, known = parse_key_arn(described.key_arn), self._keys[purpose].arn
        if arn is not None and not known.opens(arn):
            alias = self._config.keys[purpose].alias
            raise ConfigurationError(f"{alias} is {known.key_id} in {known.region}, but {arn.key_id} in {arn.region}")

    def _refuse_if_wrong(self, purpose: str, errors: list[AttemptFailedError]) -> None:
        alias = self._config.keys[purpose].alias
        codes = {error.failure.error_code for error in errors}
        if WRONG_ACCOUNT in codes:
            raise ConfigurationError(f"{alias} is not a key of account {self._config.account_id}")
        if codes == {"NotFoundException"}:
            raise ConfigurationError(f"{alias} exists in none of the regions {', '.join(self._config.regions)}")

    def _resolve(self, purpose: str, order: tuple[str, ...], deadline: Deadline, *, pinned: bool) -> None:
        if purpose not in self._keys:
            self._learn(purpose, self._failover.call(self._request(purpose), order, deadline, pinned=pinned))

    def _request(self, purpose: str) -> Request[DescribedKey]:
        alias = self._config.keys[purpose].alias
        ask = functools.partial(_describe, alias=alias, account_id=self._config.account_id)
        return Request(operation=DESCRIBE_KEY, purpose=purpose, ask=ask)

    def _learn(self, purpose: str, described: DescribedKey) -> None:
        arn = parse_key_arn(described.key_arn)
        if arn is None:  # `_describe` has checked it
            raise ConfigurationError(f"{described.key_arn!r} is no key")
        with self._lock:  # two purposes may be learnt at the same time
            for other, key in self._keys.items():
                if other != purpose and key.arn.opens(arn):
                    raise ConfigurationError(
                        f"{purpose} and {other} have the same key {arn.key_id}: each needs its own"
                    )
            self._keys.setdefault(purpose, self._purpose_key(purpose, arn))  # what was believed first stays believed

    def _purpose_key(self, purpose: str, arn: KeyArn) -> PurposeKey:
        order = self._config.region_order if arn.multi_region else (arn.region,)
        return PurposeKey(
            purpose=purpose,
            arn=arn,
            arns={region: str(arn.in_region(region)) for region in order},
            strict=self._config.strict(purpose),
        )

    def _pinned_arn(self, key_id: str) -> KeyArn:
        config = self._config
        region = config.region_order[0]
        return KeyArn(partition=config.partition, region=region, account=config.account_id, key_id=key_id)


def _trip_if_unreachable(region: str, error: AttemptFailedError | None, breakers: Breakers) -> None:
    if error is not None and error.blames and not error.error.answered:
        breakers.trip(region)


def _describe(kms: Kms, *, alias: str, account_id: str) -> DescribedKey:
    """Ask `kms` what `alias` points to, and check that the answer is a key there, of this account."""
    described = kms.describe_key(alias)
    arn = parse_key_arn(described.key_arn)
    if arn is None or arn.region != kms.region:
        raise KmsFailure(WRONG_ANSWER, status=OK, request_id=described.request_id)
    if arn.account != account_id:
        raise KmsFailure(WRONG_ACCOUNT, status=OK, request_id=described.request_id)
    return described

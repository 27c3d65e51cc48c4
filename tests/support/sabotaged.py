"""Systems that are broken in one way, for drills that must not be green of them: cores, and Toxiproxies.

Each is a real core over real connections, the real adapter, or a real watchdog, with one thing wrong. `Run.make_core`,
`Run.reach` and `Run.make_watchdog` are where they are put in.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.own_process import OwnProcess, Ways
from kms_core import Core, CoreConfig, KmsCoreError, KmsDeniedError, KmsUnavailableError
from kms_core.events import Attempt, BreakerMoved, Event, Observer
from kms_core.message import EncryptedDataKey
from kms_watchdog.config import CANARY_CONTEXT, Settings

MakeCore = Callable[..., Core]
_NEVER = 100
"""The most failures in a row that a breaker may be told to wait for: more than a short drill has."""
_RESENT = 20
"""How often a library that retries by itself sends a request again: more often than a pool has connections."""


def with_settings(**changes: Any) -> MakeCore:
    """Return what makes a core whose configuration differs from the drill's."""

    def make(config: CoreConfig, **rest: Any) -> Core:
        return Core(dataclasses.replace(config, **changes), **rest)

    return make


failover_off = with_settings(max_retries=0, circuit_breaker_threshold=_NEVER)
"""One attempt, in the first region, whatever comes of it."""
breaker_off = with_settings(circuit_breaker_threshold=_NEVER)
"""Every call runs into the dead region first."""
one_way_out = with_settings(max_retries=1, circuit_breaker_threshold=_NEVER)
"""Knows the next region, and none after it."""
patient = with_settings(connect_timeout_seconds=6.0, read_timeout_seconds=6.0, attempt_timeout_seconds=7.0)
"""Has no limit on an attempt that a caller could wait for."""
slow_is_well = with_settings(
    slow_call_seconds=60.0, connect_timeout_seconds=6.0, read_timeout_seconds=6.0, attempt_timeout_seconds=7.0
)
"""Counts errors alone: a region that answers, however late, is well."""
cache_off = with_settings(data_key_ttl_seconds=0.001)
"""Asks KMS for each operation."""
cache_for_ever = with_settings(data_key_ttl_seconds=3600.0)
"""Goes on with a data key long after its time."""
no_retry = with_settings(max_retries=0)
"""Hands its caller the first error that it meets."""
follows_no_refusal = with_settings(failover_on_access_denied=True)
"""Asks the next region for what one has denied."""


def with_strict_keys(*, strict: bool) -> MakeCore:
    """Return what makes a core to which a key's state in one region is final for every key, or for none."""

    def make(config: CoreConfig, **rest: Any) -> Core:
        keys = {purpose: dataclasses.replace(key, strict_key_state=strict) for purpose, key in config.keys.items()}
        return Core(dataclasses.replace(config, keys=keys), **rest)

    return make


def deaf(config: CoreConfig, **rest: Any) -> Core:
    """Return a core that no order of a person reaches."""
    return Core(config, **{name: value for name, value in rest.items() if name != "overrides"})


def retries_unseen(config: CoreConfig, *, on_client: Callable[[str, Any], None], **rest: Any) -> Core:
    """Return a core whose AWS library sends a request again by itself, and tells nobody: attempts look whole."""

    def resend(attempts: int, caught_exception: Exception | None, **_: Any) -> float | None:
        return 0.0 if caught_exception is not None and attempts < _RESENT else None

    def with_retries(region: str, client: Any) -> None:
        on_client(region, client)
        client.meta.events.register_first("needs-retry.kms", resend)

    return Core(config, on_client=with_retries, **rest)


class OneContext:
    """A core, or a region of it, that binds whatever it seals to its purpose alone."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Seal under the context that all share."""
        return self._inner.encrypt(plaintext, purpose=purpose, context=_of_all(purpose))  # type: ignore[no-any-return]

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Open what was sealed so."""
        return self._inner.decrypt(message, purpose=purpose, context=_of_all(purpose))  # type: ignore[no-any-return]


class Hoarder(Core):
    """Has one data key for all that it seals: whatever the drill does to KMS, its cache answers."""

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Seal under the context that all share."""
        return super().encrypt(plaintext, purpose=purpose, context=_of_all(purpose))

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Open what was sealed so."""
        return super().decrypt(message, purpose=purpose, context=_of_all(purpose))

    def pinned(self, region: str) -> Any:
        """Return a door that opens what was sealed so."""
        return OneContext(super().pinned(region))


def _of_all(purpose: str) -> dict[str, str]:
    return {**CANARY_CONTEXT, "purpose": purpose}


class AsksThePrimaryFirst(Core):
    """Cannot be started while the first region is dark."""

    def __init__(self, config: CoreConfig, **options: Any) -> None:
        super().__init__(config, **options)
        purpose = next(iter(config.keys))
        try:
            self.pinned(config.regions[0]).encrypt(b"", purpose=purpose, context=CANARY_CONTEXT)
        except KmsCoreError:
            self.close()
            raise


class GoesRound(Core):
    """Has the next region do what one has denied, whatever the reason, and says nothing of it."""

    def __init__(self, config: CoreConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self._next = config.regions[1]

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Seal, somewhere."""
        try:
            return super().encrypt(plaintext, purpose=purpose, context=context)
        except KmsDeniedError:
            return self.pinned(self._next).encrypt(plaintext, purpose=purpose, context=context)

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Open, somewhere."""
        try:
            return super().decrypt(message, purpose=purpose, context=context)
        except KmsDeniedError:
            return self.pinned(self._next).decrypt(message, purpose=purpose, context=context)


class Mumbler(Core):
    """Says "unavailable" of everything, whatever was the matter."""

    def encrypt(self, plaintext: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Seal, or say nothing that helps."""
        try:
            return super().encrypt(plaintext, purpose=purpose, context=context)
        except KmsDeniedError as e:
            raise KmsUnavailableError("try again later") from e

    def decrypt(self, message: bytes, *, purpose: str, context: Mapping[str, str]) -> bytes:
        """Open, or say nothing that helps."""
        try:
            return super().decrypt(message, purpose=purpose, context=context)
        except KmsDeniedError as e:
            raise KmsUnavailableError("try again later") from e


class TouchyBreaker(Core):
    """Takes any error for the region's end, also one that says that the region is well."""

    def __init__(self, config: CoreConfig, *, observer: Observer, **options: Any) -> None:
        self._told = observer
        super().__init__(config, observer=self, **options)

    def on_event(self, event: Event) -> None:
        """Tell the drill, and open the breaker of a region that answered with an error."""
        self._told.on_event(event)
        if isinstance(event, Attempt) and event.error_code and not event.refusal_wanted:
            self.force(event.region, "open", for_seconds=1.0, reason="an error")


def heard(*, opened: Callable[[], None], closed: Callable[[], None] = lambda: None) -> MakeCore:
    """Return what makes a core that is well, and says when a breaker first opens and when one closes again, once each.

    Both come after the fault was seen to be on, and to be off: a breaker takes its time.
    """
    waiting = {"open": opened, "closed": closed}

    class Told:
        def __init__(self, observer: Observer) -> None:
            self._observer = observer

        def on_event(self, event: Event) -> None:
            self._observer.on_event(event)
            if isinstance(event, BreakerMoved) and (tell := waiting.pop(event.new, None)) is not None:
                tell()

    def make(config: CoreConfig, *, observer: Observer, **rest: Any) -> Core:
        return Core(config, observer=Told(observer), **rest)

    return make


class Careless:
    """A region's door behind which KMS opens a data key under any context."""

    def __init__(self, door: Any) -> None:
        self._door = door

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def unwrap(self, _key: EncryptedDataKey, _context: Mapping[str, str], **_: Any) -> None:
        """Refuse nothing."""
        return


class CarelessKms(Core):
    """All regions' doors are like that."""

    def pinned(self, region: str) -> Any:
        """Return such a door."""
        return Careless(super().pinned(region))


class Toothless(Toxiproxy):
    """Shows every toxic that was ordered, and has none."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._shown: dict[str, list[dict[str, Any]]] = {}

    def add(self, name: str, toxic: Toxic) -> None:
        """Show it."""
        self._shown.setdefault(name, []).append(toxic.to_json())

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Show it no more."""
        self._shown[name] = [one for one in self._shown.get(name, []) if one["name"] != toxic]

    def proxy(self, name: str) -> ProxyState | None:
        """Return it with toxics that it has not."""
        state = super().proxy(name)
        return dataclasses.replace(state, toxics=tuple(self._shown.get(name, ()))) if state else None


class Stubborn(Toxiproxy):
    """Does not delete what was made."""

    def delete(self, name: str) -> None:
        """Fail."""
        raise ToxiproxyError(f"{name} cannot be deleted")


class Forgetful(OwnProcess):
    """A watchdog whose disk does not outlive it."""

    def __init__(self, settings: Settings, folder: Path, ways: Ways, *, publishes: bool) -> None:
        shutil.rmtree(folder / "state", ignore_errors=True)
        super().__init__(settings, folder, ways, publishes=publishes)


def watchdog_untold(*start: Any, publishes: bool) -> OwnProcess:
    """Start a watchdog that sends nothing to CloudWatch, whatever the drill wants."""
    return OwnProcess(*start, publishes=not publishes)


def watchdog_elsewhere(settings: Settings, folder: Path, ways: Ways, **more: Any) -> OwnProcess:
    """Start a watchdog that looks past the drill's proxies: to it, nothing is dark."""
    return OwnProcess(settings, folder, dataclasses.replace(ways, addresses={}), **more)


def watchdog_with(**changes: Any) -> Callable[..., OwnProcess]:
    """Return what starts a watchdog whose core's settings differ from the estate's."""

    def start(settings: Settings, *rest: Any, **more: Any) -> OwnProcess:
        core = settings.core.model_copy(update=changes)
        return OwnProcess(settings.model_copy(update={"core": core}), *rest, **more)

    return start


watchdog_asks_nobody = watchdog_with(verify_account=False)
"""Its core starts without asking whose its credentials are: STS may be dark, it does not know."""

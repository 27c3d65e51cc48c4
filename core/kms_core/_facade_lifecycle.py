"""The part of `Core` that is about its life: begun, warmed, checked, forked, closed."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kms_core import _forks, _sts
from kms_core._bulkhead import GivenUpError, Lane
from kms_core._deadline import Deadline
from kms_core._kms_boto3 import connector, find_credentials
from kms_core._observe import Emit
from kms_core._self_check import Checker, SelfCheck
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import ClosedError, ConfigurationError, ForkedError, KmsCoreError, KmsDeniedError
from kms_core.events import AccountNotVerified
from kms_core.kms import Kms
from kms_core.taxonomy import DEADLINE

if TYPE_CHECKING:
    from kms_core._breakers import Breakers
    from kms_core._envelope import Envelope
    from kms_core._keyring import KeyRing
    from kms_core._pinned import PinnedCore
    from kms_core._regions import Regions


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What is warm now."""

    regions: tuple[str, ...]
    """Regions that answered, so that a connection to each is open."""
    data_keys: int
    """Data keys that are in the cache for the contexts that were given."""


class Lifecycle:
    """What `Core` does besides sealing and opening; not to be used by itself."""

    _config: CoreConfig
    _clock: Clock
    _lane: Callable[[str], Lane]
    _breakers: Breakers
    _regions: Regions
    _keyring: KeyRing
    _envelope: Envelope
    _closing: threading.Event
    _emit: Emit | None
    _forked = False
    _forgotten: weakref.finalize[..., Any] | None = None
    """Ends the threads when nobody holds this any more."""

    if TYPE_CHECKING:

        def _join_watch(self) -> None: ...

        def pinned(self, region: str) -> PinnedCore:
            """See `Core.pinned`."""
            ...

    def self_check(self, *, timeout_seconds: float | None = None, purposes: Iterable[str] | None = None) -> SelfCheck:
        """Seal and open one canary in every region under every purpose's key, all at once, as who this process is.

        For an application's readiness: `SelfCheck.ready` says whether it can serve, `SelfCheck.ok` whether every
        region would do. Nothing comes from the cache, and regions whose breakers are open are asked too. The context
        is `{"canary": "true"}`. Takes two KMS requests a region and purpose.

        Args:
            timeout_seconds: what has not ended by then has failed with `Deadline`; the configuration's
                `deadline_seconds` when None.
            purposes: those that this application may use; all that are configured when None.

        Raises:
            ClosedError: the core is closed. ConfigurationError: no such purpose is configured, or none is named.
        """
        self._refuse_if_closed()
        wanted = tuple(self._config.keys) if purposes is None else tuple(purposes)
        if unknown := [purpose for purpose in wanted if purpose not in self._config.keys]:
            raise ConfigurationError(f"purpose {unknown[0]!r} is not configured")
        if not wanted:
            raise ConfigurationError("no purpose is to be checked: that would look ready without a look")
        checker = Checker(
            pinned=self.pinned,
            regions=self._config.region_order,
            purposes=wanted,
            lane=self._lane,
            clock=self._clock,
        )
        return checker.run(self._config.deadline_seconds if timeout_seconds is None else timeout_seconds)

    def warm_up(self, contexts: Mapping[str, Iterable[Mapping[str, str]]] | None = None) -> WarmUp:
        """Open a connection to every region, and fetch data keys before anybody waits for them.

        Args:
            contexts: purpose to the contexts that the application will seal under; each costs one KMS request.

        Raises:
            ContextError, ConfigurationError: a context or a purpose cannot be used.
            KmsUnavailableError, KmsDeniedError: a data key is not to be had. Regions that cannot be reached are no
                error; they are left out of what is returned.
        """
        self._refuse_if_closed()
        regions = self._keyring.connect(self._regions, self._breakers, Deadline(self._clock, self._attempt_seconds()))
        wanted = [(purpose, context) for purpose, each in (contexts or {}).items() for context in each]
        for purpose, context in wanted:
            self._envelope.warm(purpose=purpose, context=context)
        return WarmUp(regions=regions, data_keys=len(wanted))

    def close(self) -> None:
        """End every thread and connection, and forget every data key. Calls that are under way raise `ClosedError`.

        Takes locks that a call may hold: a signal handler shall not close, but have a thread do it.
        """
        if self._forked:
            return  # threads, sockets and locks are the parent's
        self._closing.set()
        self._regions.close()
        self._envelope.forget()
        self._join_watch()

    def forked(self) -> None:
        """Refuse all calls from now on: this is a child process. Called by the operating system's fork alone."""
        self._forked = True
        if self._forgotten is not None:
            self._forgotten.detach()  # it would take locks and close sockets that are the parent's
        self._closing = threading.Event()  # the old one's lock may be held by a thread that is not here
        self._closing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clients(
        self,
        connect: Callable[[str], Kms] | None,
        on_client: Callable[[str, Any], None] | None,
        session: Any,
        deadline: Deadline,
    ) -> dict[str, Kms]:
        """Return a `Kms` for each region, by `connect` or, when that is None, by boto3.

        boto3 looks for credentials when it makes a client, for as long as it takes: so they are looked for before, as
        long as `deadline` allows. Making the clients takes processor time alone.
        """
        if connect is not None:
            return _connected(self._config, connect)
        lane = self._lane("credentials")
        try:
            lane.submit(functools.partial(find_credentials, session)).result(deadline.left())
        except GivenUpError as e:
            raise KmsDeniedError("whoever gives boto3 its credentials did not do so in time") from e
        finally:
            lane.close()
        return _connected(self._config, connector(self._config, on_client, session, self._clock))

    def _tell_account(self, answer: Callable[[float], str], seconds: float) -> None:
        """Say so when nobody could tell whose the credentials are; the start goes on."""
        try:
            reason = answer(seconds)
        except GivenUpError:
            reason = DEADLINE
        if reason and self._emit is not None:
            self._emit(AccountNotVerified(account_id=self._config.account_id, reason=reason))

    def _start(self, session: Any, deadline: Deadline) -> None:
        """Learn the keys, and meanwhile whose credentials `session` has; None: nobody's."""
        _forks.remember(self)
        lane = self._lane("sts")
        try:
            self._assume_role(lane, session, deadline)
            account = self._ask_account(lane, session)
            self._keyring.resolve_at_start(self._regions, self._breakers, self._attempt_seconds(), deadline)
            self._tell_account(account, min(self._attempt_seconds(), deadline.left()))
        except BaseException:
            self.close()
            raise
        finally:
            lane.close()

    def _assume_role(self, lane: Lane, session: Any, deadline: Deadline) -> None:
        """Wait for a role's first credentials, so that a slow STS is not taken for a slow KMS."""
        if session is None or self._config.role_arn is None:
            return
        with contextlib.suppress(GivenUpError):
            lane.submit(functools.partial(_sts.fetch_credentials, session)).result(deadline.left() / 2)

    def _ask_account(self, lane: Lane, session: Any) -> Callable[[float], str]:
        """Begin to ask STS, when that is wanted; return what waits for the answer, and raises what it means."""
        if session is None or not self._config.verify_account:
            return lambda _: ""
        return lane.submit(functools.partial(_sts.refuse_another_account, self._config, session)).result

    def _attempt_seconds(self) -> float:
        return self._config.attempt_timeout_seconds

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise self._closed_error()

    def _refuse_if_forked(self) -> None:
        if self._forked:
            raise self._closed_error()

    def _closed_error(self) -> KmsCoreError:
        if self._forked:
            return ForkedError("this core was made before the process forked: make one in the child")
        return ClosedError("the core is closed")


def _connected(config: CoreConfig, connect: Callable[[str], Kms]) -> dict[str, Kms]:
    """Return a `Kms` for each region; when one cannot be made, those that were are closed.

    The first is the one tried first: botocore asks that region's STS for what a platform's token stands for.
    """
    made: dict[str, Kms] = {}
    try:
        for region in config.region_order:
            made[region] = connect(region)
    except BaseException:
        for kms in made.values():
            kms.close()
        raise
    return made

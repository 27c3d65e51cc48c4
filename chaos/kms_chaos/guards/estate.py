"""Guards that ask the daemon how the estate is: the eyes that watch production have looked already.

Not KMS itself: the drill's role then needs no more rights than its workload, and what the daemon cannot see, no
drill can be judged by. A canary kind that is not configured was not looked at, so its guard does not hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from kms_chaos.guards.checking import CannotTellError, NotHeldError
from kms_core.clock import Clock
from kms_watchdog import status_client
from kms_watchdog.config import Settings
from kms_watchdog.health import Subject
from kms_watchdog.results import Kind, Outcome, Reason
from kms_watchdog.sharding import is_ours
from kms_watchdog.status_client import NoAnswerError
from kms_watchdog.web.access import token_of

Document = Mapping[str, Any]
Place = tuple[str, str]
"""Region and purpose."""

MAX_AGE_SECONDS = 30.0
"""How far the daemon's own time, when it answered, may be from ours: it is the same machine's clock."""
PATIENCE_SECONDS = 60.0
"""How long a daemon that has just started is waited for until each of its canaries has looked once."""
_LOOK_SECONDS = 1.0


class NotYetError(CannotTellError):
    """A canary has not looked yet."""


class Watchdog:
    """The running daemon, asked over HTTP."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._token = token_of(settings.http)
        self._until: float | None = None

    def document(self) -> Document:
        """Return what the daemon says now.

        Raises:
            CannotTellError: no daemon answers, or one of another estate, or with old news.
        """
        url = status_client.running_url(self._settings.state.dir / "http.json")
        if url is None:
            raise CannotTellError(f"no kms-watchdog daemon runs on {self._settings.state.dir} (no readable http.json)")
        try:
            found = status_client.fetch(url, self._token() if self._token else None)
        except NoAnswerError as e:
            raise CannotTellError(f"the kms-watchdog daemon does not tell how the estate is: {e}") from e
        of_this_estate(found, self._settings)
        of_now(found, self._clock.now_utc())
        return found

    def seen(self, guard: Callable[[Document], str], stop: threading.Event) -> str:
        """Ask `guard`, again and again while all it says is that a canary has not looked yet: a minute for all guards.

        Raises:
            NotHeldError: as `guard`; also when `stop` is set meanwhile.
        """
        if self._until is None:
            self._until = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return guard(self.document())
            except NotYetError:
                if self._clock.monotonic() >= self._until or self._clock.wait(stop, _LOOK_SECONDS):
                    raise


def of_this_estate(document: Document, settings: Settings) -> None:
    """Return if `document` is about the estate of `settings`.

    Raises:
        CannotTellError: it is about another one.
    """
    wanted = (settings.estate.name, set(settings.estate.regions), set(settings.keys))
    regions = {one.get("region") for one in document.get("regions", ())}
    found = (document.get("estate"), regions, {one.get("purpose") for one in document.get("keys", ())})
    if found != wanted:
        raise CannotTellError(
            f"the daemon that answers watches another estate: {found[0]} of {_listed(found[1])} "
            f"with {_listed(found[2])}, not {wanted[0]} of {_listed(wanted[1])} with {_listed(wanted[2])}"
        )
    if document.get("place") != settings.replicas.place:
        told, here = document.get("place") or "everywhere", settings.replicas.place or "everywhere"
        raise CannotTellError(f"the daemon that answers looks from {told}, and this configuration is of {here}")


def of_now(document: Document, now_utc: datetime) -> None:
    """Return if `document` was written now.

    Raises:
        CannotTellError: it is old, or from the future, or says nothing of it.
    """
    try:
        age_seconds = (now_utc - datetime.fromisoformat(str(document["now_utc"]))).total_seconds()
    except (KeyError, ValueError, TypeError) as e:
        raise CannotTellError("the daemon does not say what time it is") from e
    if abs(age_seconds) > MAX_AGE_SECONDS:
        raise CannotTellError(f"the daemon's answer is {age_seconds:.0f} s old")


def healthy(document: Document, settings: Settings) -> str:
    """See that every key is usable in every region, with fresh results, and that every live breaker is closed."""
    for region in document["regions"]:
        name, breaker = region["region"], region["breaker"]
        if region.get("forced") or region.get("evacuated"):
            raise NotHeldError(f"somebody has taken {name} out of use (`kms-watchdog return` brings it back)")
        if breaker not in {"closed", "unknown"}:
            raise NotHeldError(f"the live breaker of {name} is {breaker}")
    places = _places(Kind.ROUND_TRIP, settings)
    _all_well(document, Kind.ROUND_TRIP, places, settings)
    for region in document["regions"]:
        if region["healthy"] is False or region["breaker"] != "closed":
            raise NotHeldError(f"{region['region']} is not healthy yet: its breaker is {region['breaker']}")
    for key in document["keys"]:
        if key["usable"] is False:
            raise NotHeldError(f"key {key['purpose']} is usable nowhere")
    return f"{len(places)} round trips are up, {len(settings.estate.regions)} breakers closed"


def keys_enabled(document: Document, settings: Settings) -> str:
    """See that the daemon found every key Enabled in every region."""
    places = _places(Kind.KEY_STATE, settings)
    _all_well(document, Kind.KEY_STATE, places, settings)
    return f"{len(places)} keys and replicas are Enabled"


def not_drifted(document: Document, settings: Settings) -> str:
    """See that the daemon found every key and replica to be as configured."""
    places = _places(Kind.REPLICA_DRIFT, settings)
    _all_well(document, Kind.REPLICA_DRIFT, places, settings)
    return f"{len(places)} keys and replicas are as configured"


def unthrottled(document: Document, settings: Settings, survivors: Iterable[str]) -> str:
    """See that the regions that are to carry the traffic throttle nobody, and have headroom left."""
    regions = tuple(survivors)
    told = throttling(document, settings, regions)
    _all_well(document, Kind.HEADROOM, [(region, "") for region in regions], settings)
    return told


def throttling(document: Document, settings: Settings, survivors: Iterable[str]) -> str:
    """See during a drill that no region that carries the traffic throttles anybody.

    That `unthrottled` held at the start makes any throttling one that rises. News that is late tells nothing.
    """
    regions = tuple(survivors)
    for region in regions:
        seen = _canary(document, Kind.HEADROOM, (region, ""), settings)
        last = seen["last"]
        throttles = (last.get("facts") or {}).get("throttles")  # shown to who has the token alone
        if throttles or last.get("reason") == Reason.HEADROOM_LOW:
            told = f"{throttles:g} throttled requests" if throttles else "little headroom left"
            raise NotHeldError(f"{region}, which carries the traffic, has {told}")
        if seen["shown"] in {"stale", "blind"}:
            raise CannotTellError(f"{Kind.HEADROOM} of {region} is {seen['shown']}")
    return f"{', '.join(regions)} throttle nobody" if regions else "no region is to carry the traffic"


def _places(kind: Kind, settings: Settings) -> list[Place]:
    """Return where the daemon is to look; of what other places look at the live alarms tell, which read them all."""
    places = [(region, purpose) for region in settings.estate.regions for purpose in settings.keys]
    return [where for where in places if is_ours(kind, Subject(kind, *where).id, settings.replicas)]


def _all_well(document: Document, kind: Kind, places: Iterable[Place], settings: Settings) -> None:
    late: NotYetError | None = None
    for place in places:  # what is bad is told before what is only late
        try:
            _well(_canary(document, kind, place, settings), place)
        except NotYetError as e:
            late = late or e
    if late is not None:
        raise late


def _well(seen: Mapping[str, Any], place: Place) -> None:
    last, shown = seen["last"], seen["shown"]
    if shown != "up" or last["outcome"] != Outcome.OK:
        why = last.get("reason") or shown
        raise NotHeldError(f"{seen['canary']} of {' '.join(filter(None, place))} is {shown}: {why}")


def _canary(document: Document, kind: Kind, place: Place, settings: Settings) -> Mapping[str, Any]:
    """Return what `kind` last said of `place`.

    Raises:
        NotHeldError: the daemon is not configured to look.
        NotYetError: it has not looked yet.
    """
    if kind not in settings.canaries.kinds:
        raise NotHeldError(f"the daemon does not look: canaries.kinds lacks {kind}")
    seen = next((one for one in _of_kind(document, kind) if (one["region"], one["key"]) == place), None)
    where = " ".join(filter(None, place))
    if seen is None:
        raise NotHeldError(f"the daemon does not look: it has no {kind} of {where}")
    if not seen.get("last"):
        raise NotYetError(f"{kind} of {where} has not looked yet")
    return seen


def _of_kind(document: Document, kind: Kind) -> Iterator[Mapping[str, Any]]:
    return (one for one in document["canaries"] if one["canary"] == kind)


def _listed(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "nothing"

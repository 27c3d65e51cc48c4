"""The service's life: settings, the core, a first look at the keys, then listening; and all of it back again."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack

from kms_core import ConfigurationError, Core, KmsDeniedError, KmsUnavailableError, SystemClock
from kms_core.aio import AsyncCore
from kms_core.overrides import FileOverrides
from parker_flight_api.bookings import FIELDS, Bookings
from parker_flight_api.ending import Ending
from parker_flight_api.metrics import Metrics, observing
from parker_flight_api.readiness import Watch, denial
from parker_flight_api.server import ListenError, Server, bind
from parker_flight_api.settings import Settings
from parker_flight_api.web import Api, LastAnswers, application

log = logging.getLogger("parker_flight_api")


def main(ending: Ending) -> int:
    """Serve until `ending` is asked for; 0: it ended well; 1: it cannot start, and one line says why."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        settings = Settings.from_env(os.environ)
        _refuse_useless(settings)
        return run(settings, ending)
    except (ConfigurationError, KmsDeniedError, ListenError) as e:
        print(f"parker_flight_api: cannot start: {' '.join(str(e).split())}", file=sys.stderr)  # noqa: T201 - see above
        return 1


def run(settings: Settings, ending: Ending) -> int:
    """Serve with `settings`.

    Raises:
        ConfigurationError, KmsDeniedError, ListenError: it cannot start. An outage is no such thing: whatever cannot be
            reached now joins later, and `/readyz` says when that is enough; nor is a key that is denied beside others.
    """
    clock, metrics = SystemClock(), Metrics()
    with ExitStack() as stack:
        listener = stack.enter_context(bind(settings.host, settings.port))
        observer = stack.enter_context(observing(settings, metrics))  # ends last: what is told until then is sent
        said = FileOverrides(settings.overrides_file) if settings.overrides_file else None
        blocking = stack.enter_context(Core(settings.core, observer, clock=clock, overrides=said))
        core = AsyncCore(blocking)
        bookings = Bookings.of(core, settings.core.keys)
        watch = Watch(blocking, clock, settings.readiness_seconds, metrics.looked)
        _warm_up(blocking, bookings)
        if why := denial(watch.look()):
            raise KmsDeniedError(why)
        watch.start()
        stack.callback(watch.close)
        if not ending.asked:
            api = Api(bookings, watch, metrics, clock, config=settings.core, health_token=settings.health_token)
            served = LastAnswers(application(api, core.close), api)
            server = Server(served, ending, api.begin_to_end, clock, shutdown_seconds=settings.shutdown_seconds)
            server.run(sockets=[listener])
    log.info("ended")
    return 0


def _refuse_useless(settings: Settings) -> None:
    wanted = {field.purpose for field in FIELDS.values()}
    if not wanted & settings.core.keys.keys():
        raise ConfigurationError(f"KMS_PURPOSES must name one of {', '.join(sorted(wanted))}")


def _warm_up(core: Core, bookings: Bookings) -> None:
    """Fetch data keys before the first customer waits for them; that it cannot be done now is no reason to end."""
    try:
        core.warm_up({field.purpose: [field.context] for field in bookings.fields.values()})
    except (KmsUnavailableError, KmsDeniedError) as e:
        log.warning("not warm: %s", e)

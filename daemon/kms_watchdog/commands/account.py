"""Whose credentials a command has: those of another account than the configured one are refused."""

from __future__ import annotations

from kms_watchdog import identity
from kms_watchdog.commands.options import COULD_NOT_TELL, REFUSED, Stop
from kms_watchdog.config import Settings
from kms_watchdog.identity import Identity


def check_account(settings: Settings) -> Identity:
    """See that the credentials are of the configured account; return whose they are.

    Raises:
        Stop: they are of another one (exit code 4), or nobody can tell (3).
    """
    try:
        caller = identity.caller(settings)
    except identity.IdentityError as e:
        raise Stop(str(e), COULD_NOT_TELL) from e
    refuse_another(settings, caller)
    return caller


def refuse_another(settings: Settings, caller: Identity) -> None:
    """End with exit code 4 if `caller` is of another account than the configured one.

    Raises:
        Stop: it is.
    """
    if said := identity.why_refused(settings, caller):
        raise Stop(said, REFUSED)

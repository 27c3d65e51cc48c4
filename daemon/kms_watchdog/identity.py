"""Who this process is to AWS."""

from __future__ import annotations

from dataclasses import dataclass

from kms_watchdog import aws
from kms_watchdog.config import Settings


class IdentityError(RuntimeError):
    """STS does not tell who we are; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom STS sees."""

    account_id: str
    arn: str


def caller(settings: Settings) -> Identity:
    """Return whose credentials this process uses, as STS in the home region tells it. Main thread.

    Raises:
        IdentityError: STS does not tell.
    """
    sts = aws.client(settings, "sts", settings.home_region)
    try:
        answer = sts.get_caller_identity()
        return Identity(account_id=str(answer["Account"]), arn=str(answer["Arn"]))
    except aws.AwsError as e:
        raise IdentityError(f"STS in {settings.home_region} does not say who we are: {aws.error_code(e)}") from e
    except KeyError as e:
        raise IdentityError(f"STS in {settings.home_region} does not say our {e}") from e
    finally:
        sts.close()


def why_refused(settings: Settings, who: Identity) -> str:
    """Return, in a line, that `who` is of another account than the configured one; empty if not. Pure."""
    if who.account_id == settings.estate.account_id:
        return ""
    return f"the credentials are of account {who.account_id}, the configuration of {settings.estate.account_id}"

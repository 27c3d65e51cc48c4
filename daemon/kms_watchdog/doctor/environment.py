"""Environment variables that do not what they seem to, the setup guide's first of all. Pure but for what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from kms_watchdog.config import Settings
from kms_watchdog.doctor.checks import Check, bad, good, note

Environment = Mapping[str, str]


def misleading(environ: Environment, settings: Settings, is_file: Callable[[str], bool]) -> Iterator[Check]:
    """Yield a check for each variable that misleads; one good one if none does."""
    found = [check for look in _LOOKS for check in look(environ, settings)]
    found += _ca_bundle(environ, settings, is_file)
    yield from found or [good("environment", "no variable misleads")]


def _role_arn(environ: Environment, _settings: Settings) -> Iterator[Check]:
    if environ.get("AWS_ROLE_ARN") and not environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        yield bad(
            "AWS_ROLE_ARN",
            "it does nothing alone: it is read only together with AWS_WEB_IDENTITY_TOKEN_FILE",
            "Give the task its role, name a profile with role_arn and credential_source, or set `[core] role_arn`.",
        )


def _region(environ: Environment, settings: Settings) -> Iterator[Check]:
    region, home = environ.get("AWS_REGION", ""), settings.home_region
    if region and region != home:
        yield note(
            "AWS_REGION",
            f"it says {region}, and [estate] home_region {home}; it is where a process runs, never where the primary"
            f" keys are ({settings.estate.primary_region}, by the configuration)",
            "If this process runs there, set `home_region`; ECS sets AWS_REGION itself: do not overwrite it.",
        )


def _account(environ: Environment, settings: Settings) -> Iterator[Check]:
    account_id = environ.get("AWS_ACCOUNT_ID", "")
    if account_id and account_id != settings.estate.account_id:
        yield bad(
            "AWS_ACCOUNT_ID",
            f"it says {account_id}, and [estate] account_id {settings.estate.account_id}; AWS itself reads neither",
            "Find out which is right; STS says whose the credentials are.",
        )


def _endpoint(environ: Environment, settings: Settings) -> Iterator[Check]:
    named = {region for region, endpoint in settings.endpoints.items() if endpoint.kms}
    others = [region for region in settings.estate.regions if region not in named]
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    for name in ("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"):
        if environ.get(name) and others and not ignored:
            said = f"it is one address for KMS of all regions, {', '.join(others)} among them"
            yield bad(name, said, "Take it away; `[endpoints.REGION] kms` is an address for each.")


def _sts(environ: Environment, _settings: Settings) -> Iterator[Check]:
    if environ.get("AWS_STS_REGIONAL_ENDPOINTS", "").lower() == "legacy":
        said = "the global STS endpoint lives in us-east-1 alone: without it nobody gets credentials"
        yield bad("AWS_STS_REGIONAL_ENDPOINTS", said, "Set it to `regional`, or take it away.")


def _proxy(environ: Environment, _settings: Settings) -> Iterator[Check]:
    url = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or ""
    if url:
        host = urlsplit(url if "://" in url else f"http://{url}").hostname
        yield note("HTTPS_PROXY", f"calls to AWS go through {host}, but for what NO_PROXY names")


def _profile(environ: Environment, _settings: Settings) -> Iterator[Check]:
    if environ.get("AWS_PROFILE") and environ.get("AWS_ACCESS_KEY_ID"):
        yield note("AWS_PROFILE", "AWS_ACCESS_KEY_ID is set too, and is what boto3 takes")


def _ca_bundle(environ: Environment, settings: Settings, is_file: Callable[[str], bool]) -> Iterator[Check]:
    path = environ.get("AWS_CA_BUNDLE", "")
    if path and settings.estate.ca_bundle is None and not is_file(path):
        yield bad(
            "AWS_CA_BUNDLE", f"{path} is not there, so no connection is trusted", "Mend the path, or take it away."
        )


_LOOKS: tuple[Callable[[Environment, Settings], Iterator[Check]], ...] = (
    _role_arn,
    _region,
    _account,
    _endpoint,
    _sts,
    _proxy,
    _profile,
)

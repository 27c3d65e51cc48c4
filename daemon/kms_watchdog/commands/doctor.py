"""`kms-watchdog doctor`: what is wrong, why, and which runbook goes on from there."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from kms_core import SystemClock
from kms_core.clock import Clock
from kms_watchdog.commands.completing import KeyName, RegionName
from kms_watchdog.commands.options import BAD_FOUND, COULD_NOT_TELL, GOOD, Stop, config_option, load_settings
from kms_watchdog.config import Settings
from kms_watchdog.doctor import message as messages
from kms_watchdog.doctor import prerequisites, report, ways
from kms_watchdog.doctor.checks import Check, bad, good, outcome
from kms_watchdog.doctor.codes import Code, find
from kms_watchdog.doctor.diagnosis import Outcome, diagnose, given_by
from kms_watchdog.doctor.examination import Scope, Surgery, examine, golden_keys
from kms_watchdog.doctor.subjects import NoSuchKeyError, Wanted, all_keys, key_named, purpose_of

EXIT_CODES = {Outcome.NOTHING_WRONG: GOOD, Outcome.CAUSE_FOUND: BAD_FOUND, Outcome.COULD_NOT_TELL: COULD_NOT_TELL}


class _Network(click.Choice[str]):
    """The word `network`; who names a region, a key or an error at once is told how: it may be three in the morning."""

    def __init__(self) -> None:
        super().__init__(["network"])

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        if value not in self.choices:
            raise Stop(f"{value!r}: a region goes with --region, a key with --key, an error with --code")
        return super().convert(value, param, ctx)


@click.command(
    "doctor",
    epilog="""\b
Examples:
  kms-watchdog doctor
  kms-watchdog doctor --code AccessDeniedException --key payment --region eu-west-1
  kms-watchdog doctor --code KMS_KEY_UNAVAILABLE --json
  kms-watchdog doctor network
  kms-watchdog doctor --message sealed.bin --key pii
  kms-watchdog doctor --prerequisites""",
)
@click.argument("what", required=False, type=_Network(), metavar="[network]")
@config_option
@click.option(
    "--code", "code_name", metavar="CODE", help="The error that was seen: AWS's code, our exception or reason."
)
@click.option("--region", type=RegionName(), help="Look at this region alone.")
@click.option("--key", type=KeyName(), metavar="PURPOSE|ALIAS|ID|ARN", help="Look at this key alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for all looks; what has no answer by then is left behind, and told.",
)
@click.option(
    "--message", "message_file", type=click.File("rb"), help="Read this sealed message (- is stdin); asks nobody."
)
@click.option("--show-context", is_flag=True, help="With --message: the values of its encryption context, too.")
@click.option("--prerequisites", "only_prerequisites", is_flag=True, help="Look at what this machine needs.")
def command(
    what: str | None,
    config_path: Path,
    code_name: str | None,
    region: str | None,
    key: str | None,
    message_file: BinaryIO | None,
    deadline_seconds: float,
    *,
    as_json: bool,
    show_context: bool,
    only_prerequisites: bool,
) -> None:
    """Find what is wrong with regions, keys, policies, credentials or network.

    Reads only: keys are tried by dry runs with the canary's context, so nothing secret comes back. Shows what was asked
    and answered, the most likely cause, and its runbook. `network`: the ways to each region alone.

    Exit code 0: nothing wrong; 1: a cause found; 2: usage or configuration; 3: could not tell.
    """
    modes = {"network": what, "--message": message_file, "--prerequisites": only_prerequisites}
    given = {"--code": code_name, "--region": region, "--key": key, "--show-context": show_context}
    _check_combination(
        [name for name, value in modes.items() if value], [name for name, value in given.items() if value]
    )
    if only_prerequisites:
        _prerequisites(config_path, deadline_seconds, as_json=as_json)
    settings, clock = load_settings(config_path), SystemClock()
    if message_file is not None:
        _message(settings, clock, message_file, key, as_json=as_json, show_context=show_context)
    regions = _regions(settings, region)
    code = find(code_name) if code_name else None
    if what == "network":
        _network(settings, clock, regions, deadline_seconds, as_json=as_json)
    _everything(settings, clock, regions, key, code, deadline_seconds, as_json=as_json)


_TAKES = {
    "network": {"--region"},
    "--message": {"--key", "--show-context"},
    "--prerequisites": set(),
    "": {"--code", "--region", "--key"},
}
"""Which options each way of asking takes."""


def _check_combination(modes: list[str], given: list[str]) -> None:
    if len(modes) > 1:
        raise Stop(f"{' and '.join(modes)}: one at a time")
    mode = modes[0] if modes else ""
    if strange := [name for name in given if name not in _TAKES[mode]]:
        raise Stop(f"{strange[0]} does not go with {mode}" if mode else f"{strange[0]} goes with --message")


def _regions(settings: Settings, asked: str | None) -> tuple[str, ...]:
    known = settings.estate.regions
    if asked is None:
        return known
    if asked not in known:
        near = difflib.get_close_matches(asked, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise Stop(f"no region {asked!r} in the configuration; {meant}")
    return (asked,)


def _everything(
    settings: Settings,
    clock: Clock,
    regions: tuple[str, ...],
    key: str | None,
    code: Code | None,
    deadline_seconds: float,
    *,
    as_json: bool,
) -> None:
    asked = _key(settings, clock, key) if key else None
    found = examine(Surgery(settings, clock, _scope(settings, regions, asked)), deadline_seconds)
    lines, keys = found.lines, all_keys(settings.keys)
    if asked is not None:
        purpose = purpose_of(asked, found.key_ids)
        lines = tuple(seen for seen in lines if seen.purpose in {"", purpose})
        keys = (replace(asked, purpose=purpose, configured=asked.configured or purpose != asked.purpose),)
    given = given_by(settings, regions=regions, key_ids=found.key_ids, keys=keys, code=code)
    diagnosis, url = diagnose(lines, given), settings.http.runbooks_url
    if as_json:
        click.echo(json.dumps(report.document(diagnosis, lines, code, url), indent=2))
    else:
        _print(report.text(diagnosis, lines, code, url))
    sys.exit(EXIT_CODES[diagnosis.outcome])


def _scope(settings: Settings, regions: tuple[str, ...], asked: Wanted | None) -> Scope:
    """Return what to look at; to know whose an id is, all aliases must be followed."""
    if asked is None:
        return Scope(regions=regions, keys=all_keys(settings.keys))
    return Scope(regions=regions, keys=(asked,) if asked.configured else (*all_keys(settings.keys), asked))


def _key(settings: Settings, clock: Clock, asked: str) -> Wanted:
    ids = {purpose: wrapped.key_id for purpose, wrapped in golden_keys(settings, clock).items()}
    try:
        return key_named(asked, settings.keys, ids)
    except NoSuchKeyError as e:
        raise Stop(str(e)) from e


def _network(
    settings: Settings, clock: Clock, regions: tuple[str, ...], deadline_seconds: float, *, as_json: bool
) -> None:
    scope = Scope(regions=regions, keys=all_keys(settings.keys), access=False)
    found = examine(Surgery(settings, clock, scope), deadline_seconds)
    lines = ways.of_the_way(found.lines)
    given = given_by(settings, regions=regions, key_ids=found.key_ids, only=ways.OF_THE_WAY)
    diagnosis, url = diagnose(lines, given), settings.http.runbooks_url
    summary = ways.summary(found.lines, regions, settings.home_region)
    if as_json:
        click.echo(json.dumps({**report.document(diagnosis, lines, None, url), "ways": summary}, indent=2))
    else:
        _print(ways.text(summary))
        _print(report.text(diagnosis, lines, None, url))
    sys.exit(EXIT_CODES[diagnosis.outcome])


def _message(
    settings: Settings, clock: Clock, file: BinaryIO, key: str | None, *, as_json: bool, show_context: bool
) -> None:
    ids = {purpose: wrapped.key_id for purpose, wrapped in golden_keys(settings, clock).items()}
    ids |= {purpose: each.key_id for purpose, each in settings.keys.items() if each.key_id}
    purpose = _key(settings, clock, key) if key else None
    if purpose is not None and not purpose.configured:
        raise Stop(f"{key!r} is no key of the configuration, so nothing is opened with it here")
    here = messages.Place(
        account_id=settings.estate.account_id,
        regions=settings.estate.regions,
        key_ids=ids,
        purposes=tuple(settings.keys),
        max_wrapped_keys=settings.core.max_encrypted_data_keys,
        accepts_legacy=settings.core.accept_legacy_suites,
        purpose=purpose.purpose if purpose else "",
    )
    try:
        found = messages.describe(file.read(messages.MAX_BYTES + 1), here)
    except OSError as e:
        raise Stop(f"{file.name}: cannot be read: {e.strerror}") from e
    if as_json:
        click.echo(json.dumps(messages.document(found, show_context=show_context), indent=2))
    else:
        _print(messages.text(found, show_context=show_context))
    sys.exit(EXIT_CODES[found.outcome])


def _prerequisites(config_path: Path, deadline_seconds: float, *, as_json: bool) -> None:
    found: list[Check] = list(prerequisites.without_configuration())
    try:
        settings = load_settings(config_path)
    except Stop as e:
        found.append(bad("configuration", e.message, "Mend it: what is left needs a configuration to be checked."))
    else:
        found.append(good("configuration", f"{config_path} can be used"))
        found += prerequisites.with_configuration(settings, SystemClock(), deadline_seconds)
    ended = outcome(found)
    if as_json:
        document: dict[str, Any] = {"schema": 1, "outcome": str(ended), "checks": [each.to_json() for each in found]}
        click.echo(json.dumps(document, indent=2))
    else:
        for each in found:
            first = f"\n{'':9}first: {each.first}" if each.first else ""
            click.echo(f"{each.verdict:8} {each.id}: {each.said}{first}")
    sys.exit(EXIT_CODES[ended])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)

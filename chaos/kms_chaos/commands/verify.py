"""`kms-chaos verify`: is stored evidence what was written, whole, and by whom it should be?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_chaos.commands.options import UNCLEAR, config_option, explained, load, printer
from kms_chaos.drill import DrillError
from kms_chaos.evidence import checking
from kms_chaos.evidence.finding import Finding, Result
from kms_chaos.evidence.run_checks import Trust
from kms_chaos.evidence.signing import KmsSigner, SigningError, signer
from kms_chaos.evidence.verifying import FolderTree, Tree, Verification, verify
from kms_core.clock import SystemClock
from kms_watchdog.config import Settings
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import StoreError

_TONES = {Result.GOOD: "green", Result.BAD: "bold red", Result.UNCLEAR: "yellow"}


@click.command("verify")
@click.argument("place", metavar="DIR|s3://BUCKET/PREFIX")
@config_option
@click.option(
    "--public-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of the key whose signatures count."
)
@click.option("--ask-kms", is_flag=True, help="Let KMS check signatures by the configured key; an HMAC needs it.")
@click.option("--unsigned-will-do", is_flag=True, help="Be content with the hash chain where nothing was to be signed.")
@click.option("--first", metavar="RUN", help="The run with which the chain may begin: earlier ones are past retention.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(
    place: str,
    config: Path,
    public_key: Path | None,
    first: str | None,
    *,
    ask_kms: bool,
    unsigned_will_do: bool,
    as_json: bool,
) -> None:
    """Verify the evidence in a folder, offline, or in a bucket: every line, file, signature, and the chain of drills.

    The folder is one run's, or holds runs: STATE/drills, or an evidence store. Only a bucket and --ask-kms need the
    configuration.

    \b
    Examples:
      kms-chaos verify state/drills --public-key evidence.pem
      kms-chaos verify s3://parker-flight-evidence/kms --public-key evidence.pem --json

    \b
    Exit codes: 0 good; 1 bad found; 2 usage; 3 could not tell: open, unsigned, or nobody said whose signature is right.
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        trust = Trust(
            public_key=_public_key(public_key),
            ask=_asker(load(config)) if ask_kms else None,
            unsigned_will_do=unsigned_will_do,
        )
        try:
            tree, name = _tree(place, lambda: load(config))
            found = verify(tree, trust, name=name, first=first)
        except (StoreError, SigningError, OSError) as e:
            click.echo(f"kms-chaos: {e}", err=True)
            raise SystemExit(UNCLEAR) from e
    if as_json:
        click.echo(json.dumps(as_values(found), indent=2, ensure_ascii=False))
    else:
        _show(found, printer())
    raise SystemExit(found.result.exit_code)


def _public_key(path: Path | None) -> object:
    if path is None:
        return None
    try:
        return checking.load(path.read_bytes())
    except OSError as e:
        raise DrillError(f"{path}: cannot be read: {e.strerror}") from e
    except checking.PublicKeyError as e:
        raise DrillError(f"{path}: {e}") from e


def _asker(settings: Settings) -> Callable[[str, str, bytes, bytes], bool]:
    """Return what asks KMS whether the *configured* key made a signature: any key could have made a good one."""
    by = signer(settings)
    if not isinstance(by, KmsSigner):
        raise DrillError("--ask-kms: drills.evidence.signing names no key in KMS")

    def ask(_key: str, algorithm: str, signature: bytes, message: bytes) -> bool:
        return algorithm == by.algorithm and by.confirms(message, signature)

    return ask


def _tree(place: str, settings: Callable[[], Settings]) -> tuple[Tree, str]:
    if place.startswith("s3://"):
        store = open_store(settings(), SystemClock(), place)
        if store is None:
            raise DrillError(f"{place}: not a bucket")
        return store, ""
    folder = Path(place.removeprefix("dir:"))
    if not folder.is_dir():
        raise DrillError(f"{place}: no such folder")
    # A single run's folder bears the run's name; one that holds runs bears any.
    return FolderTree(folder), folder.resolve().name if (folder / "journal.ndjson").exists() else ""


def as_values(found: Verification) -> dict[str, object]:
    """Return what was found as JSON values."""
    return {
        "schema": 1,
        "result": str(found.result),
        "runs": list(found.runs),
        "findings": [
            {"run": each.run, "check": each.check, "result": str(each.result), "detail": each.detail}
            for each in found.findings
        ],
    }


def _show(found: Verification, console: Console) -> None:
    table = Table("run", "check", "result", "finding", box=None, pad_edge=False, header_style="bold")
    for each in found.findings:
        table.add_row(each.run or "all", each.check, Text(str(each.result), _TONES[each.result]), _detail(each))
    console.print(table)
    runs = f"{len(found.runs)} drill{'' if len(found.runs) == 1 else 's'}"
    console.print(Text(f"\n{found.result}", _TONES[found.result]), Text(runs if found.runs else "no drill is there"))


def _detail(finding: Finding) -> Text:
    return Text(finding.detail, "dim" if finding.result is Result.GOOD else "")

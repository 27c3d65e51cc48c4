"""`kms-watchdog dump-config`: the configuration in effect, with the origin of each value and without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kms_core.config import GUIDE_NAMES
from kms_watchdog.commands.options import chosen_estate, config_option, load_settings
from kms_watchdog.config import SHAPE, json_schema, load_document
from kms_watchdog.configuring.document import Where
from kms_watchdog.configuring.effective import as_json, as_toml, effective


def _print_schema(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click calls it so
    if asked:
        click.echo(json.dumps(json_schema(), indent=2))
        context.exit()


@click.command(
    "dump-config",
    epilog="""\b
Examples:
  kms-watchdog dump-config --config watchdog.toml
  KMS_WATCHDOG__LOG__LEVEL=debug kms-watchdog dump-config --estate staging --json
  kms-watchdog dump-config --schema > watchdog.schema.json""",
)
@config_option
@click.option("--json", "as_document", is_flag=True, help="One JSON document.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of configurations instead; reads no file.",
)
def command(config_path: Path, *, as_document: bool) -> None:
    """Print the configuration in effect.

    Each value comes with its origin: default, the file's key, or the variable. Secrets are masked.

    Exit code 0: printed; 2: the configuration is not good, with one line that says why.
    """
    load_settings(config_path)  # the core's checks too
    loaded = load_document(config_path, chosen_estate())
    document = loaded.document
    also_called: dict[Where, tuple[Where, ...]] = {
        ("core", field): (("core", name),) for name, (field, _) in GUIDE_NAMES.items()
    }
    values = loaded.settings.model_dump(mode="json")
    found = effective(values, document, SHAPE, also_called=also_called)
    if as_document:
        click.echo(json.dumps(as_json(found, document), indent=2))
        return
    click.echo(f"# {document.path}{f', estate {document.estate}' if document.estate else ''}")
    for line in as_toml(found):
        click.echo(line)

"""`kms-local serve`: its flags, its ready line, its exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kms_local.endpoints import FILE_NAME, Endpoints
from kms_local.serve import serve
from kms_local.serve_settings import ServeError, ServeSettings

_EXIT_USAGE = 2
_EPILOG = """\b
Examples:
  kms-local serve --dir /tmp/aws
  kms-local serve --dir /tmp/aws --regions us-east-1,eu-west-1 --no-toxiproxy
"""


@click.command("serve", epilog=_EPILOG)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help=f"Where {FILE_NAME}, ca.pem, credentials and requests.ndjson are written.",
)
@click.option(
    "--regions", default="us-east-1,us-west-2,eu-west-1", show_default=True, help="Regions, separated by commas."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--first-port",
    type=click.IntRange(0, 65000),
    default=0,
    help="Ports from here on: admin, Toxiproxy, then two a region.  [default: free ones]",
)
@click.option(
    "--creating-seconds",
    type=click.FloatRange(0, 3600),
    default=0.5,
    show_default=True,
    help="How long a new replica key stays Creating.",
)
@click.option(
    "--evaluate-seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=1.0,
    show_default=True,
    help="How often alarms are evaluated.",
)
@click.option("--toxiproxy/--no-toxiproxy", default=True, show_default=True, help="Serve Toxiproxy's API too.")
@click.option(
    "--advertise",
    multiple=True,
    metavar="NAME",
    help="A further host name or address that certificates are good for; may be repeated. With a --host of every "
    "address the first one is what clients are told.",
)
@click.option(
    "--iam",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Roles with credentials of their own, as `aws iam get-account-authorization-details` writes them.",
)
@click.option(
    "--enforce-policies/--no-enforce-policies",
    default=False,
    show_default=True,
    help="Let key policies, grants and the roles' policies decide.",
)
@click.option("--account-id", default="123456789012", show_default=True, help="The account that everything is in.")
@click.option(
    "--keep-state/--no-keep-state",
    default=False,
    show_default=True,
    help="Take up keys, aliases, roles, topics, alarms and the CA from DIR/state.json, and keep them there.",
)
def command(
    *,
    directory: Path,
    regions: str,
    host: str,
    first_port: int,
    creating_seconds: float,
    evaluate_seconds: float,
    toxiproxy: bool,
    advertise: tuple[str, ...],
    iam: Path | None,
    enforce_policies: bool,
    account_id: str,
    keep_state: bool,
) -> None:
    """Serve KMS, CloudWatch, SNS, STS and IAM of several regions over TLS, until SIGTERM or Ctrl-C.

    Addresses, credentials and the private CA are in DIR/endpoints.json; any AWS SDK can use them.
    """
    try:
        settings = ServeSettings(
            directory=directory,
            regions=tuple(regions.split(",")),
            host=host,
            first_port=first_port,
            creating_seconds=creating_seconds,
            evaluate_seconds=evaluate_seconds,
            toxiproxy=toxiproxy,
            advertise=advertise,
            iam=iam,
            enforce_policies=enforce_policies,
            account_id=account_id,
            keep_state=keep_state,
        )
        serve(settings, on_ready=lambda endpoints: _say_ready(directory, endpoints))
    except (ServeError, ValueError) as e:
        click.echo(f"kms-local serve: {e}", err=True)
        sys.exit(_EXIT_USAGE)


def _say_ready(directory: Path, endpoints: Endpoints) -> None:
    click.echo(f"ready: {', '.join(endpoints.regions)}; addresses in {directory / FILE_NAME}")

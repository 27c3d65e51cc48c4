"""What is found in the account that costs: rotations, custom metrics, alarms, dashboards. Only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kms_core.clock import Clock
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.alarm_services import AwsAlarmServices
from kms_watchdog.config import Settings
from kms_watchdog.costs.estimate import Account, Trouble
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin

T = TypeVar("T")
CLOUDWATCH = "cloudwatch"


def look(settings: Settings, clock: Clock) -> Account:
    """Return what there is; what does not answer is in trouble, and the rest is told. Main thread."""
    admin, primary = KmsAdmin(settings, clock), settings.estate.primary_region
    kms = aws.client(settings, "kms", primary)
    regions = settings.publish_regions if settings.cloudwatch.enabled else ()
    prefix = settings.cloudwatch.alarm_prefix
    namespaces = (settings.cloudwatch.namespace, settings.cloudwatch.drill_namespace)
    clients = {region: aws.client(settings, CLOUDWATCH, region) for region in regions}
    services = {region: AwsAlarmServices(settings, region) for region in regions}
    return Account(
        rotations={
            purpose: _told(primary, partial(_rotations, admin, kms, primary, key.key_id or key.alias))
            for purpose, key in settings.keys.items()
        },
        metrics={region: _told(region, partial(_metrics, client, namespaces)) for region, client in clients.items()},
        alarms={region: _told(region, partial(each.alarms, prefix)) for region, each in services.items()},
        dashboards=_told(regions[0], partial(_dashboards, clients[regions[0]], namespaces[0])) if regions else 0,
    )


def defined_alarms(settings: Settings) -> Mapping[str, Sequence[Parameters]]:
    """Return the rendered alarms by region, where the configuration names them.

    Raises:
        kms_watchdog.alarm_definitions.DefinitionsError: a file is missing, or is none.
    """
    folder = settings.canaries.alarm_path.definitions
    if folder is None or not settings.cloudwatch.enabled:
        return {}
    return {
        region: alarm_definitions.read(alarm_definitions.path_of(folder, region)) for region in settings.publish_regions
    }


def _told(region: str, ask: Callable[[], T]) -> T | Trouble:
    try:
        return ask()
    except EstateError as e:
        return Trouble(why=str(e))
    except aws.AwsError as e:
        return Trouble(why=f"{region}: {aws.error_code(e)}")
    except (KeyError, ValueError):
        return Trouble(why=f"{region}: {aws.error_code(aws.TruncatedAnswerError())}")


def _rotations(admin: KmsAdmin, kms: Any, region: str, name: str) -> int:
    key = admin.describe(region, name)
    if key is None:
        raise EstateError(region, "DescribeKey", f"there is no {name}", unreachable=False)
    pages = kms.get_paginator("list_key_rotations").paginate(KeyId=key.key_id)
    return sum(len(page["Rotations"]) for page in pages)


def _metrics(cloudwatch: Any, namespaces: Sequence[str]) -> int:
    lister = cloudwatch.get_paginator("list_metrics")
    return sum(len(page["Metrics"]) for name in namespaces for page in lister.paginate(Namespace=name))


def _dashboards(cloudwatch: Any, namespace: str) -> int:
    """Return how many dashboards show our namespace; they are the whole account's, whichever region is asked."""
    pages = cloudwatch.get_paginator("list_dashboards").paginate()
    names = [entry["DashboardName"] for page in pages for entry in page["DashboardEntries"]]
    bodies = (cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"] for name in names)
    return sum(f'"{namespace}"' in body for body in bodies)

"""The third dashboard: the keys and what they stand on: configuration, rotation, certificates, clocks, quotas."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from kms_alarms.parts import series
from kms_dashboards import frame, parts
from kms_dashboards.parts import Column, Part
from kms_dashboards.queries import COUNTED, KEY, REGION, WELL, chosen, growth, looking
from kms_watchdog import metrics
from kms_watchdog.metrics import Metric
from kms_watchdog.results import Kind, Mode, Reason

_LIVE = str(Mode.LIVE)
_DAY = 86_400
_PLACES = {"region": "Region", "key": "Key"}
_USABLE = {"1": ("usable", "green"), "0": ("NOT USABLE", "red")}
_ALIAS = {"0": ("right", "green"), "1": ("WRONG", "red")}
_ROTATES = {"1": ("rotates", "green"), "0": ("OFF", "red")}
_DRIFT = {"0": ("as configured", "green"), "1..": ("DIFFERS", "red")}


def build() -> model.Dashboard:
    """Return the dashboard."""
    return frame.board(
        "Keys and estate",
        description="The keys' state and configuration in every region, and what their use depends on.",
        since="now-24h",
        rows={
            "Now": _now(),
            "State": _state(),
            "Configuration": _configuration(),
            "Old data, and across regions": _old_data(),
            "Certificates, clocks, connections": _connections(),
            "Headroom": _headroom(),
        },
    )


def _worst(metric: Metric, of: str, kind: Kind, *, by: str = "region, key", **labels: str) -> str:
    """Return a gauge that looks of one kind set, where such a look was made: before the first it is 0, which is no."""
    looked = looking(chosen(metrics.CANARY_UP, canary=kind, mode=_LIVE), canary=kind, mode=_LIVE)
    return f"{of} by ({by}) ({chosen(metric, **labels)} and on (region, key, job, instance) {looked})"


def _now() -> tuple[Part, ...]:
    usable = _worst(metrics.KEY_USABLE, "min", Kind.KEY_STATE)
    rotates = _worst(metrics.KEY_ROTATION, "min", Kind.KEY_STATE)
    drift = _worst(metrics.REPLICA_DRIFT, "max", Kind.REPLICA_DRIFT, by="region, key, field")
    deletion = chosen(metrics.KEY_DELETION)
    return (
        parts.tally(
            "Usable",
            "Keys whose state is Enabled, in every region. Red where one is not.",
            well=f"sum({usable})",
            every=f"count({usable})",
            span=4,
            runbook="key-unusable.md",
        ),
        parts.number(
            "Pending deletion",
            "Keys that are scheduled for deletion in a region.",
            f"count({deletion} > 0) or 0 * count({deletion})",
            texts={"0": ("none", "green")},
            span=4,
            runbook="key-pending-deletion.md",
        ),
        parts.tally(
            "Rotating",
            "Keys that rotate by themselves. Red where one does not.",
            well=f"sum({rotates})",
            every=f"count({rotates})",
            span=4,
            runbook="rotation-off.md",
        ),
        parts.number(
            "Drift",
            "Fields of keys that differ from the configuration.",
            f"sum({drift})",
            texts={"0": ("none", "green")},
            span=4,
            runbook="replica-drift.md",
        ),
        parts.number(
            "Shortest certificate",
            "What is left of the certificate of KMS that ends first.",
            f"min({chosen(metrics.CERTIFICATE_EXPIRY)} > 0) - time()",
            unit="s",
            steps=((None, "red"), (_DAY, "orange"), (14 * _DAY, "green")),
            span=4,
            runbook="certificate-expiry.md",
        ),
        parts.number(
            "Metadata age",
            "Since the keys' state or configuration could last be read, in the worst region.",
            f"max(time() - {chosen(metrics.METADATA_CHECKED)})",
            unit="s",
            steps=((None, "green"), (900, "orange"), (3600, "red")),
            texts=parts.NEVER,
            span=4,
            runbook="metadata-stale.md",
        ),
    )


def _state() -> tuple[Part, ...]:
    usable = _worst(metrics.KEY_USABLE, "min", Kind.KEY_STATE)
    info = f"max by (region, key, state, primary, key_id) ({chosen(metrics.KEY_INFO)})"
    return (
        parts.states(
            "Keys, by region",
            "Whether each key's state there is Enabled.",
            [(usable, "{{region}} {{key}}")],
            _USABLE,
            height=9,
            runbook="key-unusable.md",
        ),
        parts.listing(
            "What KMS says of each key",
            "State, role and id of each key in each region, by the last look.",
            (
                Column(name="Rotates", expression=_named(metrics.KEY_ROTATION, info), texts=_ROTATES),
                Column(
                    name="Deletion",
                    expression=_named(metrics.KEY_DELETION, info, times=1000),
                    unit="dateTimeAsIso",
                    texts={"0": ("none", "green")},
                ),
            ),
            labels={**_PLACES, "state": "State", "primary": "Primary", "key_id": "Key id"},
            no_rows="no look at the keys' state yet",
            span=12,
            height=9,
            runbook="key-pending-deletion.md",
        ),
    )


def _named(metric: Metric, info: str, *, times: int = 1) -> str:
    """Return a gauge of region and key with the labels of `key_info`."""
    value = f"max by (region, key) ({chosen(metric)})"
    scaled = value if times == 1 else f"({value} * {times})"
    return f"{info} * on (region, key) group_left () {scaled}"


def _configuration() -> tuple[Part, ...]:
    drift = _worst(metrics.REPLICA_DRIFT, "max", Kind.REPLICA_DRIFT, by="region, key, field")
    rotates = _worst(metrics.KEY_ROTATION, "min", Kind.KEY_STATE)
    wrong = chosen(metrics.CANARY_RUNS, canary=Kind.KEY_STATE, mode=_LIVE, result=str(Reason.ALIAS_WRONG))
    return (
        parts.states(
            "Drift, by field",
            "Whether the field is as configured, over the chosen regions and keys.",
            [(f"sum by (field) ({drift})", "{{field}}")],
            _DRIFT,
            span=8,
            height=9,
            runbook="replica-drift.md",
        ),
        parts.states(
            "Rotation",
            "Whether each key rotates by itself.",
            [(f"min by (key) ({rotates})", "{{key}}")],
            _ROTATES,
            span=8,
            height=9,
            runbook="rotation-off.md",
        ),
        parts.states(
            "Aliases",
            "Whether each key's alias led to it, at every look.",
            [(f"{growth(wrong, 'region, key')} > bool 0", "{{region}} {{key}}")],
            _ALIAS,
            span=8,
            height=9,
            runbook="alias-wrong.md",
        ),
        parts.listing(
            "What differs",
            "Fields that differ from the configuration now.",
            (Column(name="Differs", expression=f"{drift} > 0", texts={"1": ("DIFFERS", "red")}),),
            labels={**_PLACES, "field": "Field"},
            no_rows="every key is as configured",
            span=24,
            height=5,
            runbook="replica-drift.md",
        ),
    )


def _old_data() -> tuple[Part, ...]:
    across = {"key": KEY, "mode": _LIVE, "encrypt_region": REGION, "decrypt_region": REGION}
    well, counted = (
        growth(series(metrics.CROSS_REGION_RUNS, **across, result=result), "encrypt_region, decrypt_region")
        for result in (WELL, COUNTED)
    )
    return (
        parts.lines(
            "Rotations that old data spans",
            "How often each key has rotated since the oldest message that still opens was sealed.",
            [(f"min by (key) ({chosen(metrics.GOLDEN_ROTATIONS)})", "{{key}}")],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Age of the oldest message",
            "Of those that are kept and still open.",
            [(f"time() - min by (key) ({chosen(metrics.GOLDEN_OLDEST)} > 0)", "{{key}}")],
            unit="s",
            span=6,
        ),
        parts.lines(
            "Sealed here, opened there",
            "Share of messages that opened in another region, by the region they were sealed in and the other.",
            [(f"{well} / {counted}", "{{encrypt_region}} to {{decrypt_region}}")],
            unit="percentunit",
            highest=1,
            span=12,
        ),
    )


def _connections() -> tuple[Part, ...]:
    offset = chosen(metrics.CLOCK_OFFSET)
    return (
        parts.lines(
            "Certificates",
            "What is left of each region's certificate of KMS.",
            [(f"min by (region) ({chosen(metrics.CERTIFICATE_EXPIRY)} > 0) - time()", "{{region}}")],
            unit="s",
            span=8,
        ),
        parts.lines(
            "Clock offset",
            "Our clock minus KMS's, to the second; AWS refuses signatures from 5 minutes on.",
            [(f"max by (region) ({offset})", "{{region}}")],
            unit="s",
            limits=[(30, "orange", "30 s: ClockOff"), (-30, "orange", "30 s behind: ClockOff")],
            lowest=None,
            span=8,
        ),
        parts.lines(
            "A new connection, step by step",
            "What name, connection and TLS took, in the slowest region.",
            [(f"max by (step) ({chosen(metrics.CONNECTION_STEP)})", "{{step}}")],
            unit="s",
            span=8,
        ),
    )


def _headroom() -> tuple[Part, ...]:
    return (
        parts.lines(
            "Requests",
            "Requests to KMS that this watchdog makes.",
            [(f"max by (region) ({chosen(metrics.HEADROOM_REQUESTS)})", "{{region}}")],
            unit="reqps",
            span=6,
        ),
        parts.lines(
            "Share of the quota",
            "Their share of the account's request quota.",
            [(f"max by (region) ({chosen(metrics.HEADROOM_QUOTA)})", "{{region}}")],
            unit="percentunit",
            limits=[(0.05, "orange", "5 %: headroom")],
            span=6,
        ),
        parts.lines(
            "Throttled",
            "Throttled requests in the last window, and times the core left a key out.",
            [
                (f"max by (region) ({chosen(metrics.HEADROOM_THROTTLES)})", "{{region}} throttled"),
                (growth(chosen(metrics.KEYS_QUARANTINED), "region"), "{{region}} quarantined"),
            ],
            unit="short",
            span=6,
        ),
        parts.lines(
            "Cost",
            "What the requests cost in a month, by estimate.",
            [(f"max by (region) ({chosen(metrics.HEADROOM_COST)})", "{{region}}")],
            unit="currencyUSD",
            span=6,
        ),
    )

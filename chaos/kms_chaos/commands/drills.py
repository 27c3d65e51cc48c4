"""`kms-chaos list`, `check` and `plan`: what there is, whether it is sound, what it would touch. None touches it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kms_alarms.cloudwatch import alarm_name
from kms_chaos import alarms, drill, stage
from kms_chaos.commands.asked_guards import answers_of, asked, guards_table
from kms_chaos.commands.options import REFUSED, USAGE, config_option, explained, load, printer
from kms_chaos.drill import Drill, DrillError
from kms_chaos.drill_parts import AlarmRule
from kms_chaos.run import Run, plan
from kms_chaos.undo_record import proxy_name
from kms_core.clock import SystemClock
from kms_watchdog.config import ConfigError, Settings

_PERIODS = (10, 60)
"""Seconds that an alarm's period may have: high resolution, and CloudWatch's usual."""


@click.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_command(config: Path, *, as_json: bool) -> None:
    """List the drills that can be run: those shipped, and those of your own folder."""
    with explained():
        found = drill.every(_folder(config))
        if as_json:
            click.echo(json.dumps([_short(one) for one in found], indent=2))
            return
        table = Table("drill", "mode", "faults", "what", box=None, pad_edge=False, header_style="bold")
        for one in found:
            table.add_row(one.name, one.mode, ", ".join(dict.fromkeys(_kinds(one))), one.title)
        printer().print(table)


def _folder(config: Path) -> Path | None:
    """Return the operator's own folder; None where there is no configuration yet: the shipped ones need none.

    Raises:
        ConfigError: the configuration is wrong, or is not where somebody said.
    """
    try:
        return load(config).drills.folder
    except ConfigError:
        named = click.get_current_context().get_parameter_source("config") is not ParameterSource.DEFAULT
        if named or config.exists():
            raise
        return None


def _kinds(one: Drill) -> Iterator[str]:
    return (str(getattr(fault, "kind", "")) for fault in one.faults)


def _short(one: Drill) -> Mapping[str, Any]:
    return {"name": one.name, "mode": one.mode, "title": one.title, "faults": list(_kinds(one))}


@click.command("check")
@click.argument("names", metavar="[DRILL|FILE]...", nargs=-1)
@config_option
def check_command(names: tuple[str, ...], config: Path) -> None:
    """Check drills by themselves, every one there is when none is named: keys, numbers, alarms, times.

    \b
    Examples:
      kms-chaos check
      kms-chaos check drills/our-own.toml
    """  # noqa: D301 - click wants the backspace character itself: it keeps lines as they are
    with explained():
        folder = _folder(config)
        wrong = [problem for name in names or drill.names(folder) if (problem := _problem(name, folder))]
    for problem in wrong:
        click.echo(problem, err=True)
    if wrong:
        raise SystemExit(USAGE)


def _problem(name: str, folder: Path | None) -> str:
    try:
        one = drill.find(name, folder)
        for period in _PERIODS:
            alarms.check_times(one.for_alarm_period(period), period)
    except DrillError as e:
        return str(e)
    click.echo(f"{one.name}: good")
    return ""


@click.command("plan")
@click.argument("name", metavar="DRILL|FILE")
@config_option
@click.option("--region", help="The region to hurt; the drill's own target when not given.")
@click.option("--purpose", "purposes", multiple=True, help="A key to use, as for `kms-chaos run`.")
@click.option(
    "--ask", is_flag=True, help="Ask the guards, too: this machine, the daemon, STS, CloudWatch; all reading."
)
@click.option("--arm", "armed", is_flag=True, help="With --ask: as for `kms-chaos run`.")
@click.option("--reason", default="", help="With --ask: likewise.")
@click.option("--approval", default="", help="With --ask: likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(
    name: str,
    config: Path,
    region: str | None,
    purposes: tuple[str, ...],
    reason: str,
    approval: str,
    *,
    ask: bool,
    armed: bool,
    as_json: bool,
) -> None:
    """Show exactly what DRILL would touch here, how each of it is undone, and what its guards look at.

    Nothing is touched. Nothing is asked either, unless with --ask: then each guard says whether it holds now.

    \b
    Examples:
      kms-chaos plan region-blackhole
      kms-chaos plan two-regions-lost --region eu-west-1 --arm --ask

    \b
    Exit codes: 0 planned, and with --ask every guard that was asked holds; 2 usage; 4 a guard does not hold.
    """  # noqa: D301 - as above
    with explained():
        settings, clock = load(config), SystemClock()
        wanted = drill.find(name, settings.drills.folder)
        run = plan(settings, wanted, region=region, clock=clock, purposes=purposes)
        run = replace(run, armed=armed, reason=" ".join(reason.split()), approval=approval)
        answers = answers_of(run) if ask else {}
        planned = {**touched(run), "guards": asked(run, answers)}
    if as_json:
        click.echo(json.dumps(planned, indent=2))
    else:
        _show(run, planned, printer())
    if any(not answer.held for answer in answers.values()):
        raise SystemExit(REFUSED)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One alarm that a drill looks at."""

    must: str
    rule: AlarmRule


def touched(run: Run) -> Mapping[str, Any]:
    """Return what `run` would do, for JSON: proxies, faults, traffic, alarms, and the most seconds each takes."""
    one = run.drill
    ends = {("kms", region): upstream for region, upstream in stage.upstreams(run.settings).items()}
    ends |= stage.service_upstreams(run.settings, run.services)
    return {
        "drill": one.name,
        "title": one.title,
        "mode": one.mode,
        "targets": list(run.targets),
        "purposes": list(run.purposes),
        "toxiproxy": run.settings.drills.toxiproxy_url,
        "proxies": [
            {"name": proxy_name("RUN", region, service), "region": region, "upstream": upstream, "undo": "deleted"}
            for (service, region), upstream in ends.items()
        ],
        "faults": [
            {
                "fault": order.id,
                "region": order.region,
                "after_seconds": order.plan.after_seconds,
                "for_seconds": order.plan.for_seconds,
                "toxics": [toxic.to_json() for toxic in order.toxics],
                "undo": "proxy disabled, toxics removed, enabled, read back"
                if order.toxics
                else "with the drill's process",
            }
            for order in run.faults
        ],
        "watchdog": one.watchdog.model_dump() if one.watchdog else None,
        "operations_per_second": one.workload.operations_per_second,
        "alarms": [_looked_at(found, run) for found in _rules(one)],
        "longest_seconds": {
            "baseline": one.timing.baseline_at_most_seconds,
            "fault": one.longest_fault_seconds,
            "recovery": max(one.slowest_clear_seconds, one.objectives.rto_seconds),
        },
    }


def _rules(one: Drill) -> Iterator[_Rule]:
    for must, rules in (
        ("fire", one.alarms.must_fire),
        ("clear", one.alarms.must_clear),
        ("not fire", one.alarms.must_not_fire),
    ):
        yield from (_Rule(must, rule) for rule in rules)


def _looked_at(found: _Rule, run: Run) -> Mapping[str, Any]:
    rule = found.rule
    regions = rule.regions(run.targets, run.regions)
    return {
        "must": found.must,
        "within_seconds": rule.within_seconds,
        "names": [alarm_name(run.settings, rule.alarm, region, rule.alarm_mode) for region in regions],
    }


def _show(run: Run, planned: Mapping[str, Any], console: Console) -> None:
    console.print(Text.assemble((run.drill.name, "bold"), f" on {', '.join(run.targets)}: {run.drill.title}"))
    console.print(
        f"Toxiproxy {planned['toxiproxy']}; keys {', '.join(run.purposes)}; {_traffic(run.settings, run.drill)}\n"
    )
    proxies = Table("proxy of the drill's own", "to", "afterwards", box=None, pad_edge=False, header_style="bold")
    for proxy in planned["proxies"]:
        proxies.add_row(proxy["name"], proxy["upstream"], proxy["undo"])
    faults = Table("fault", "begins", "lasts", "toxics", "undone", box=None, pad_edge=False, header_style="bold")
    for fault in planned["faults"]:
        lasts = f"{fault['for_seconds']:g} s" if fault["for_seconds"] else "to the end"
        toxics = ", ".join(f"{toxic['type']} {toxic['stream']}" for toxic in fault["toxics"])
        faults.add_row(fault["fault"], f"after {fault['after_seconds']:g} s", lasts, toxics or "none", fault["undo"])
    alarmed = Table("alarm", "must", "within", box=None, pad_edge=False, header_style="bold")
    for alarm in planned["alarms"]:
        within = f"{alarm['within_seconds']:g} s" if alarm["within_seconds"] else ""
        alarmed.add_row(", ".join(alarm["names"]), alarm["must"], within)
    for table in (proxies, faults, alarmed):
        console.print(table, "\n")
    console.print(guards_table(planned["guards"]), "\n")
    if planned["watchdog"]:
        console.print("A watchdog of the drill's own, in a process and a folder of its own; both gone afterwards.\n")
    longest = planned["longest_seconds"]
    console.print(
        f"At most {longest['baseline']:g} s of baseline, {longest['fault']:g} s of fault, "
        f"{longest['recovery']:g} s of recovery. "
        "Real keys, policies and other clients are not touched."
    )


def _traffic(settings: Settings, one: Drill) -> str:
    load, regions = one.workload.operations_per_second, len(settings.estate.regions)
    return f"{load:g} operations a second and canaries in {regions} regions, by clients of its own"

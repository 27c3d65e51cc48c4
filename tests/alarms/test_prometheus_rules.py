"""Prometheus's alerting rules against made-up series, by promtool; and proof that the cases notice a changed rule.

The cases are in `alarms/prometheus/tests`, a file or more for each group of rules; by hand, with all rules at once:
`promtool test rules alarms/prometheus/tests/*.yml`. Here each file meets those rules alone that it speaks of, which is
four times as fast.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kms_alarms import prometheus

FOLDER = Path(__file__).parents[2] / "alarms" / "prometheus"
RULES = FOLDER / "kms-watchdog.rules.yml"
FILES = sorted((FOLDER / "tests").glob("*.test.yml"))

Rule = dict[str, Any]
Case = dict[str, Any]

NEVER = "a time is 0 for never, or many seconds: none is between 0 and 1"
UNNOTICED = {
    ("KmsKeyPendingDeletion", "number 1: 0 to 1"): NEVER,
    ("KmsCertificateExpiry", "number 3: 0 to 1"): NEVER,
    ("KmsDrillOverdue", "number 2: 0 to 1"): NEVER,
    ("KmsDrillOverdue", "number 3: 0 to 1"): NEVER,
    ("Watchdog", "number 1: 1 to 2"): "it is there or not; nobody reads its value",
}
"""Changes that no case can notice, and why."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "CI installs prometheus, which has promtool"
        pytest.skip("no promtool here: it comes with Debian's prometheus")
    return found


@functools.cache
def rules() -> tuple[Rule, ...]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return tuple(rule for group in groups for rule in group["rules"])


@functools.cache
def document(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return loaded


@functools.cache
def alerts() -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule["alert"] for rule in rules() if "alert" in rule))


def checks(case: Case) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = case.get("alert_rule_test", [])
    return found


def records_of(expr: str) -> list[Rule]:
    return [rule for rule in rules() if "record" in rule and rule["record"] in expr]


def put(folder: Path, name: str, of: Sequence[Rule], said: dict[str, Any]) -> Path:
    """Write rules and cases as JSON, which is YAML too, and return the path of the cases."""
    records = [rule for rule in of if "record" in rule]
    groups = [{"name": "records", "rules": records}, {"name": "alerts", "rules": [r for r in of if "alert" in r]}]
    (folder / f"{name}.rules.yml").write_text(json.dumps({"groups": groups}))
    path = folder / f"{name}.test.yml"
    order = {"group_eval_order": ["records", "alerts"]}
    path.write_text(json.dumps({**said, **order, "rule_files": [f"{name}.rules.yml"]}))
    return path


def run(promtool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)


# --------------------------------------------------------------------------------------------------------- the cases


def test_promtool_takes_the_rules(promtool: str) -> None:
    """Its linter finds nothing either."""
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_rules_do_what_the_cases_say(promtool: str, path: Path, tmp_path: Path) -> None:
    """What fires, with which labels and words, and when; what does not, and why."""
    said = document(path)
    assert said["rule_files"] == ["../kms-watchdog.rules.yml"]
    named = {check["alertname"] for case in said["tests"] for check in checks(case)}
    about = [rule for rule in rules() if rule.get("alert") in named]
    records = {rule["record"]: rule for one in about for rule in records_of(one["expr"])}

    done = run(promtool, "test", "rules", put(tmp_path, "cases", [*records.values(), *about], said))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_a_case_and_does_not_in_another() -> None:
    """One that was never seen to fire is a rumour; one that cannot but fire is noise, and `Watchdog` alone is that."""
    seen = [check for path in FILES for case in document(path)["tests"] for check in checks(case)]

    assert {check["alertname"] for check in seen if check.get("exp_alerts")} == set(alerts())
    assert {check["alertname"] for check in seen if not check.get("exp_alerts")} == set(alerts()) - {"Watchdog"}


# ----------------------------------------------------------------------------------------------------------- mutants


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule with one change, and the recording rules that it reads."""

    name: str
    rule: Rule
    records: tuple[Rule, ...]


_OPAQUE = r'\{[^}]*\}|\[[^]]*\]|"[^"]*"'
"""Labels, ranges and texts: numbers and signs in them compare nothing."""
_NUMBER = re.compile(_OPAQUE + r"|(?<![\w.:])(\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.:])")
_COMPARISON = re.compile(_OPAQUE + r"|(==|!=|>=|<=|>|<)")
_RANGE = re.compile(r"\[([^]]+)\]")
_COUNTED = re.compile(r"(?:rate|increase)\([^[]*\[([^]]+)\]")
_OPERAND = re.compile(r"([()])|\b(and|or|unless)\b")
_TURNED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "!=", "!=": "=="}
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: str) -> int:
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"(\d+)([dhms])", duration))


def four_times(found: re.Match[str]) -> str:
    return f"[{prometheus.duration(4 * seconds(found[1]))}]"


def other_numbers(text: str) -> tuple[str, ...]:
    number = float(text)
    return (f"{number + 1:g}",) if number in {0.0, 1.0} else (f"{number * 2:g}", f"{number / 2:g}")


def each(pattern: re.Pattern[str], expr: str) -> Iterator[tuple[int, str, Callable[[str], str]]]:
    """Yield what the group matches: which it is, its text, and what puts another in its place."""
    for count, found in enumerate((m for m in pattern.finditer(expr) if m[1]), 1):
        begin, end = found.span(1)
        yield count, found[1], lambda new, begin=begin, end=end: expr[:begin] + new + expr[end:]  # type: ignore[misc]


def without_operands(expr: str) -> Iterator[tuple[str, str]]:
    """Yield `expr` without each thing that `and`, `unless` or `or` joins to it; of `or` without what is before, too."""
    depth, joints = 0, []
    for found in _OPERAND.finditer(expr):
        depth += {"(": 1, ")": -1}.get(found[1] or "", 0)
        if found[2] and depth == 0:
            joints.append((found[2], found.start(), found.end()))
    starts = [*(start for _, start, _ in joints), len(expr)]
    for count, ((word, start, behind), end) in enumerate(zip(joints, starts[1:], strict=True), 1):
        yield f"without {word} {count}", expr[:start] + expr[end:]
        if word == "or":
            yield f"without what is before or {count}", expr[behind:]


def other_expressions(rule: Rule) -> Iterator[tuple[str, str]]:
    expr, mode = rule["expr"], rule["labels"]["mode"]
    for count, old, put_in in each(_NUMBER, expr):
        yield from ((f"number {count}: {old} to {new}", put_in(new)) for new in other_numbers(old))
    for count, old, put_in in each(_COMPARISON, expr):
        yield f"comparison {count}: {old} turned", put_in(_TURNED[old])
    if f'mode="{mode}"' in expr:
        yield "any mode", expr.replace(f'mode="{mode}"', 'mode=~".+"')
    yield from without_operands(expr)
    if _RANGE.search(expr):
        yield "all ranges four times", _RANGE.sub(four_times, expr)
    for count, old, put_in in each(_COUNTED, expr):
        yield f"counted range {count} four times", put_in(prometheus.duration(4 * seconds(old)))


def mutants(rule: Rule) -> Iterator[Mutant]:
    records = tuple(records_of(rule["expr"]))
    for name, expr in other_expressions(rule):
        yield Mutant(name, {**rule, "expr": expr}, records)
    for of in ("for", "keep_firing_for"):
        if of in rule:
            yield Mutant(f"without {of}", {key: value for key, value in rule.items() if key != of}, records)
    if "for" in rule:
        yield Mutant(
            "for twice as long and a minute",
            {**rule, "for": prometheus.duration(2 * seconds(rule["for"]) + 60)},
            records,
        )
    for record in records:
        wider = {**record, "expr": _RANGE.sub(four_times, record["expr"])}
        yield Mutant(f"{record['record']} four times", rule, tuple(wider if r is record else r for r in records))


def cases_of(rule: Rule) -> list[tuple[dict[str, Any], Case]]:
    """Return the cases that speak of the rule's alert, with what stands over them; nothing is expected of other rules.

    Those in which it fires notice most, and come first.
    """
    found = []
    for path in FILES:
        for case in document(path)["tests"]:
            about = [expected(check, rule) for check in checks(case) if check["alertname"] == rule["alert"]]
            if about:
                told = {key: case[key] for key in ("name", "interval", "input_series")}
                found.append((document(path), {**told, "alert_rule_test": about}))
    return sorted(found, key=lambda one: not any(check["exp_alerts"] for check in checks(one[1])))


def expected(check: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """Return `check` with the alerts alone that are of this rule: several may have one name."""
    of_rule = [one for one in check.get("exp_alerts", ()) if rule["labels"].items() <= one["exp_labels"].items()]
    return {**check, "exp_alerts": of_rule}


def green(promtool: str, paths: Iterable[Path]) -> set[Path]:
    """Return the files of cases that hold; promtool names each before it says so."""
    said = run(promtool, "test", "rules", *paths).stdout
    return {Path(name) for name in re.findall(r"^Unit Testing:  (\S+)\n  SUCCESS$", said, re.MULTILINE)}


def survivors(promtool: str, rule: Rule, folder: Path) -> set[str]:
    """Return the mutants of `rule` that all cases let pass; the rule itself must pass, and each mutant be a rule."""
    alive = {
        mutant.name: mutant for mutant in (Mutant("itself", rule, tuple(records_of(rule["expr"]))), *mutants(rule))
    }
    for number, (over, case) in enumerate(cases_of(rule)):
        said = {"evaluation_interval": over["evaluation_interval"], "tests": [case]}
        paths = {
            put(folder, f"{number}-{count}", [*mutant.records, mutant.rule], said): mutant
            for count, mutant in enumerate(alive.values())
        }
        if number == 0:
            written = [str(path).replace(".test.yml", ".rules.yml") for path in paths]
            checked = run(promtool, "check", "rules", *written)
            assert checked.returncode == 0, checked.stderr
        held = green(promtool, paths)
        alive = {mutant.name: mutant for path, mutant in paths.items() if path in held}
        assert "itself" in alive, case["name"]
    return alive.keys() - {"itself"}


@pytest.mark.slow
@pytest.mark.computes
@pytest.mark.minutes(5)
@pytest.mark.timeout(1200)  # a minute for four windows of days; more where the machine has other work
@pytest.mark.parametrize("alert", alerts())
def test_a_changed_rule_is_noticed(promtool: str, alert: str, tmp_path: Path) -> None:
    """Each number, comparison, range, guard, `mode`, `for` and hold of each rule is there for a case that needs it."""
    found = set()
    for count, rule in enumerate(rule for rule in rules() if rule.get("alert") == alert):
        folder = tmp_path / str(count)
        folder.mkdir()
        found |= survivors(promtool, rule, folder)

    assert found == {name for of, name in UNNOTICED if of == alert}

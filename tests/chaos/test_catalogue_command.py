"""`kms-chaos catalogue`: each drill in a process of its own, in order, and an exit code never greener than they are."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from guard_kit import write_config
from rich.console import Console

from kms_chaos import drill
from kms_chaos.commands.catalogue import Ran, _as_json, _Interrupts, _run_all, _table, command
from kms_core import SystemClock

FIRST, SECOND, THIRD = "region-blackhole", "dns-failure", "throttling"
CLAIMS = ("steady-state-before", "alarms")

RUN = """#!/bin/sh
# Plays `python -m kms_chaos run DRILL ...`: notes how it was called, and does as the folder says.
cd "$(dirname "$0")" || exit 99
echo "$@" >> calls
[ -f "$4.sh" ] && . "./$4.sh"
[ -f "$4.json" ] && cat "$4.json"
[ -f "$4.err" ] && cat "$4.err" >&2
exit "$(cat "$4.code" 2>/dev/null || echo 0)"
"""


class Drills:
    """A stand-in for the interpreter that runs drills: each ends as it was told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.program = folder / "python"
        self.program.write_text(RUN, encoding="utf-8")
        self.program.chmod(0o755)

    def ends(self, name: str, code: int, verdict: str, *not_held: str) -> None:
        judged = {claim: verdict if claim in not_held else "HELD" for claim in CLAIMS}
        told = {
            "verdict": verdict,
            "run_id": f"run-of-{name}",
            "claims": [{"name": claim, "verdict": of_claim} for claim, of_claim in judged.items()],
        }
        (self._folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
        (self._folder / f"{name}.code").write_text(str(code), encoding="utf-8")

    def says(self, name: str, code: int, error: str) -> None:
        (self._folder / f"{name}.err").write_text(error, encoding="utf-8")
        (self._folder / f"{name}.code").write_text(str(code), encoding="utf-8")

    def does(self, name: str, script: str) -> None:
        (self._folder / f"{name}.sh").write_text(script, encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        path = self._folder / "calls"
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @property
    def ran(self) -> list[str]:
        return [call[3] for call in self.calls]


@pytest.fixture
def drills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drills:
    """All hold, unless told otherwise."""
    found = Drills(tmp_path / "program")
    for name in drill.shipped_names():
        found.ends(name, 0, "HELD")
    monkeypatch.setattr(sys, "executable", str(found.program))
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def catalogue(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--config", str(config), *arguments])


def told(result: Result) -> list[dict[str, Any]]:
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_those_named_run_in_the_order_named(drills: Drills, config: Path) -> None:
    """Each as `run NAME --json`, with the options of the catalogue and no others."""
    result = catalogue(config, SECOND, FIRST)

    assert result.exit_code == 0, result.output
    assert drills.calls == [["-m", "kms_chaos", "run", n, "--config", str(config), "--json"] for n in (SECOND, FIRST)]


def test_options_are_passed_on(drills: Drills, config: Path) -> None:
    """To every drill."""
    catalogue(config, FIRST, SECOND, "--region", "eu-west-1", "--arm")

    options = ["--config", str(config), "--region", "eu-west-1", "--arm", "--json"]
    assert [call[4:] for call in drills.calls] == [options, options]


def test_all_run_when_none_is_named(drills: Drills, config: Path) -> None:
    """By name; the operator's own among them."""
    own = config.parent / "own"
    own.mkdir()
    shipped = (drill.SHIPPED / f"{FIRST}.toml").read_text(encoding="utf-8")
    (own / "a-drill-of-ours.toml").write_text(shipped, encoding="utf-8")
    drills.ends("a-drill-of-ours", 0, "HELD")
    with config.open("a", encoding="utf-8") as file:
        file.write(f'[drills]\nfolder = "{own}"\n')

    result = catalogue(config)

    assert result.exit_code == 0, result.output
    assert drills.ran == sorted([*drill.shipped_names(), "a-drill-of-ours"])


def test_an_unknown_drill_is_refused_before_any_runs(drills: Drills, config: Path) -> None:
    """Not after an hour of others."""
    result = catalogue(config, FIRST, "region-blackhol")

    assert result.exit_code == 2
    assert "did you mean region-blackhole?" in result.stderr
    assert drills.ran == []


HELD, BROKE, UNCLEAR = (0, "HELD"), (1, "BROKE"), (3, "INCONCLUSIVE")


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        pytest.param((HELD, HELD, HELD), 0, id="all-held"),
        pytest.param((HELD, BROKE, HELD), 1, id="one-broke"),
        pytest.param((UNCLEAR, HELD, HELD), 3, id="one-inconclusive"),
        pytest.param((UNCLEAR, BROKE, HELD), 1, id="what-broke-is-worse"),
    ],
)
def test_the_exit_code_is_that_of_the_worst(
    drills: Drills, config: Path, ends: tuple[tuple[int, str], ...], code: int
) -> None:
    """And what broke does not keep the next from running."""
    for name, end in zip((FIRST, SECOND, THIRD), ends, strict=True):
        drills.ends(name, *end)

    assert catalogue(config, FIRST, SECOND, THIRD).exit_code == code
    assert drills.ran == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        pytest.param((4, 3), 4, id="refused-before-inconclusive"),
        pytest.param((2, 4), 2, id="usage-before-refused"),
        pytest.param((1, 2), 1, id="broke-before-usage"),
    ],
)
def test_refusals_and_mistakes_have_their_place_among_the_worst(
    drills: Drills, config: Path, codes: tuple[int, int], code: int
) -> None:
    """A drill that never ran is no better than one that told nothing."""
    for name, ended in zip((FIRST, SECOND), codes, strict=True):
        drills.ends(name, ended, "INCONCLUSIVE")

    assert catalogue(config, FIRST, SECOND).exit_code == code


def test_what_was_refused_is_tried_once_more_after_the_others(drills: Drills, config: Path) -> None:
    """A live breaker that was open for a moment is no reason to go without that drill's proof for a month."""
    drills.does(FIRST, 'if [ "$(grep -c region-blackhole calls)" = 1 ]; then echo "not well" >&2; exit 4; fi')
    drills.says(SECOND, 4, "still not well")
    told = CliRunner().invoke(command, [FIRST, SECOND, THIRD, "--config", str(config), "--json"])

    assert drills.ran == [FIRST, SECOND, THIRD, FIRST, SECOND]
    assert [(one["drill"], one["exit_code"]) for one in json.loads(told.stdout)] == [
        (THIRD, 0),
        (FIRST, 0),
        (SECOND, 4),
    ]
    assert told.exit_code == 4


def test_who_was_refused_last_is_not_asked_again_at_once(drills: Drills, config: Path) -> None:
    """Nothing has happened since that would change the answer; nor is anybody asked who broke or could not tell."""
    drills.ends(FIRST, 1, "BROKE", CLAIMS[0])
    drills.ends(SECOND, 3, "INCONCLUSIVE", CLAIMS[0])
    drills.says(THIRD, 4, "not well")

    CliRunner().invoke(command, [FIRST, SECOND, THIRD, "--config", str(config)])

    assert drills.ran == [FIRST, SECOND, THIRD]


def test_a_refusal_tells_its_reason(drills: Drills, config: Path) -> None:
    """The last line that the drill said, in the table and in the JSON; without a verdict, or a run."""
    (config.parent / "program" / f"{SECOND}.json").unlink()
    drills.says(SECOND, 4, "a warning\nanother\nkms-chaos: not-halted: all drills are halted\n")

    table, found = catalogue(config, FIRST, SECOND), catalogue(config, FIRST, SECOND, "--json")

    assert (table.exit_code, found.exit_code) == (4, 4)
    assert "exit code 4  0 s  kms-chaos: not-halted: all drills are halted" in table.output
    assert re.search(rf"^{SECOND} +exit code 4 ", table.output.splitlines()[-1])
    refused = told(found)[1]
    assert refused.pop("seconds") >= 0
    assert refused == {
        "drill": SECOND,
        "exit_code": 4,
        "verdict": None,
        "run_id": None,
        "not_held": ["kms-chaos: not-halted: all drills are halted"],
    }


def test_a_drill_that_says_nothing_at_all_is_not_held(drills: Drills, config: Path) -> None:
    """An exit code of 0 without a verdict is no proof."""
    (config.parent / "program" / f"{FIRST}.json").unlink()

    result = catalogue(config, FIRST, "--json")

    assert result.exit_code == 3
    assert told(result)[0]["not_held"] == []


@pytest.mark.parametrize("nonsense", ["{", "[]", "null", '{"verdict": "HELD", "run_id": "r"}', '{"claims": []}'])
def test_an_answer_that_is_none_is_not_held(drills: Drills, config: Path, nonsense: str) -> None:
    """Whatever the exit code says."""
    (config.parent / "program" / f"{FIRST}.json").write_text(nonsense, encoding="utf-8")

    result = catalogue(config, FIRST, "--json")

    assert result.exit_code == 3
    assert told(result)[0]["verdict"] is None


def test_a_drill_that_was_killed_is_not_held(drills: Drills, config: Path) -> None:
    """Its code is the signal's, which is none of ours."""
    drills.does(FIRST, "kill -KILL $$")

    result = catalogue(config, FIRST, SECOND, "--json")

    assert result.exit_code == 3
    assert [one["exit_code"] for one in told(result)] == [-signal.SIGKILL, 0]


def test_json_goes_to_stdout_alone(drills: Drills, config: Path) -> None:
    """What a program reads has no progress in it."""
    drills.ends(SECOND, 1, "BROKE", "alarms")

    result = catalogue(config, FIRST, SECOND, "--json")

    one, two = told(result)
    assert {name: value for name, value in one.items() if name != "seconds"} == {
        "drill": FIRST,
        "exit_code": 0,
        "verdict": "HELD",
        "run_id": f"run-of-{FIRST}",
        "not_held": [],
    }
    assert (two["verdict"], two["not_held"]) == ("BROKE", ["alarms"])
    assert f"1/2 {FIRST}" in result.stderr
    assert f"2/2 {SECOND}" in result.stderr


def test_people_see_progress_and_a_table(drills: Drills, config: Path) -> None:
    """Which drill, how it ended, what did not hold, and where to look."""
    drills.ends(SECOND, 3, "INCONCLUSIVE", "steady-state-before")

    result = catalogue(config, FIRST, SECOND)

    lines = result.stdout.splitlines()
    assert lines[0] == f"1/2 {FIRST}"
    assert lines[1].startswith("HELD  0 s")
    assert lines[3] == "INCONCLUSIVE  0 s  steady-state-before"
    assert [word in lines[-1] for word in (SECOND, "INCONCLUSIVE", "steady-state-before")] == [True] * 3
    assert result.stderr == ""


def test_json_can_be_read_by_people_too(drills: Drills, config: Path) -> None:
    """A value to a line, indented as in every other JSON of ours; a duration to a tenth of a second."""
    lines = catalogue(config, FIRST, "--json").stdout.splitlines()

    assert lines[:3] == ["[", "  {", f'    "drill": "{FIRST}",']
    assert _as_json(Ran(FIRST, 0, "HELD", 71.26, "run-1", ()))["seconds"] == 71.3


def test_a_terminal_shows_by_colour_how_each_ended(drills: Drills, config: Path) -> None:
    """Green, red, and yellow for what proved nothing, as it goes on and in the table; progress itself is dim."""
    drills.ends(SECOND, 1, "BROKE")
    (config.parent / "program" / f"{THIRD}.json").unlink()
    drills.says(THIRD, 4, "refused")
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system="standard", no_color=False, width=120)

    ran = list(_run_all([FIRST, SECOND, THIRD], ["--config", str(config)], console, SystemClock()))
    progress = shown.getvalue().splitlines()
    console.print(_table(ran))
    table = shown.getvalue().splitlines()[-3:]

    tones = ("\x1b[32mHELD", "\x1b[31mBROKE", "\x1b[33mexit code 4")
    assert progress[0] == f"\x1b[2m1/3 {FIRST}\x1b[0m"
    assert [line.startswith(tone) for line, tone in zip(progress[1::2], tones, strict=True)] == [True] * 3
    assert [tone in line for line, tone in zip(table, tones, strict=True)] == [True] * 3


WAITS = """
trap 'trapped=1' TERM
trapped=
{signal}
n=0
while [ -z "$trapped" ] && [ $n -lt 400 ]; do sleep 0.05; n=$((n + 1)); done
[ -n "$trapped" ] && echo restored >> terminated
"""


def test_sigterm_ends_the_drill_that_runs_and_the_catalogue_with_it(drills: Drills, config: Path) -> None:
    """The drill restores first and comes to its verdict; what did not run told nothing."""
    drills.does(FIRST, WAITS.format(signal="kill -TERM $PPID"))
    before = signal.getsignal(signal.SIGTERM)

    result = catalogue(config, FIRST, SECOND, "--json")

    assert (config.parent / "program/terminated").read_text() == "restored\n"
    assert drills.ran == [FIRST]
    assert result.exit_code == 3
    assert [(one["drill"], one["verdict"]) for one in told(result)] == [(FIRST, "HELD")]
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_the_catalogue_and_not_the_drill() -> None:
    """A terminal gives it to the drill by itself; one more would cut its restoring short."""
    before = signal.getsignal(signal.SIGINT)

    with _Interrupts() as interrupts, subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - the shell's own
        try:
            with interrupts.running(process):
                os.kill(os.getpid(), signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.1)
        finally:
            process.kill()

    assert interrupts.told
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_while_a_drill_runs_reaches_it() -> None:
    """SIGTERM comes to the catalogue alone: the drill that runs must be told, or nobody restores in time."""
    with _Interrupts() as interrupts, subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - the shell's own
        try:
            with interrupts.running(process):
                os.kill(os.getpid(), signal.SIGTERM)
                assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()

    assert interrupts.told


def test_a_signal_after_a_drill_is_passed_on_to_nobody() -> None:
    """It has ended; the next does not begin."""
    with _Interrupts() as interrupts, subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - the shell's own
        try:
            with interrupts.running(process):
                pass
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        finally:
            process.kill()

    assert interrupts.told


def test_a_signal_while_a_drill_is_being_started_reaches_it() -> None:
    """It is not lost between the start and the wait: else the drill would go on to its end, for minutes."""
    with _Interrupts() as interrupts, subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607 - the shell's own
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            with interrupts.running(process):
                assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()

    assert interrupts.told

"""Drill files: what is shipped loads, and what is wrong is refused in one line that says where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kms_chaos.alarms import check_times
from kms_chaos.drill import Drill, DrillError, find, parse, shipped_names
from kms_chaos.drill_parts import AlarmRule

TEXT = (Path(__file__).parents[2] / "chaos/kms_chaos/drills/region-blackhole.toml").read_text(encoding="utf-8")
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


def load(text: str) -> Drill:
    return parse(text, name="region-blackhole", where="d.toml")


def test_every_shipped_drill_loads_and_its_alarms_can_fire_in_time() -> None:
    """In high resolution and in CloudWatch's usual minute."""
    assert "region-blackhole" in shipped_names()
    for name in shipped_names():
        for period in (10, 60):
            check_times(find(name).for_alarm_period(period), period)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param(
            "must_clear]]", "must_clera]]", "alarms.must_clera: unknown key; did you mean must_clear", id="table"
        ),
        pytest.param(
            "rto_seconds = ", "rto_second = ", "objectives.rto_second: unknown key; did you mean rto_seconds", id="key"
        ),
        pytest.param(
            'mode = "sustained"', 'mode = "maybe"', "mode: input should be 'sustained' or 'recovery'", id="mode"
        ),
        pytest.param('kind = "blackhole"', 'kind = "blackhol"', "faults.0: input tag 'blackhol'", id="fault"),
        pytest.param('kind = "blackhole"', 'kind = "\\u0007\\u0000"', r"faults.0: input tag '\x07\x00'", id="cursor"),
        pytest.param('region = "primary"', 'region = "here"', "target.region:", id="region"),
        pytest.param('why = """', 'wyh = """', "why: missing", id="missing"),
        pytest.param(
            "hold_at_most_seconds = 75", "hold_at_most_seconds = 60", "must exceed the slowest alarm", id="hold"
        ),
        pytest.param("hold_at_least_seconds = 20", "hold_at_least_seconds = 80", "must not exceed", id="least"),
        pytest.param(
            "baseline_at_least_seconds = 6", "baseline_at_least_seconds = 60", "must not exceed", id="baseline"
        ),
        pytest.param("within_seconds = 90", "", "needs within_seconds", id="within"),
        pytest.param("failed_operations = 0", "failed_operations = 0.5", "objectives.failed_operations:", id="type"),
        pytest.param("title = ", "name = 'x'\ntitle = ", "name: unknown key", id="name"),
        pytest.param("[target]", "[target", "not valid TOML", id="toml"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(old: str, new: str, says: str) -> None:
    """File, key, and what is expected."""
    assert old in TEXT

    with pytest.raises(DrillError) as refused:
        load(TEXT.replace(old, new, 1))

    assert str(refused.value).startswith("d.toml: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_drill_is_named_with_its_nearest() -> None:
    """A slip of the finger is no riddle."""
    with pytest.raises(DrillError, match="did you mean region-blackhole"):
        find("region-blackhol")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot be read", id="absent"),
        pytest.param(b"\xff\xfe", "not UTF-8", id="binary"),
        pytest.param(b"#" * 70_000, "larger than", id="huge"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    """Before anything is touched."""
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DrillError, match=says):
        find(str(path))


def test_times_that_wait_for_alarms_scale_with_their_period() -> None:
    """The drill written for 10 s alarms holds six times as long for 60 s alarms; the rest stays."""
    drill = find("region-blackhole").for_alarm_period(60)

    assert drill.timing.hold_at_most_seconds == 450
    assert drill.alarms.must_fire[0].within_seconds == 420
    assert drill.alarms.must_clear[0].within_seconds == 540
    assert drill.timing.hold_at_least_seconds == 20
    assert drill.for_alarm_period(60) is drill


def test_an_alarm_that_is_in_no_table_is_refused() -> None:
    """A drill that waits for it would wait in vain."""
    drill = parse(TEXT.replace('"HighErrorRate"', '"HighErrorRat"'), name="x", where="x")

    with pytest.raises(DrillError, match="no alarm 'HighErrorRat' of target"):
        check_times(drill, 10)


@pytest.mark.parametrize(("alarm", "region"), [("TwoRegionsDown", "target"), ("HighErrorRate", "estate")])
def test_an_alarm_is_named_as_it_is_rendered(alarm: str, region: str) -> None:
    """One over all regions is nobody's, and one of each region is not the estate's."""
    rule = AlarmRule.model_validate({"alarm": alarm, "region": region, "within_seconds": 70})
    drill = find("region-blackhole")
    plan = drill.alarms.model_copy(update={"must_fire": (rule,)})

    with pytest.raises(DrillError, match=f"no alarm '{alarm}' of {region}"):
        check_times(drill.model_copy(update={"alarms": plan}), 10)


def test_an_alarm_slower_than_the_fault_is_refused() -> None:
    """A fault that ends first proves nothing about it."""
    text = TEXT.replace("hold_at_most_seconds = 75", "hold_at_most_seconds = 35").replace(
        "within_seconds = 70", "within_seconds = 30"
    )

    with pytest.raises(DrillError, match="may take 40 s to fire"):
        check_times(parse(text, name="x", where="x"), 10)


def test_regions_are_named_by_their_part() -> None:
    """Target, others, all, or by name."""
    rules = find("region-blackhole").alarms

    assert rules.must_fire[0].regions(("us-east-1",), REGIONS) == ("us-east-1",)
    assert rules.must_not_fire[0].regions(("us-east-1",), REGIONS) == ("us-west-2", "eu-west-1")
    assert rules.must_not_fire[1].regions(("us-east-1",), REGIONS) == REGIONS


@pytest.mark.parametrize(
    ("table", "override", "hurt"),
    [
        ("", None, ("us-east-1",)),
        ("", "eu-west-1", ("eu-west-1",)),
        ("count = 2", None, ("us-east-1", "us-west-2")),
        ("count = 2", "eu-west-1", ("eu-west-1", "us-east-1")),
        ('count = "all"', "us-west-2", ("us-west-2", "eu-west-1", "us-east-1")),
    ],
)
def test_a_target_is_one_region_or_the_next_ones_too(table: str, override: str | None, hurt: tuple[str, ...]) -> None:
    """In the estate's order, round its end."""
    drill = load(TEXT.replace("[target]", f"[target]\n{table}"))

    assert drill.targets(primary="us-east-1", regions=REGIONS, override=override) == hurt


def test_more_regions_than_there_are_are_refused() -> None:
    """And a region that the estate has not."""
    with pytest.raises(DrillError, match="hurts 4 regions, and this estate has 3"):
        load(TEXT.replace("[target]", "[target]\ncount = 4")).targets(primary="us-east-1", regions=REGIONS)
    with pytest.raises(DrillError, match="eu-north-1 is not a region of this estate"):
        load(TEXT).targets(primary="us-east-1", regions=REGIONS, override="eu-north-1")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "blackhole" ', 'kind = "blackhole"\nfor_second = 3', "unknown key; did you mean for_seconds?"),
        ('kind = "blackhole" ', 'kind = "blackhole"\nafter_seconds = 20', "when the hold may be over"),
        ('kind = "blackhole" ', 'kind = "blackhole"\nafter_seconds = 9\nfor_seconds = 11', "when the hold may be over"),
        ("[objectives]", '[expect]\ncold = "never"\n[objectives]', "errors must say with what"),
        ("[objectives]", '[expect]\ncold = "never"\nerrors = ["X"]\n[objectives]', "a sustained drill lets no"),
        ("[breaker]", "[breaker]\nstays_closed = true", "a breaker that stays closed makes no moves"),
    ],
)  # fmt: skip
def test_what_cannot_be_proven_together_is_refused(old: str, new: str, says: str) -> None:
    """Before anything is touched, in one line."""
    assert old in TEXT

    with pytest.raises(DrillError, match=re.escape(says)):
        load(TEXT.replace(old, new, 1))


def test_a_journal_of_version_0_1_is_still_a_drills() -> None:
    """It has one `fault`, where files now have `faults`."""
    values = load(TEXT).model_dump(mode="json")
    values["fault"] = {"kind": values.pop("faults")[0]["kind"]}

    assert Drill.model_validate(values) == load(TEXT)

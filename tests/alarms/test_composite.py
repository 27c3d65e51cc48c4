"""Composite alarms: the rules of the CloudWatch User Guide, and its examples of suppression on made-up times."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_alarms.composite import (
    AlarmRuleError,
    Held,
    SuppressedBy,
    Suppressor,
    evaluation_order,
    hold_back,
    parse_rule,
)
from kms_alarms.evaluate import AlarmState

OK, ALARM, INSUFFICIENT_DATA = AlarmState.OK, AlarmState.ALARM, AlarmState.INSUFFICIENT_DATA
STATES = {"bad": ALARM, "good": OK, "blind": INSUFFICIENT_DATA, "with (b), c": ALARM, 'say "x"': ALARM}
STATES["arn:aws:cloudwatch:us-east-1:123456789012:alarm:bad"] = ALARM


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ALARM(bad)", True, id="alarm"),
        pytest.param("ALARM(good)", False, id="no-alarm"),
        pytest.param('OK ("good")', True, id="quotes-and-a-blank"),
        pytest.param("INSUFFICIENT_DATA(blind)", True, id="insufficient-data"),
        pytest.param("ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:bad)", True, id="arn"),
        pytest.param('ALARM("with (b), c")', True, id="name-that-needs-quotes"),
        pytest.param(r'ALARM("say \"x\"")', True, id="quotes-in-a-name"),
        pytest.param("TRUE", True, id="true"),
        pytest.param("false", False, id="false-as-the-reference-writes-it"),
        pytest.param("NOT ALARM(good)", True, id="not"),
        pytest.param("NOT NOT ALARM(good)", False, id="not-not"),
        pytest.param("ALARM(bad) AND OK(good)", True, id="and"),
        pytest.param("ALARM(good) OR ALARM(bad)", True, id="or"),
        pytest.param("TRUE OR FALSE AND FALSE", True, id="and-binds-tighter"),
        pytest.param("(TRUE OR FALSE) AND FALSE", False, id="parentheses"),
        pytest.param("NOT FALSE AND FALSE", False, id="not-binds-tightest"),
        pytest.param("(ALARM(bad) OR ALARM(good)) AND NOT OK(blind)", True, id="guide-noise"),
        pytest.param("AT_LEAST(2, ALARM, (bad, good, blind))", False, id="at-least-too-few"),
        pytest.param('AT_LEAST(2, ALARM, (bad, good, "with (b), c"))', True, id="at-least"),
        pytest.param("AT_LEAST(50%, OK, (good, bad, blind))", False, id="half-of-three-is-two"),
        pytest.param("AT_LEAST(33%, OK, (good, bad, blind))", True, id="a-third"),
        pytest.param('AT_LEAST("66%", NOT OK, (good, bad, blind))', True, id="not-in-a-state"),
        pytest.param("AT_LEAST(1, ALARM, (bad, good)) AND NOT ALARM(blind)", True, id="at-least-among-others"),
    ],
)
def test_rules(text: str, expected: bool) -> None:  # noqa: FBT001  a parameter of the table
    """Each rule has the value that the User Guide gives it."""
    assert parse_rule(text).holds(STATES.__getitem__) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("()", r"Unsupported token '\)' at char 1, must be: '\(', 'NOT', AT_LEAST", id="empty-parentheses"),
        pytest.param("ALARM(a b)", r"Unsupported token 'b' at char 8, must be: '\)'", id="blank-in-a-name"),
        pytest.param("", "Unsupported end at char 0", id="nothing"),
        pytest.param("ALARM(a) AND", "Unsupported end at char 12", id="half"),
        pytest.param("ALARM(a) ALARM(b)", "Unsupported token 'ALARM' at char 9, must be: 'AND' or 'OR'", id="two"),
        pytest.param("alarm(a)", "Unsupported token 'alarm' at char 0", id="lower-case"),
        pytest.param("ALARM()", r"Unsupported token '\)' at char 6", id="no-name"),
        pytest.param('ALARM("a)', "Unsupported token '\"' at char 6", id="open-quotes"),
        pytest.param("(ALARM(a)", r"Unsupported end at char 9, must be: '\)'", id="open-parenthesis"),
        pytest.param("AT_LEAST(3, ALARM, (a, b))", "'3' at char 9, must be: a number from 1 to 2", id="more-than-all"),
        pytest.param("AT_LEAST(0, ALARM, (a, b))", "'0' at char 9", id="at-least-none"),
        pytest.param("AT_LEAST(101%, ALARM, (a, b))", "'101%' at char 9", id="more-than-all-in-per-cent"),
        pytest.param("AT_LEAST(1, BAD, (a, b))", "Unsupported token 'BAD' at char 12", id="unknown-state"),
        pytest.param("AT_LEAST(1, ALARM, ())", r"Unsupported token '\)' at char 20", id="at-least-of-nothing"),
        pytest.param(" OR ".join(f"ALARM(a{n})" for n in range(101)), "100 alarms, not 101", id="101-alarms"),
        pytest.param(" OR ".join(["TRUE"] * 501), "500 elements, not 501", id="501-elements"),
        pytest.param("ALARM(" + "a" * 10_240 + ")", "10240 characters", id="too-long"),
        pytest.param("(" * 200 + "TRUE" + ")" * 200, "nested too deeply", id="too-deep"),
        pytest.param("NOT " * 2000 + "TRUE", "nested too deeply", id="many-nots"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, message: str) -> None:
    """The refusal says where, as CloudWatch's does."""
    with pytest.raises(AlarmRuleError, match=message):
        parse_rule(text)


def test_a_rule_knows_whom_it_names() -> None:
    """Each alarm once, in order of appearance, without quotes."""
    rule = parse_rule('ALARM("b c") AND (OK(a) OR ALARM("b c")) AND AT_LEAST(1, NOT OK, (d, a))')

    assert rule.alarms == ("b c", "a", "d")


def test_the_largest_rule_is_evaluated() -> None:
    """A hundred alarms, beside one another and within one another, are no depth for Python."""
    wide = " OR ".join(f"ALARM(a{n})" for n in range(100))
    deep = "NOT (" * 30 + "ALARM(a0)" + ")" * 30

    assert parse_rule(wide).holds(lambda name: ALARM if name == "a99" else OK)
    assert parse_rule(deep).holds(lambda _: ALARM)


@given(st.text(alphabet='ABNOTRDLM()", _%12a', max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Whatever is written, the parser ends, with a rule or with its own error."""
    try:
        rule = parse_rule(text)
    except AlarmRuleError:
        return
    assert rule.holds(lambda _: OK) in {True, False}


def _leaf(name: str) -> tuple[str, str]:
    """The same condition as a rule and in Python."""
    return f"ALARM({name})", str(STATES[name] is ALARM)


FORMULAS = st.recursive(
    st.sampled_from(("bad", "good", "blind")).map(_leaf),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(("AND", "OR")), inner).map(
            lambda parts: (f"{parts[0][0]} {parts[1]} {parts[2][0]}", f"{parts[0][1]} {parts[1].lower()} {parts[2][1]}")
        ),
        inner.map(lambda one: (f"({one[0]})", f"({one[1]})")),
        inner.map(lambda one: (f"NOT ({one[0]})", f"not ({one[1]})")),
    ),
    max_leaves=12,
)


@given(FORMULAS)
def test_formulas_are_what_python_makes_of_them(formula: tuple[str, str]) -> None:
    """AND, OR, NOT and parentheses bind as everywhere."""
    rule, python = formula

    assert parse_rule(rule).holds(STATES.__getitem__) is eval(python)  # noqa: S307  of True, False, and, or, not alone


def test_children_come_before_their_parents() -> None:
    """Whoever rests on others is evaluated after them; a circle, and who leads into it, is not evaluated at all."""
    children = {"top": ["mid", "m1"], "mid": ["low"], "low": ["m2"], "a": ["b"], "b": ["a"], "onlooker": ["a", "m1"]}

    order = evaluation_order(children)

    assert sorted(order) == ["low", "mid", "top"]
    assert order.index("low") < order.index("mid") < order.index("top")
    assert evaluation_order({"self": ["self"]}) == ()


class Timeline:
    """The guide's pictures: a composite alarm and its suppressor, unit by unit; waits last 2, extensions 3."""

    policy = Suppressor(alarm="suppressor", wait_seconds=2, extension_seconds=3)

    def __init__(self) -> None:
        self.held: Held | None = None
        self.composite = self.suppressor = OK
        self.acted: list[tuple[int, AlarmState]] = []

    def at(self, now: int, *, composite: AlarmState | None = None, suppressor: AlarmState | None = None) -> str:
        """Let something happen at `now`, and return what holds the actions back from then on."""
        self.suppressor = suppressor or self.suppressor
        changed = composite is not None and composite is not self.composite
        self.composite = composite or self.composite
        before, suppressing = self.held, self.suppressor is ALARM
        self.held = hold_back(self.policy, before, changed=changed, suppressing=suppressing, now=now)
        if self.held is None and (changed or before is not None):
            self.acted.append((now, self.composite))
        return self.held.by if self.held else ""


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    return Timeline()


def test_example_1_actions_are_taken_after_the_wait(timeline: Timeline) -> None:
    """The suppressor stays OK: the wait ends at t4, and the actions run."""
    found = [timeline.at(2, composite=ALARM), timeline.at(3), timeline.at(4), timeline.at(5)]

    assert found == ["WaitPeriod", "WaitPeriod", "", ""]
    assert timeline.acted == [(4, ALARM)]


def test_example_2_the_suppressor_comes_during_the_wait(timeline: Timeline) -> None:
    """The wait is discarded, and the suppressor holds for as long as it is in ALARM."""
    found = [timeline.at(2, composite=ALARM), timeline.at(3, suppressor=ALARM), timeline.at(50)]

    assert found == ["WaitPeriod", "Alarm", "Alarm"]
    assert timeline.acted == []


def test_example_3_a_change_during_the_wait_begins_a_new_one(timeline: Timeline) -> None:
    """The composite is OK again at t3: the new wait ends at t5, with the actions of OK."""
    found = [timeline.at(2, composite=ALARM), timeline.at(3, composite=OK), timeline.at(4), timeline.at(5)]

    assert found == ["WaitPeriod", "WaitPeriod", "WaitPeriod", ""]
    assert timeline.acted == [(5, OK)]


def test_example_4_the_suppressor_was_there_before(timeline: Timeline) -> None:
    """No wait is needed: actions are suppressed at once."""
    timeline.at(1, suppressor=ALARM)

    assert timeline.at(2, composite=ALARM) == "Alarm"
    assert timeline.acted == []


def test_example_5_actions_are_taken_after_the_extension(timeline: Timeline) -> None:
    """The suppressor leaves at t6: the extension ends at t9, and the actions run."""
    timeline.at(2, composite=ALARM)
    timeline.at(3, suppressor=ALARM)
    found = [timeline.at(6, suppressor=OK), timeline.at(8), timeline.at(9)]

    assert found == ["ExtensionPeriod", "ExtensionPeriod", ""]
    assert timeline.acted == [(9, ALARM)]


def test_example_6_a_change_during_the_extension_begins_a_wait(timeline: Timeline) -> None:
    """The composite is OK again at t7: the extension is discarded for a wait that ends at t9."""
    timeline.at(2, composite=ALARM)
    timeline.at(3, suppressor=ALARM)
    found = [timeline.at(6, suppressor=OK), timeline.at(7, composite=OK), timeline.at(8), timeline.at(9)]

    assert found == ["ExtensionPeriod", "WaitPeriod", "WaitPeriod", ""]
    assert timeline.acted == [(9, OK)]


def test_without_a_change_there_is_nothing_to_hold_back(timeline: Timeline) -> None:
    """A suppressor that comes and goes makes no alarm repeat itself."""
    for now, state in enumerate((ALARM, OK, ALARM, OK)):
        assert timeline.at(now, suppressor=state) == ""

    assert timeline.acted == []


def test_periods_of_nothing_hold_nothing_back() -> None:
    """A wait of 0 s is none, and so is an extension."""
    policy = Suppressor(alarm="s", wait_seconds=0, extension_seconds=0)

    assert hold_back(policy, None, changed=True, suppressing=False, now=1.0) is None
    assert hold_back(policy, Held(SuppressedBy.ALARM), changed=False, suppressing=False, now=1.0) is None
    assert hold_back(policy, None, changed=True, suppressing=True, now=1.0) == Held(SuppressedBy.ALARM)

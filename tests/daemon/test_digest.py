"""The weekly review: right numbers from the sums, and both of its forms."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from daemon_kit import START, JournalFile, result

from kms_core.events import Attempt, BreakerMoved, FailedOver
from kms_core.testing import ManualClock
from kms_watchdog.cli import command
from kms_watchdog.commands.digest import read
from kms_watchdog.config import Settings
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.history import markdown, page, plots
from kms_watchdog.history.digest import Digest
from kms_watchdog.history.sections import duration, percent, sections
from kms_watchdog.history.tally import ERROR, Tally
from kms_watchdog.results import Mode, Outcome, Reason
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.sink import Seen

HOUR = 3600
WEEK = timedelta(days=7)


def fill(history: HistorySink) -> None:
    """Two days: 60 good round trips an hour and region; one bad hour in the west, one blind in the east."""
    for hour in range(48):
        for look in range(60):
            at = hour * HOUR + look * 60
            west = Outcome.FAILED if hour == 10 and look < 30 else Outcome.OK
            east = Outcome.BLIND if hour == 20 else Outcome.OK
            code = "ThrottlingException" if west is Outcome.FAILED else ""
            history.write(
                result(
                    west,
                    region="us-west-2",
                    at=at,
                    seconds=0.05,
                    error_code=code,
                    reason=Reason.THROTTLED if code else None,
                )
            )
            history.write(result(east, at=at, seconds=0.01 if look else 0.2))
    history.write(result(Outcome.FAILED, at=5, mode=Mode.DRILL, run_id="x"))
    for event in (
        BreakerMoved(region="us-west-2", old="closed", new="open", cause="failures"),
        FailedOver(from_region="us-west-2", to_region="us-east-1", operation="Decrypt", purpose="general"),
    ):
        history.on_event(Seen(event=event, mode=Mode.LIVE, at_utc=START))
        history.on_event(Seen(event=event, mode=Mode.DRILL, at_utc=START))
    for _ in range(100):
        attempt = Attempt(
            region="us-east-1", operation="Decrypt", purpose="x", seconds=0, error_code="", request_id="", pinned=True
        )
        history.on_event(Seen(event=attempt, mode=Mode.LIVE, at_utc=START))


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of two days, made once."""
    path = tmp_path_factory.mktemp("history") / "history.db"
    history = HistorySink(path, ManualClock())
    fill(history)
    history.close()
    return path


@pytest.fixture
def filled(settings: Settings, two_days: Path) -> Settings:
    """A configuration whose history holds two days."""
    settings.state.dir.mkdir()
    shutil.copy(two_days, settings.state.dir / "history.db")
    return settings


@pytest.fixture
def digest(filled: Settings) -> Digest:
    return read(filled, START, START + WEEK)


def test_availability_is_by_region_and_key(digest: Digest) -> None:
    """From every look, blind ones apart; a drill's are not in it."""
    found = {line.name: line.tally for line in digest.keys}

    west, east = found["us-west-2", "general"], found["us-east-1", "general"]
    assert (west.ok, west.failed, west.availability) == (2850, 30, pytest.approx(2850 / 2880))
    assert (east.availability, east.blind, east.failed) == (1.0, 60, 0)
    assert digest.overall.looks == 5760
    assert [line.name for line in digest.kinds] == [("round_trip",)]


def test_percentiles_are_right_within_the_stated_error(digest: Digest) -> None:
    """One look in sixty took 200 ms: that is the p99 and not the p90."""
    east = next(line.tally for line in digest.regions if line.name == ("us-east-1",))

    assert east.percentile(0.5) == pytest.approx(0.01, rel=ERROR)
    assert east.percentile(0.9) == pytest.approx(0.01, rel=ERROR)
    assert east.percentile(0.99) == pytest.approx(0.2, rel=ERROR)


def test_the_worst_hours_come_first(digest: Digest) -> None:
    """Failures before blindness, with where and why."""
    first, second = digest.worst_hours

    assert (first.at_utc, first.tally.failed, first.where) == (START + timedelta(hours=10), 30, ("us-west-2",))
    assert (second.at_utc, second.tally.blind, second.where) == (START + timedelta(hours=20), 60, ("us-east-1",))


def test_reasons_are_ranked(digest: Digest) -> None:
    """With KMS's own code and the regions."""
    assert [(why.reason, why.error_code, why.count, why.where) for why in digest.reasons] == [
        ("no_credentials", "", 60, ("us-east-1",)),
        ("throttled", "ThrottlingException", 30, ("us-west-2",)),
    ]


def test_silence_is_told(digest: Digest) -> None:
    """Two days of seven were watched: the other five are not taken for good."""
    assert (digest.hours_seen, digest.hours_asked) == (48, 168)


def test_live_events_alone_are_counted(digest: Digest) -> None:
    """A drill's breakers opened on purpose."""
    assert digest.breakers == {"us-west-2": 1}
    assert digest.failovers == {("us-west-2", "us-east-1"): 1}
    assert digest.requests == {"us-east-1": 100}


def test_incidents_are_told_longest_first(digest: Digest) -> None:
    """Those of the span."""
    assert [(each.subject.region, each.looks) for each in digest.incidents] == [("us-east-1", 60), ("us-west-2", 30)]
    assert digest.incident_count == 2


def test_costs_are_estimated_from_what_was_counted(digest: Digest) -> None:
    """Two keys in three regions for a week; a hundred requests; series and puts of two regions."""
    keys, requests, series, puts = digest.costs

    assert keys.dollars == pytest.approx(6 * 7 / 30.44)
    assert requests.dollars == pytest.approx(100 * 0.03 / 10_000)
    assert series.dollars > 0
    assert puts.dollars == pytest.approx(2 * 7 * 1440 * 0.01 / 1000)
    assert digest.dollars == pytest.approx(sum(cost.dollars for cost in digest.costs))


def test_drills_of_the_span_are_told_with_their_verdict(
    filled: Settings, new_drill: Callable[..., JournalFile]
) -> None:
    """From their journals; one of last year is not of this week."""
    for run_id, at, verdict in (("20260102T000000Z-a", 86_400.0, "HELD"), ("20251201T000000Z-b", -3e6, "BROKE")):
        drill = new_drill(run_id, state=filled.state.dir)
        drill.begin(at=at)
        drill.append("closed", at=at + 60, by="drill", verdict=verdict)

    (view,) = read(filled, START, START + WEEK).drills

    assert (view.run_id, view.verdict) == ("20260102T000000Z-a", Verdict.HELD)


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "n/a"), (1.0, "100%"), (0.9999999, "99.999%"), (0.5, "50%"), (0.98765, "98.765%"), (0.0, "0%")],
)
def test_a_share_is_never_rounded_up_to_all(share: float | None, text: str) -> None:
    """One failure in ten million is not none."""
    assert percent(share) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "n/a"), (0.0123, "12.3 ms"), (1.234, "1.23 s")])
def test_a_duration_has_its_unit(seconds: float | None, text: str) -> None:
    """For people."""
    assert duration(seconds) == text


def test_markdown_has_every_table(digest: Digest) -> None:
    """Each row as wide as its head; what stands in a cell does not break out of it."""
    text = markdown.render(digest)

    assert text.startswith("# KMS of test: 2026-01-01 00:00 to 2026-01-08 00:00 UTC\n")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [s.title for s in sections(digest)]
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "| us-west-2 | general | 2,880 | 98.958% | 30 | 0% | 50.0 ms |" in text
    assert "None was run: that failover works is assumed, not proven." in text


class Links(HTMLParser):
    """Collects what a page refers to, and the ids in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"href", "src", "xlink:href"} and value and not value.startswith("#"):
                self.outside.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_html_is_one_file_with_pictures(digest: Digest) -> None:
    """No script, nothing from elsewhere, no id twice, and every colour one of the page's own."""
    text = page.render(digest)
    seen = Links()
    seen.feed(text)

    assert seen.tags.count("svg") == 2
    assert "script" not in seen.tags
    assert seen.outside == []
    assert len(seen.ids) == len(set(seen.ids))
    assert not re.search(r"#0000[0-9a-f]{2}", text)
    used, defined = set(re.findall(r"var\((--[a-z0-9-]+)\)", text)), set(re.findall(r"(--[a-z0-9-]+):", text))
    assert used <= defined
    assert "url(http" not in text


def test_names_are_text_in_html(filled: Settings) -> None:
    """Whatever somebody calls an estate."""
    odd = filled.model_copy(update={"estate": filled.estate.model_copy(update={"name": "<script>alert(1)</script>"})})

    assert "<script" not in page.render(read(odd, START, START + WEEK))


@pytest.mark.parametrize(
    ("tally", "colour"),
    [
        (Tally(ok=1000), "good"),
        (Tally(ok=1000, blind=1), "warn"),
        (Tally(ok=995, failed=5), "warn"),
        (Tally(ok=1, failed=1), "bad"),
        (Tally(blind=3), "blind"),
    ],
)
def test_an_hours_colour(tally: Tally, colour: str) -> None:
    """Blind throughout is neither good nor bad."""
    assert plots.colour_of(tally) == colour


@pytest.fixture
def run(filled: Settings, write_config: Callable[..., Path]) -> Callable[..., Result]:
    config = str(write_config())

    def run_it(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["digest", *arguments, "--config", config])

    return run_it


SPAN = ("--since", "2026-01-01", "--until", "2026-01-08")


def test_digest_writes_what_is_asked_for(run: Callable[..., Result], tmp_path: Path) -> None:
    """Markdown to standard output; by the file's name, HTML; by --format, whatever the name."""
    html, odd = tmp_path / "week.html", tmp_path / "week.txt"

    told = run(*SPAN)
    codes = [
        run(*SPAN, "--output", str(html)).exit_code,
        run(*SPAN, "--output", str(odd), "--format", "html").exit_code,
    ]

    assert told.exit_code == 0
    assert told.stdout.startswith("# KMS of test")
    assert codes == [0, 0]
    assert html.read_text() == odd.read_text()
    assert html.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--since", "2027-01-01", "--until", "2027-01-08"], 3, "no look in that time", id="nothing"),
        pytest.param([*SPAN, "--output", "/nonexistent/x.md"], 2, "No such file", id="no-folder"),
    ],
)
def test_digest_that_cannot_be_is_one_line(
    run: Callable[..., Result], arguments: list[str], code: int, says: str
) -> None:
    """Nothing watched is not nothing wrong."""
    told = run(*arguments)

    assert (told.exit_code, len(told.stderr.splitlines())) == (code, 1)
    assert says in told.stderr

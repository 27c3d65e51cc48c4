"""Leaving a region and coming back: what is decided, where it is written, and that the application follows."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from daemon_kit import START
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from kms_core import Core
from kms_core.events import OverridesChanged, OverridesUnreadable
from kms_core.overrides import FileOverrides, RegionOverride, parse_overrides
from kms_core.testing import FakeEstate, InlineLane, ManualClock
from kms_watchdog import aws, durations, evacuation
from kms_watchdog.cli import command
from kms_watchdog.commands import evacuate
from kms_watchdog.config import Endpoint, Overrides, Settings
from kms_watchdog.override_store import FileStore, SsmStore, StoreError, override_source, override_store
from kms_watchdog.results import Mode
from kms_watchdog.sinks.log import LogSink
from kms_watchdog.sinks.sink import Seen

EAST, WEST, EUROPE = REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
HOUR = timedelta(hours=1)


def order(
    region: str = EAST, *, lasts: timedelta = HOUR, reason: str = "INC-7", at: datetime = START
) -> RegionOverride:
    return evacuation.order(region, lasts=lasts, reason=reason, by="ann", now_utc=at)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Put the logging back that a command set up for its own stderr."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def run(write_config: Callable[..., Path], quiet: None) -> Callable[..., Result]:
    """Run a command with overrides in a file."""
    config = write_config('[overrides]\nfile = "overrides.json"\n')

    def run_it(*arguments: str, input_: str | None = None) -> Result:
        return CliRunner().invoke(command, [*arguments, "--config", str(config)], input=input_)

    return run_it


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("7d", 604_800), ("1d2h3m4s", 93_784), (" 45s ", 45)],
)
def test_a_span_is_read_as_people_write_it(text: str, seconds: int) -> None:
    """Days, hours, minutes, seconds."""
    assert durations.parse(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1.5h", "30m1h", "0m", "soon", "1h 30m", "9999999d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """Rather than guessed: a unit forgotten would be a factor of sixty."""
    with pytest.raises(ValueError, match="a time"):
        durations.parse(text)


@given(st.integers(1, 86_400 * 400))
def test_a_spoken_span_reads_back(seconds: int) -> None:
    """To its two largest units."""
    said = durations.parse(durations.spoken(timedelta(seconds=seconds))).total_seconds()

    assert 0 <= seconds - said < (3600 if seconds >= 86_400 else 60)


def test_an_order_says_who_and_when() -> None:
    """Whoever finds it in an incident knows whom to ask; white space does not break its line."""
    made = order(reason="KMS\n errors")

    assert made.reason == "KMS errors (by ann at 2026-01-01T00:00:00Z)"
    assert (made.kind, made.until_utc) == ("avoid", START + HOUR)


@pytest.mark.parametrize(
    ("lasts", "reason"),
    [pytest.param(timedelta(hours=25), "x", id="too-long"), pytest.param(HOUR, " ", id="no-reason")],
)
def test_an_order_that_promises_too_much_is_refused(lasts: timedelta, reason: str) -> None:
    """The core follows none for more than a day."""
    with pytest.raises(ValueError, match=r"24h|reason"):
        order(lasts=lasts, reason=reason)


def test_the_last_region_is_never_evacuated() -> None:
    """Those whose time is over count as here again."""
    found = (order(WEST), order(EUROPE, lasts=timedelta(minutes=5)))

    with pytest.raises(
        evacuation.LastRegionError, match=r"us-east-1 is the last region .* return one of eu-west-1, us-"
    ):
        evacuation.refuse_last(found, EAST, REGIONS, START)
    evacuation.refuse_last(found, EAST, REGIONS, START + timedelta(minutes=6))
    evacuation.refuse_last((replace(order(WEST), kind="prefer"),), EAST, (EAST, WEST), START)


def test_orders_of_others_stay() -> None:
    """Both when one is added and when a region comes back; what ended long ago goes."""
    preferred, old = replace(order(EAST), kind="prefer"), order(WEST, at=START - timedelta(hours=3))
    others = (preferred, order(WEST))

    added = evacuation.with_order((old, *others), order(EAST), START)
    returned = evacuation.without(added, EAST, START)

    assert added == (*others, order(EAST))
    assert returned == others


def test_the_order_that_ends_last_tells_until_when() -> None:
    """Of two people's for one region; a preferred region is not evacuated."""
    shorter, preferred = order(lasts=timedelta(minutes=5), reason="INC-8"), replace(order(WEST), kind="prefer")

    assert evacuation.evacuated((order(), shorter, preferred)) == {EAST: order()}
    assert evacuation.evacuated((shorter, order())) == {EAST: order()}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(order(reason="KMS (again)").reason, ("KMS (again)", "ann"), id="by-command"),
        pytest.param("by hand (by night)", ("by hand (by night)", None), id="by-hand"),
    ],
)
def test_who_gave_an_order_is_told_apart_from_why(written: str, told: tuple[str, str | None]) -> None:
    """As far as `evacuate` wrote it; what people write by hand is all reason."""
    assert evacuation.reason_and_by(replace(order(), reason=written)) == told


def test_the_document_is_what_the_core_reads() -> None:
    """Any reason a person can type."""
    orders = (order(reason='"quoted" \\ é 🔥'), replace(order(WEST), kind="prefer"))

    assert parse_overrides(evacuation.document(orders), "json") == orders


def add(new: RegionOverride) -> Callable[[Sequence[RegionOverride]], Sequence[RegionOverride]]:
    return lambda found: (*found, new)


def test_writers_of_a_file_take_turns(tmp_path: Path) -> None:
    """Thirty at once: nobody's order is lost, and a reader never sees half a file."""
    path = tmp_path / "overrides.json"
    orders = [order(reason=f"INC-{number}") for number in range(30)]
    done, torn = threading.Event(), list[Exception]()

    def read_on() -> None:
        while not done.is_set():
            try:
                FileOverrides(path).read()
            except Exception as e:  # noqa: BLE001 - any at all is a failure of the test
                torn.append(e)

    reader = threading.Thread(target=read_on)
    writers = [threading.Thread(target=FileStore(path).change, args=(add(each),)) for each in orders]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join(30)
    done.set()
    reader.join(30)

    assert set(FileOverrides(path).read()) == set(orders)
    assert torn == []


def test_a_file_that_people_broke_is_not_overwritten(tmp_path: Path) -> None:
    """Their orders may be in it."""
    path = tmp_path / "overrides.json"
    path.write_text('{"overrides": [')

    with pytest.raises(StoreError, match="mend it by hand"):
        FileStore(path).change(add(order()))

    assert path.read_text() == '{"overrides": ['


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    """The application reads it as another user: so it could, and so it can."""
    path = tmp_path / "overrides.json"
    FileStore(path).change(add(order()))
    fresh = path.stat().st_mode & 0o777
    path.chmod(0o640)

    FileStore(path).change(add(order(WEST)))

    assert (fresh, path.stat().st_mode & 0o777) == (0o644, 0o640)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """Nothing is made on the way."""
    with pytest.raises(StoreError, match="No such file"):
        FileStore(tmp_path / "none" / "overrides.json").change(add(order()))


@dataclass
class FakeParameters:
    """One region's SSM in memory; `meanwhile` runs once before the next write, as somebody else's would."""

    versions: list[str] = field(default_factory=list)
    broken: aws.ParameterError | None = None
    meanwhile: Callable[[], object] | None = None

    def get(self, name: str) -> tuple[str, int] | None:
        if self.broken:
            raise self.broken
        _, _, version = name.partition(":")
        number = int(version) if version else len(self.versions)
        return (self.versions[number - 1], number) if 1 <= number <= len(self.versions) else None

    def put(self, name: str, value: str) -> int:
        if self.broken:
            raise self.broken
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        self.versions.append(value)
        return len(self.versions)

    @property
    def orders(self) -> tuple[RegionOverride, ...]:
        return parse_overrides(self.versions[-1], "json") if self.versions else ()


SILENT, DENIED = aws.ParameterError("ConnectTimeoutError", "unreachable"), aws.ParameterError("AccessDenied", "denied")


def test_one_region_that_takes_the_order_is_enough() -> None:
    """The region one leaves is often the one that does not answer; it is named."""
    east, west = FakeParameters(broken=SILENT), FakeParameters()
    store = SsmStore("/kms/overrides", {EAST: east, WEST: west})

    written = store.change(add(order()))

    assert (written.places, written.failed) == ((WEST,), ("us-east-1: ConnectTimeoutError",))
    assert store.read() == west.orders == (order(),)


@pytest.mark.parametrize(("second", "unreachable"), [(SILENT, True), (DENIED, False)])
def test_no_region_that_takes_it_is_an_error(second: aws.ParameterError, *, unreachable: bool) -> None:
    """Silence is told from refusal."""
    store = SsmStore("/p", {EAST: FakeParameters(broken=SILENT), WEST: FakeParameters(broken=second)})

    with pytest.raises(StoreError, match=f"us-east-1: ConnectTimeoutError; us-west-2: {second.code}") as written:
        store.change(add(order()))
    with pytest.raises(StoreError) as read:
        store.read()

    assert (written.value.unreachable, read.value.unreachable) == (unreachable, unreachable)


def test_what_somebody_else_wrote_in_between_is_taken_up() -> None:
    """SSM has no conditional write: a version that came between is found by its number, and nothing of it is lost."""
    east = FakeParameters()
    SsmStore("/p", {EAST: east}).change(add(order(reason="first")))
    theirs = SsmStore("/p", {EAST: east})
    east.meanwhile = lambda: theirs.change(add(order(WEST, reason="theirs")))

    SsmStore("/p", {EAST: east}).change(add(order(reason="ours")))

    assert [each.reason.split()[0] for each in east.orders] == ["first", "theirs", "ours"]


def test_a_parameter_that_people_broke_or_filled_is_left_alone() -> None:
    """4 KB is what a standard parameter holds."""
    garbled, full = FakeParameters(["{"]), FakeParameters()

    with pytest.raises(StoreError, match="mend it by hand"):
        SsmStore("/p", {EAST: garbled}).change(add(order()))
    with pytest.raises(StoreError, match="more orders than one parameter holds"):
        SsmStore("/p", {EAST: full}).change(add(order(reason="x" * 4000)))

    assert (garbled.versions, full.versions) == (["{"], [])


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SSM in every region, and credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with mock_aws():
        aws._session.cache_clear()  # one that began before the stand-in does not know it
        yield
    aws._session.cache_clear()


def test_the_store_speaks_ssms_language(ssm: None, settings: Settings) -> None:
    """Versions count from one and old ones can be read: what taking up others' writes rests on. The core can too."""
    placed = settings.model_copy(update={"overrides": Overrides(ssm_parameter="/kms/overrides", regions=(EAST, WEST))})
    store, source = override_store(placed), override_source(placed)
    assert store is not None
    assert source is not None
    parameters = aws.Parameters(placed, EAST)

    none = (store.read(), parameters.get("/kms/overrides"), parameters.get("/kms/overrides:1"))
    store.change(add(order()))
    store.change(add(order(WEST)))

    assert none == ((), None, None)
    assert store.read() == source.read() == (order(), order(WEST))
    first = parameters.get("/kms/overrides:1")
    assert first is not None
    assert (parse_overrides(first[0], "json"), first[1]) == ((order(),), 1)
    assert parameters.put("/kms/overrides", "{}") == 3


def test_a_region_without_ssm_is_translated(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there: the code names the fault, and it counts as silence."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    nowhere = settings.model_copy(update={"endpoints": {EAST: Endpoint(ssm="https://127.0.0.1:1")}})

    with pytest.raises(aws.ParameterError) as read:
        aws.Parameters(nowhere, EAST).get("/p")
    with pytest.raises(aws.ParameterError) as written:
        aws.Parameters(nowhere, EAST).put("/p", "x")

    assert {(e.value.code, e.value.trouble) for e in (read, written)} == {("EndpointConnectionError", "unreachable")}


@pytest.fixture
def application(estate: FakeEstate, settings: Settings, tmp_path: Path) -> Iterator[Core]:
    """An application that reads the file of the `run` fixture's configuration, on the estate's clock."""
    with Core(
        replace(settings.core_config(), max_encryptions_per_key=1),
        clock=estate.clock,
        connect=estate.connect,
        lane=lambda _: InlineLane(estate.clock),
        overrides=FileOverrides(tmp_path / "overrides.json"),
        override_interval_seconds=None,
    ) as made:
        yield made


def asked(application: Core, estate: FakeEstate) -> list[str]:
    """Return the regions that sealing anew asks, in order."""
    application.read_overrides()
    estate.calls.clear()
    application.encrypt(b"x", purpose="general", context={"number": str(estate.clock.monotonic())})
    return estate.asked()


def test_the_application_leaves_and_comes_back(
    application: Core, estate: FakeEstate, clock: ManualClock, settings: Settings, tmp_path: Path
) -> None:
    """From its next reading until the time is over; last is not never, when no other answers."""
    store, now_utc = FileStore(tmp_path / "overrides.json"), clock.now_utc()

    before = asked(application, estate)
    evacuate.evacuate(settings, store, order(at=now_utc), now_utc, yes=True)
    during = asked(application, estate)
    shown = set(evacuation.evacuated(application.overrides()))
    estate.fail("ConnectionRefused", regions=[WEST, EUROPE])
    alone = asked(application, estate)
    estate.fail(None)
    clock.advance(3600)
    ended = evacuation.evacuated(application.overrides())  # before anybody reads anew
    after = asked(application, estate)

    assert (before, during) == ([EAST], [WEST])
    assert (shown, ended, application.overrides()) == ({EAST}, {}, ())
    assert (alone[-1], len(alone)) == (EAST, 3)
    assert after == [EAST]


def test_evacuate_and_return_by_command(run: Callable[..., Result], tmp_path: Path) -> None:
    """What is written, what is said on both streams, and that `return` takes the order back."""
    left = run("evacuate", EAST, "--for", "30m", "--reason", "INC-7", "--by", "ann", "--yes")
    (written,) = FileOverrides(tmp_path / "overrides.json").read()
    listed = run("evacuate", "--list")
    back = run("return", EAST)
    again = run("return", EAST)

    assert (left.exit_code, listed.exit_code, back.exit_code, again.exit_code) == (0, 0, 0, 0)
    assert (written.region, written.kind, written.reason[:14]) == (EAST, "avoid", "INC-7 (by ann ")
    assert left.stdout.startswith(f"{EAST} is asked last until ")
    assert json.loads(left.stderr)["event"] == "region.evacuated"
    assert listed.stdout.startswith(f"avoid {EAST} until ")
    assert back.stdout.startswith(f"removed: avoid {EAST} until ")
    assert json.loads(back.stderr)["event"] == "region.returned"
    assert again.stdout == f"{EAST} was not evacuated\n"
    assert FileOverrides(tmp_path / "overrides.json").read() == ()


def test_the_last_region_is_refused_by_command(run: Callable[..., Result], tmp_path: Path) -> None:
    """Exit code 4, and the file stays as it was."""
    for region in (EAST, WEST):
        assert run("evacuate", region, "--for", "1h", "--reason", "x", "--yes").exit_code == 0

    refused = run("evacuate", EUROPE, "--for", "1h", "--reason", "x", "--yes")

    assert refused.exit_code == 4
    assert refused.stderr.startswith("kms-watchdog: refused: eu-west-1 is the last region")
    assert {each.region for each in FileOverrides(tmp_path / "overrides.json").read()} == {EAST, WEST}


class Meanwhile(FileStore):
    """A file in which others write between the look and the change."""

    __slots__ = ()

    def read(self) -> Sequence[RegionOverride]:
        seen = FileStore(self.path).read()
        for region in () if seen else (WEST, EUROPE):
            FileStore(self.path).change(add(order(region)))
        return seen


def test_two_people_do_not_leave_the_last_region_together(settings: Settings, tmp_path: Path) -> None:
    """What is there when the order is written counts, not what was there when its writer looked."""
    path = tmp_path / "overrides.json"

    with pytest.raises(evacuate.Stop, match="the last region") as refused:
        evacuate.evacuate(settings, Meanwhile(path), order(), START, yes=True)

    assert refused.value.exit_code == 4
    assert {each.region for each in FileStore(path).read()} == {WEST, EUROPE}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["us-east-1", "--for", "1h", "--reason", "x"], 4, "not a terminal", id="nobody-can-confirm"),
        pytest.param(["us-east-1", "--for", "25h", "--reason", "x", "--yes"], 2, "at most 24h", id="too-long"),
        pytest.param(["us-east-1", "--for", "1", "--reason", "x", "--yes"], 2, "30m, 2h", id="no-unit"),
        pytest.param(["us-east-1", "--for", "1h", "--reason", " ", "--yes"], 2, "a reason is needed", id="no-reason"),
        pytest.param(["us-east-1", "--for", "1h", "--yes"], 2, "--reason are needed", id="reason-forgotten"),
        pytest.param(["eu-north-1", "--for", "1h", "--reason", "x", "--yes"], 2, "is not one of", id="no-such-region"),
    ],
)
def test_what_is_refused_changes_nothing(
    run: Callable[..., Result], tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    """With a reason on one line."""
    refused = run("evacuate", *arguments)

    assert refused.exit_code == code
    assert says in refused.stderr
    assert not (tmp_path / "overrides.json").exists()


def test_a_person_confirms_by_the_regions_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else changes nothing."""

    class Terminal:
        def __init__(self, typed: str) -> None:
            self.typed = typed

        def isatty(self) -> bool:
            return True

        def readline(self, *_: int) -> str:
            return self.typed + "\n"

    monkeypatch.setattr("sys.stdin", Terminal(EAST))
    evacuate.confirm(EAST)
    monkeypatch.setattr("sys.stdin", Terminal("yes"))
    with pytest.raises(evacuate.Stop) as refused:
        evacuate.confirm(EAST)

    assert refused.value.exit_code == 4


def test_without_a_place_to_write_it_says_which_setting(write_config: Callable[..., Path], quiet: None) -> None:
    """Both commands; 2."""
    config = str(write_config())

    left = CliRunner().invoke(command, ["evacuate", EAST, "--for", "1h", "--reason", "x", "--yes", "--config", config])
    back = CliRunner().invoke(command, ["return", EAST, "--config", config])

    assert (left.exit_code, back.exit_code) == (2, 2)
    assert "overrides.file or overrides.ssm_parameter is needed" in left.stderr
    assert left.stderr == back.stderr


def test_a_return_that_missed_a_region_could_not_tell(
    write_config: Callable[..., Path], quiet: None, ssm: None
) -> None:
    """3: where SSM did not answer, an order may be left until its time is over."""
    config = str(
        write_config(
            '[overrides]\nssm_parameter = "/kms/overrides"\nregions = ["us-east-1", "us-west-2"]\n'
            '[endpoints.us-east-1]\nssm = "https://127.0.0.1:1"\n'
        )
    )

    left = CliRunner().invoke(command, ["evacuate", EAST, "--for", "1h", "--reason", "x", "--yes", "--config", config])
    back = CliRunner().invoke(command, ["return", EAST, "--config", config])

    assert (left.exit_code, back.exit_code) == (0, 3)
    assert "not written to us-east-1" in left.stderr
    assert "not removed in us-east-1" in back.stderr


def test_orders_are_logged_when_they_change() -> None:
    """By the daemon, whose core reads them: who left which region, why and until when; and that one cannot be read."""
    events = (
        OverridesChanged(source="overrides.json", overrides=(order(),)),
        OverridesUnreadable(source="overrides.json", reason="not a list"),
    )

    with structlog.testing.capture_logs() as found:
        for event in events:
            LogSink().on_event(Seen(event=event, mode=Mode.LIVE, at_utc=START))

    assert found[0]["orders"] == [
        "avoid us-east-1 until 2026-01-01T01:00:00+00:00: INC-7 (by ann at 2026-01-01T00:00:00Z)"
    ]
    assert [(entry["event"], entry["log_level"]) for entry in found] == [
        ("overrides.changed", "warning"),
        ("overrides.unreadable", "error"),
    ]


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ('file = "x.toml"', "must be JSON"),
        ('file = "x.json"\nssm_parameter = "/x"', "not both"),
        ('regions = ["us-east-1"]', "ssm_parameter, which is missing"),
        ('ssm_parameter = "x"', "a parameter's name"),
    ],
)
def test_a_place_that_cannot_be_is_a_configuration_error(
    write_config: Callable[..., Path], section: str, says: str, quiet: None
) -> None:
    """Found at the start, not in the outage."""
    refused = CliRunner().invoke(
        command, ["evacuate", "--list", "--config", str(write_config(f"[overrides]\n{section}\n"))]
    )

    assert refused.exit_code == 2
    assert says in refused.stderr

"""What befalls a watchdog: the second daemon, mostly, which may be harmed while the first one looks on."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from alarm_path import Fires, Page, Situation, Stand, wait_for
from alarm_path_interposed import refuses_metrics

OTHERS = r"(?s).*"
"""What any answer is: that command looks at other alarms, which may fire or not."""


def _broken(stand: Stand) -> None:
    config = stand.second.config
    stand.kept["config"] = config.read_text(encoding="utf-8")
    config.write_text(stand.kept["config"].replace("[canaries]", "[canarys]"), encoding="utf-8")
    stand.second.signal(signal.SIGHUP)


def _as_before(stand: Stand) -> None:
    stand.second.config.write_text(stand.kept["config"], encoding="utf-8")


def _as_before_and_told(stand: Stand) -> None:
    _as_before(stand)
    stand.second.signal(signal.SIGHUP)


RELOAD = Situation(
    name="SIGHUP with a broken configuration",
    second=True,
    plant=_broken,
    fires=(Fires(row="ReloadFailed"),),
    pages=(
        Page(
            name="reload-failed.md",
            shows=(r"canarys", r"status|canarys", r"123456789012"),
            fix=("kill -HUP",),
            over=("curl -s http://127.0.0.1:9464/metrics",),
        ),
    ),
    by_hand=_as_before,
    mend=_as_before_and_told,
)


def _switch(status: int) -> Callable[[Stand], None]:
    def answer(stand: Stand) -> None:
        stand.switch.status = status

    return answer


DEADMAN = Situation(
    name="the dead man's switch refuses",
    second=True,
    plant=_switch(404),
    fires=(Fires(row="DeadmanFailing", labels={"result": "refused"}),),
    pages=(
        Page(
            name="deadman-failing.md",
            shows=(r"status\t", r'deadman_pings_total\{result="refused"\} [1-9]', r"HeartbeatMissing-\S+\s+OK"),
        ),
    ),
    mend=_switch(200),
)


def _collector(status: int) -> Callable[[Stand], None]:
    def answer(stand: Stand) -> None:
        stand.collector.status = status

    return answer


EXPORT = Situation(
    name="the collector of OpenTelemetry refuses",
    second=True,
    plant=_collector(400),
    fires=(Fires(row="ExportFailing"),),
    pages=(
        Page(
            name="export-failing.md",
            shows=(r'result="failure"\} [1-9]', r'endpoint = "http://127\.0\.0\.1:\d+/v1/metrics"', OTHERS),
        ),
    ),
    mend=_collector(200),
)


def _dark(region: str, *, dark: bool) -> Callable[[Stand], None]:
    def interpose(stand: Stand) -> None:
        stand.bench_doors[region].dark = dark

    return interpose


PUBLISH = Situation(
    name="CloudWatch does not answer",
    second=True,
    plant=_dark("us-west-2", dark=True),
    fires=(Fires(row="PublishFailing", labels={"region": "us-west-2"}),),
    pages=(
        Page(
            name="publish-failing.md",
            put=lambda _: {"--region us-east-1": "--region us-west-2"},
            shows=(r'publish_total\{region="us-west-2",result="unreachable"\} [1-9]', r"status\t", r"(?i)connect"),
        ),
    ),
    mend=_dark("us-west-2", dark=False),
)


def _refuses(stand: Stand) -> None:
    stand.bench_doors["us-east-1"].alter = refuses_metrics


def _takes_again(stand: Stand) -> None:
    stand.bench_doors["us-east-1"].alter = None


DROPPED = Situation(
    name="CloudWatch refuses datums",
    second=True,
    plant=_refuses,
    fires=(Fires(row="DatumsDropped", labels={"region": "us-east-1", "reason": "refused"}),),
    pages=(
        Page(
            name="datums-dropped.md",
            shows=(
                r'datums_dropped_total\{.*"refused".*\} [1-9]',
                r"Filesystem",
                r"HeartbeatMissing-\S+\s+\w+",
            ),
        ),
    ),
    mend=_takes_again,
)


def _delete_an_alarm(stand: Stand) -> None:
    name = "ParkerFlight-KMS-KeyUnusable-us-east-1-general"
    stand.client("cloudwatch", "us-east-1").delete_alarms(AlarmNames=[name])


ALARM_PATH = Situation(
    name="an alarm is deleted",
    plant=_delete_an_alarm,
    fires=(Fires(row="AlarmPathBroken", labels={"region": "us-east-1"}),),
    pages=(
        Page(
            name="alarm-path-broken.md",
            shows=(
                r"alarm_path\tus-east-1\t.*alarm_missing.*KeyUnusable-us-east-1-general",
                r"us-east-1 +create +ParkerFlight-KMS-KeyUnusable-us-east-1-general",
                r"http\s+http://127\.0\.0\.1",
            ),
            fix=("kms-alarms apply",),
            over=("kms-alarms plan", "kms-watchdog once --canary alarm_path"),
        ),
    ),
)


def _torn(stand: Stand) -> None:
    (stand.second.config.parent / "overrides.json").write_text('{"overrides": [{"reg', encoding="utf-8")


def _whole(stand: Stand) -> None:
    (stand.second.config.parent / "overrides.json").write_text('{"overrides": []}', encoding="utf-8")


OVERRIDES = Situation(
    name="the overrides' file is torn",
    second=True,
    plant=_torn,
    fires=(Fires(row="OverridesUnreadable"),),
    pages=(
        Page(
            name="overrides-unreadable.md",
            shows=(r"not a list of overrides", r"overrides.*file", None),
            over=("kms-watchdog evacuate --list",),
        ),
    ),
    by_hand=_whole,
    mend=_whole,
)


def _evacuate(stand: Stand) -> None:
    shell = stand.shells[True].sitting("evacuates")
    ran = shell.run('kms-watchdog evacuate us-west-2 --for 1h --reason "INC-7: for a test"', {}, "us-west-2")
    assert ran.exit_code == 0, str(ran)


EVACUATED = Situation(
    name="a region is evacuated",
    second=True,
    plant=_evacuate,
    fires=(Fires(row="RegionEvacuated", labels={"region": "us-west-2"}),),
    pages=(
        Page(
            name="region-evacuated.md",
            put=lambda _: {"us-east-1": "us-west-2"},
            shows=(r"avoid us-west-2 until .* INC-7: for a test \(by ", OTHERS, r"Enabled"),
            fix=("kms-watchdog return us-east-1",),
            over=("kms-watchdog evacuate --list",),
        ),
    ),
)


def _hang(stand: Stand) -> None:
    """Put a pipe in the place of a file that a canary reads: whoever opens it waits for somebody who writes."""
    path = _definitions(stand)
    stand.kept["definitions"] = path.read_text(encoding="utf-8")
    path.unlink()
    os.mkfifo(path)


def _let_go(stand: Stand) -> None:
    path = _definitions(stand)
    if path.is_fifo():
        path.unlink()
        path.write_text(stand.kept["definitions"], encoding="utf-8")


def _definitions(stand: Stand) -> Path:
    return stand.second.config.parent / "alarms" / "us-east-1.json"


def _start_anew(stand: Stand) -> None:
    _let_go(stand)
    stand.second.end()
    stand.second.start()


HANGS = Situation(
    name="a canary that hangs is not looked at any more",
    second=True,
    plant=_hang,
    fires=(
        Fires(row="CanaryStale", labels={"canary": "alarm_path", "region": "us-east-1"}),
        Fires(row="JobsFail", labels={"exported_job": "canary.alarm_path"}),
    ),
    pages=(
        Page(
            name="jobs-fail.md",
            shows=(r'canary\.alarm_path",result="skipped_overlap"\} [1-9]', r"alarm_path", OTHERS),
        ),
        Page(
            name="canary-stale.md",
            put=lambda _: {"--since 10m": "--since 20s", "KIND": "alarm_path"},
            shows=(
                r"reason\tstale:alarm_path:us-east-1",
                r'canary\.alarm_path",result="skipped_overlap"\} [1-9]',
                r"HeartbeatMissing-\S+\s+\w+",
            ),
            fix=("kms-watchdog status --json", _start_anew),
            over=("kms-watchdog history --since 10m --canary KIND --all",),
        ),
    ),
    mend=_let_go,
)


def _set_on_by_an_hour(stand: Stand) -> None:
    """Start the daemon where the time of day is somebody's word, and change that word."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    assert library is not None, "no libfaketime here: Debian has it in the package faketime"
    word = stand.second.config.parent / "offset"
    word.write_text("+0", encoding="utf-8")
    stand.second.end()
    stand.second.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(word),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
    stand.second.start()
    wait_for(lambda: stand.scraped(stand.second, times=3), says="Prometheus knows it before its clock jumps")
    word.write_text("+3600", encoding="utf-8")


def _true_time(stand: Stand) -> None:
    for name in [name for name in stand.second.environment if name.startswith(("FAKETIME", "LD_PRELOAD"))]:
        del stand.second.environment[name]
    stand.second.end()
    stand.second.start()


STEPPED = Situation(
    name="the clock is set on by an hour",
    second=True,
    plant=_set_on_by_an_hour,
    fires=(Fires(row="ClockStepped"),),
    pages=(Page(name="clock-stepped.md", shows=(r"OK clock_offset us-east-1", None, r"arn:aws:")),),
    mend=_true_time,
)


def _no_room(stand: Stand) -> None:
    """Let no file of that daemon grow beyond a page: what a disk is like that is full."""
    assert stand.second.process is not None
    _, hard = resource.prlimit(stand.second.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(stand.second.process.pid, resource.RLIMIT_FSIZE, (4096, hard))


def _room(stand: Stand) -> None:
    assert stand.second.process is not None
    _, hard = resource.prlimit(stand.second.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(stand.second.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


FULL = Situation(
    name="the disk is full",
    second=True,
    plant=_no_room,
    fires=(Fires(row="StateWriteFailing"),),
    pages=(
        Page(
            name="state-write-failing.md",
            put=lambda _: {"--since 5m": "--since 20s"},
            shows=(r"Filesystem", r"(?s)history\.db.*status\t", r"HeartbeatMissing-\S+\s+OK"),
            over=("kms-watchdog history --all --since 5m",),
        ),
    ),
    by_hand=_room,
    mend=_room,
)


def _order(word: str, *, given: bool) -> Callable[[Stand], None]:
    def say(stand: Stand) -> None:
        path = stand.second.config.parent / word
        path.touch() if given else path.unlink(missing_ok=True)

    return say


STALLED = Situation(
    name="the scheduler's thread is held",
    second=True,
    plant=_order("hold", given=True),
    fires=(Fires(row="SchedulerStalled"),),
    pages=(
        Page(
            name="scheduler-stalled.md",
            shows=(r"503", r"kms_watchdog_scheduler_heartbeat_timestamp_seconds \d", r"HeartbeatMissing-\S+\s+\w+"),
            fix=("curl -s http://127.0.0.1:9464/metrics > metrics-at-stall.txt", _order("hold", given=False)),
            over=("kms-watchdog healthcheck",),
        ),
    ),
    mend=_order("hold", given=False),
)

FAILING = Situation(
    name="the scheduler's cycles raise",
    second=True,
    plant=_order("fail", given=True),
    fires=(Fires(row="SchedulerFails"),),
    pages=(
        Page(
            name="scheduler-fails.md",
            shows=(r"503|200", r"kms_watchdog_scheduler_failed_cycles [1-9]", r"HeartbeatMissing-\S+\s+\w+"),
            fix=("curl -s http://127.0.0.1:9464/metrics > metrics.txt", _order("fail", given=False)),
        ),
    ),
    mend=_order("fail", given=False),
)


def _killed(stand: Stand) -> None:
    stand.first.end(signal.SIGKILL)


def _started(stand: Stand) -> None:
    if stand.first.process is None:
        stand.first.start()


KILLED = Situation(
    name="the daemon is killed",
    plant=_killed,
    fires=(
        Fires(row="WatchdogDown"),
        Fires(row="HeartbeatMissing", member=("local-us-east-1",)),
    ),
    pages=(
        Page(
            name="watchdog-down.md",
            shows=(r"no answer", r"no answer|no daemon", r"HeartbeatMissing-\S+\s+ALARM"),
            over=("kms-watchdog status",),
        ),
        Page(
            name="heartbeat-missing.md",
            shows=(r"no answer|no daemon", r"^$", r"(?s)HeartbeatMissing-\S+\s+ALARM.*HeartbeatMissing-\S+\s+ALARM"),
        ),
    ),
    by_hand=_started,
    mend=_started,
)
"""It is started the way the platform does, which no page can print."""

"""A drill, its healer and its archive, killed at every site, with the Toxiproxy that each crash leaves behind."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from click.testing import CliRunner
from crash_disk import tree_of
from crash_sites import Crash
from crash_strace import traced
from crash_trace import Op
from daemon_kit import KEYS_ALONE, serving
from drill_lane import Lane, lane
from killed_drills import DRILL, LOOKS, MORE, make_alarms

from kms_chaos.cli import cli
from kms_chaos.judge import judge
from kms_chaos.lease_file import FileLease
from kms_core.clock import SystemClock
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.verdict import Verdict

RUN_ID = "000-crash"
ARCHIVE = "evidence.zip"
PROBE = "kmswd-probe."
"""What a guard makes for a moment to see that Toxiproxy leads to KMS; one that is left harms nobody, and the next drill
deletes it (`guards.place`)."""
SHORTER = {
    "operations_per_second = 10.0": "operations_per_second = 8.0",
    "hold_at_most_seconds = 20": "hold_at_most_seconds = 8",
    "rto_seconds = 60.0": "rto_seconds = 20.0",
}
"""Enough for a verdict, with few lines, also on a slow machine: each batch of them is a site."""
FAULTS = """
[[faults]]
kind = "latency"
latency_ms = 400
ramp_seconds = 1.0
for_seconds = 2.5
[[faults]]
kind = "refused"
region = "us-west-2"
after_seconds = 0.5
"""
"""A toxic that is changed and ends before its drill does, and a proxy that is shut until then, in two regions."""


@dataclass(kw_only=True)
class Ground:
    """Where a drill is traced, and what its crashes leave is healed: in the same folder, for it keeps paths."""

    lane: Lane
    logs: Path
    asked: list[Op] = field(default_factory=list)
    """What made Toxiproxy what it is when a traced run begins."""
    made_again: set[int] = field(default_factory=set)
    """Of crashed archives: what was there when one was made again."""

    @property
    def folder(self) -> Path:
        """The folder that is traced: configuration, state folder and store."""
        return self.lane.config.parent

    @property
    def run(self) -> DrillFolder:
        return self.lane.run_folder(RUN_ID)

    def traced(self, name: str, *arguments: str) -> tuple[list[Op], int]:
        """Run one of our commands to its end; return what it did here, and its exit code."""
        port = urlsplit(self.lane.api.url).port or 0
        return traced(
            ["-m", *arguments, "--config", str(self.lane.config)],
            self.folder,
            log=self.logs / f"{name}.strace",
            lines=self.logs / f"{name}.lines",
            ports=[port],
            environment=self.lane.environment,
        )

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run one of ours in this process; return exit code and output."""
        done = CliRunner().invoke(cli, [*arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    def ask_again(self, requests: Sequence[Op]) -> None:
        """Make Toxiproxy what these requests make of it, one after the other."""
        for name in self.ours():
            with suppress(ValueError):  # its answer is empty
                self.lane.ask("DELETE", f"/proxies/{name}")
        for request in still_seen(requests):
            with suppress(HTTPError, ValueError):  # it may have been refused before, too; an answer may be empty
                self.lane.ask(request.method, request.path, json.loads(request.content or b"null"))

    def ours(self) -> set[str]:
        """Return the proxies that are not strangers'."""
        return set(self.lane.proxies()) - set(self.lane.strangers)


def still_seen(requests: Sequence[Op]) -> list[Op]:
    """Return those whose effect can still be seen: with a proxy that was deleted all is gone that was done to it."""
    seen: list[Op] = []
    for request in requests:
        seen.append(request)
        if request.method == "DELETE" and request.path.count("/") == 2:
            seen = [one for one in seen if _proxy_of(one) != _proxy_of(request)]
    return seen


def _proxy_of(request: Op) -> str:
    """Return which proxy a request is about: it is in the path, or in the body of one that makes it."""
    parts = request.path.strip("/").split("/")
    return str(unquote(parts[1]) if len(parts) > 1 else json.loads(request.content)["name"])


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Serve AWS and Toxiproxy, with keys and one alarm, for one lane of drills."""
    with ExitStack() as stack:
        cloud = stack.enter_context(serving(folder / "aws"))
        config = cloud.config(folder / "lane", MORE, prefix="crash", interval_seconds=60.0, kinds=LOOKS)
        done = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
        assert done.returncode == 0, done.stderr
        make_alarms(cloud, config)
        drill = DRILL.format(faults=FAULTS)
        for before, after in SHORTER.items():
            assert before in drill
            drill = drill.replace(before, after)
        (config.parent / "drill.toml").write_text(drill, encoding="utf-8")
        made = stack.enter_context(lane(config, cloud.environment, real=False))
        (folder / "logs").mkdir()
        environment = {name: value for name, value in cloud.environment.items() if name.startswith("AWS_")}
        kept = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)  # for the commands in this process
        stack.callback(_put_back, kept)
        yield Ground(lane=made, logs=folder / "logs")


def _put_back(kept: dict[str, str | None]) -> None:
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def look(here: Ground, crash: Crash, before: bytes = b"") -> list[str]:
    """Heal what a crash left; return what is wrong before or after.

    Args:
        here: where it is.
        crash: what left it, and what Toxiproxy had been asked to do.
        before: whole lines that the journal had before the run that crashed.
    """
    here.ask_again([*here.asked, *crash.requests])
    told = list(_not_told_how_to_undo(here))
    if any(b"report: " in each for each in crash.said) and not journal.read(here.run.journal).closed:
        told.append("the verdict had been told, and the journal is open")
    lines = whole(here.run)
    if not lines.startswith(before):
        told.append("lines that were on disk are gone")
    code, output = here.command("heal", "--config", str(here.lane.config))
    if code:
        told.append(f"heal: exit code {code}: {output}")
    told += [*_left(here), *journal_is_wrong(here.run, lines), *_evidence(here)]
    once = tree_of(here.lane.state)
    code, output = here.command("heal", "--config", str(here.lane.config))
    if (code, "nothing to heal" in output) != (0, True) or tree_of(here.lane.state) != once:
        told.append(f"healed twice is not healed once: {code}, {output}")
    FileLease(here.lane.state).acquire(None)  # type: ignore[arg-type] # a folder's lease waits for nobody
    return told


def whole(where: DrillFolder) -> bytes:
    """Return a journal's whole lines."""
    raw = where.journal.read_bytes() if where.journal.exists() else b""
    return raw[: raw.rfind(b"\n") + 1]


def _not_told_how_to_undo(here: Ground) -> Iterator[str]:
    """Whatever may be at Toxiproxy, how to undo it is on disk."""
    known = {proxy.name for proxy in undo.read(here.run.undo).proxies} if here.run.undo.exists() else set()
    if unknown := {name for name in here.ours() if not name.startswith(PROBE)} - known:
        yield f"no undo record names {sorted(unknown)}"


def _left(here: Ground) -> Iterator[str]:
    """No proxy of the drill's, but for a probe that passes all on; and strangers' as they were."""
    found = here.lane.proxies()
    probes = {name: each for name, each in found.items() if name.startswith(PROBE)}
    if bad := [name for name, each in probes.items() if each["toxics"] or not each["enabled"]]:
        yield f"{bad} pass not all on"
    if {name: each for name, each in found.items() if name not in probes} != here.lane.strangers:
        yield f"Toxiproxy has {found}"


def journal_is_wrong(where: DrillFolder, lines: bytes) -> Iterator[str]:
    """Yield what is wrong with a healed journal, which had these `lines`.

    It must be closed, its chain unbroken, no line less; judged by what it says, and never held if no verdict was given.

    Raises:
        JournalError: its chain is broken.
    """
    if not where.journal.exists():
        if where.undo.exists() or lines:
            yield "there is an undo record, and no journal"
        return
    found = journal.read(where.journal)
    events = [record.event for record in found.records]
    if not found.closed or found.torn or events.count("closed") != 1:
        yield f"its journal is not closed once: {events[-4:]}, torn {found.torn!r}"
    if not where.journal.read_bytes().startswith(lines):
        yield "healing took lines away"
    if "fault-injected" in events and "undo-recorded" not in events[: events.index("fault-injected")]:
        yield "a fault is in the journal, and before it no undo record"
    said = [record.fields["verdict"] for record in found.records if record.event == "verdict"]
    judged = judge(found).verdict
    if [judged] != said and (said or judged is Verdict.HELD):
        yield f"judged {judged}, its journal said {said}"
    if where.verdict.exists() != bool(said):
        yield f"verdict.json is there: {where.verdict.exists()}, its journal said {said}"


def _evidence(here: Ground) -> Iterator[str]:
    """Whole and signed, in the state folder and in the store."""
    if not here.run.journal.exists():
        return
    kept = here.lane.store / "runs" / RUN_ID
    for path in (here.run.journal, here.run.signature, here.run.manifest):
        if not path.exists() or not (kept / path.name).exists() or (kept / path.name).read_bytes() != path.read_bytes():
            yield f"{path.name} is not in the store as it is here"
    key = str(here.folder / "public.pem")
    code, output = here.command("verify", str(here.lane.store), "--public-key", key, "--json")
    if code:
        bad = [each for each in json.loads(output)["findings"] if each["result"] != "good"]
        yield f"verify: exit code {code}: {bad}"


def look_at_archive(here: Ground, crash: Crash, old: bytes) -> list[str]:
    """See that the archive is the old one, or the new one whole; made again, it is.

    To make one takes seconds, and a draft is written from its start: it is made again once for what there is by name.
    """
    path, told = here.folder / ARCHIVE, []
    content = path.read_bytes() if path.exists() else b""
    if content != old and not _is_whole(path):
        told.append("the archive is neither the old one nor a whole one")
    if crash.said and content == old:
        told.append("it had been told that the archive is made")
    seen = hash((content, *sorted(each.name for each in here.folder.iterdir())))
    if seen in here.made_again:
        return told
    here.made_again.add(seen)
    arguments = ("--period", f"{SystemClock().now_utc():%Y}", "--output", str(path))
    code, output = here.command("evidence", "archive", *arguments, "--config", str(here.lane.config))
    if code or not _is_whole(path):
        told.append(f"made again: exit code {code}: {output}")
    if drafts := [each.name for each in here.folder.glob(".*")]:
        told.append(f"left behind: {drafts}")
    return told


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as found:
            return found.testzip() is None and "manifest.json" in found.namelist()
    except (OSError, zipfile.BadZipFile):
        return False

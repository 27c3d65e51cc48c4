"""Where drills are killed one after the other: a state folder, a store, and a Toxiproxy with strangers' proxies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from counting_api import CountingApi
from daemon_answer import all_well
from evidence_kit import private_key_file
from kill_instants import LEASE, AtRequest, Instant, Progress, Whole
from waiting import wait_until

from kms_chaos.evidence.signing import FileSigner
from kms_core.clock import SystemClock
from kms_watchdog.config import load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folder

SECONDS = 240.0
"""More than any drill here takes on a slow machine."""
_STRANGERS = (
    ("POST", "/proxies", {"name": "theirs", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True}),
    ("POST", "/proxies/theirs/toxics", {"name": "slow", "type": "latency", "attributes": {"latency": 5, "jitter": 0}}),
    ("POST", "/proxies", {"name": "shut", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True}),
    ("POST", "/proxies/shut", {"enabled": False}),
)
"""One that is in use, with a toxic of its owner's; one that its owner has switched off."""


@dataclass(kw_only=True)
class Lane:
    """One drill at a time; lanes do not know of each other."""

    config: Path
    environment: Mapping[str, str]
    api: CountingApi
    toxiproxy: str
    make: str
    """Which Toxiproxy: embedded or real."""
    well: str
    """Where somebody answers as a daemon does that is well."""
    strangers: Mapping[str, Any] = field(default_factory=dict)
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.config.parent / "state"

    @property
    def store(self) -> Path:
        return self.config.parent / "kept"

    @property
    def log(self) -> Path:
        return self.config.parent / "log.txt"

    def run_folder(self, run_id: str) -> DrillFolder:
        return folder(self.state, run_id)

    def proxies(self) -> dict[str, Any]:
        """Return what the server has, past the counting door."""
        found: dict[str, Any] = self.ask("GET", "/proxies")
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.toxiproxy}{path}", data, {"Content-Type": "application/json"})  # noqa: S310 - our own
        request.method = method
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments, "--config", str(self.config)],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def live(self, drill: Path, run_id: str) -> tuple[Whole, int]:
        """Let a drill live to its end; return what its life was, and its exit code."""
        self.api.watch()
        now = Progress(self.state, run_id)
        process = self._drill(drill, run_id)
        wait_until(lambda: now.look() and process.poll() is not None, says=f"{run_id} ends", seconds=SECONDS)
        return Whole(seconds=now.seconds, lines=dict(now.look().lines), requests=self.api.requests), process.wait()

    def kill(self, drill: Path, run_id: str, instant: Instant, whole: Whole) -> tuple[bool, str]:
        """Start a drill and kill it then; return whether it lived until then, and how far it had come."""
        now = Progress(self.state, run_id)
        process = self._drill(drill, run_id)

        def end() -> None:
            process.kill()
            process.wait()

        if isinstance(instant, AtRequest):
            self.api.watch(end, at=instant.number(whole), moment=instant.moment)
        else:
            self.api.watch()
        wait_until(
            lambda: process.poll() is not None or instant.reached(now.look(), whole),
            says=f"{run_id} comes to {instant}",
            seconds=SECONDS,
        )
        end()
        self.api.watch()
        return process.returncode == -signal.SIGKILL, now.look().section

    def _drill(self, drill: Path, run_id: str) -> subprocess.Popen[bytes]:
        return self.start("kms_chaos", "run", str(drill), "--run-id", run_id, "--arm")

    def heal(self) -> int:
        """Run `kms-chaos heal` to its end."""
        return self.start("kms_chaos", "heal").wait(SECONDS)

    def say_all_is_well(self) -> None:
        """Name somebody in the state folder who says that he is a daemon and that all is well."""
        (self.state / "http.json").write_text(json.dumps({"url": self.well}), encoding="utf-8")

    def start_daemon(self) -> None:
        """Start a real one; the drills' guards go on asking the other."""
        named = self.state / "http.json"
        named.unlink()
        self.daemon = self.start("kms_watchdog", "run")
        wait_until(lambda: named.exists() or self._daemon_ended(), says="the daemon listens", seconds=SECONDS)
        assert not self._daemon_ended(), self.log.read_text()[-2000:]
        self.say_all_is_well()

    def _daemon_ended(self) -> bool:
        return self.daemon is not None and self.daemon.poll() is not None

    def stop_daemon(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(SECONDS)
            self.daemon = None
            self.say_all_is_well()

    def is_finished(self, run_id: str) -> bool:
        """Whether a healer has nothing more to do for this run."""
        where = self.run_folder(run_id)
        return not where.journal.exists() or journal.read(where.journal).closed

    def let_the_lease_run_out(self) -> None:
        """Set a note's time back if it is of a run that died before it had a folder: nobody else can tell of that run.

        The next drill waits for that time, at the longest (`guards.admission`); here nobody does.
        """
        path = self.state / "drills" / LEASE
        values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"fault": None}
        note = values["fault"]
        if note and not self.run_folder(note["run_id"]).path.exists():
            until = datetime.fromisoformat(note["expires_at_utc"])
            assert until < SystemClock().now_utc() + timedelta(minutes=10), "it must not block for ever"
            note["expires_at_utc"] = (until - timedelta(hours=1)).isoformat()
            path.write_text(json.dumps(values), encoding="utf-8")

    def close(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()


@contextmanager
def lane(config: Path, environment: Mapping[str, str], *, real: bool) -> Iterator[Lane]:
    """Build a lane around `config`, to which Toxiproxy's address and where evidence goes are added."""
    with ExitStack() as stack:
        key = private_key_file(config.parent)
        (config.parent / "public.pem").write_bytes(FileSigner(key).public_key())
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
        binary = [os.environ["TOXIPROXY_BIN"]] if real else [sys.executable, "-m", "kms_local", "toxiproxy"]
        toxiproxy = subprocess.Popen(
            [*binary, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(toxiproxy.wait)
        stack.callback(toxiproxy.kill)
        api = CountingApi(("127.0.0.1", port))
        stack.callback(api.close)
        with config.open("a", encoding="utf-8") as more:
            more.write(f'[drills]\ntoxiproxy_url = "{api.url}"\ncheck_seconds = 0.5\n')
            more.write(f'[drills.evidence]\nstore = "dir:{config.parent}/kept"\nsegment_seconds = 0.5\n')
            more.write(f'signing = {{kind = "ed25519", private_key_file = "{key}"}}\n')
        made = Lane(
            config=config,
            environment=environment,
            api=api,
            toxiproxy=f"http://127.0.0.1:{port}",
            make="real" if real else "embedded",
            well=stack.enter_context(_answering_as_a_daemon(config)),
        )
        stack.callback(made.close)
        made.state.mkdir(exist_ok=True)
        made.say_all_is_well()
        wait_until(lambda: _answers(made), says="Toxiproxy answers", seconds=SECONDS)
        for method, path, body in _STRANGERS:
            made.ask(method, path, body)
        made.strangers = made.proxies()
        yield made


def _answers(made: Lane) -> bool:
    try:
        return made.proxies() == {}
    except OSError:
        return False


@contextmanager
def _answering_as_a_daemon(config: Path) -> Iterator[str]:
    """Yield the address of one that says, as the daemon does, that it lives and all is well."""
    settings = load(config)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(all_well(settings)).encode() if self.path == "/api/v1/status" else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()

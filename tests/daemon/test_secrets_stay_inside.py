"""Nothing that is secret is ever written: not to a log, not to a file, not to anybody who asks over HTTP."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import logging
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import pytest
import structlog
from click.testing import CliRunner, Result
from daemon_kit import KEYS_ALONE, REGIONS, LocalCloud
from waiting import wait_until

from kms_core import Core
from kms_core.kms import GeneratedKey, UnwrappedKey
from kms_core.testing import FakeEstate, FakeKms, InlineLane, ManualClock
from kms_watchdog import logs, runner
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command
from kms_watchdog.config import Log, Settings, load
from kms_watchdog.results import CanaryResult, Outcome
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.log import LogSink
from kms_watchdog.sinks.sink import LiveEvents

SEALING = ("round_trip", "cross_region", "failover_path", "golden", "must_fail_core", "must_fail_kms")
"""The kinds that have plaintext and data keys in their hands."""


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Return how bytes may look when they leak: raw, hex, base64 of either alphabet, Python's and JSON's escapes.

    A part is as bad as the whole, so it is the beginning that is looked for.
    """
    head = secret[:24]
    return (
        head,
        head.hex().encode(),
        head.hex().upper().encode(),
        base64.b64encode(head),
        base64.urlsafe_b64encode(head),
        repr(head)[2:-1].encode(),
        json.dumps(head.decode("latin-1"))[1:-1].encode(),
        quote(head).encode(),
    )


def found_in(texts: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> list[str]:
    """Return which secret is where."""
    return [
        f"{name} in {where}"
        for name, secret in secrets.items()
        for where, text in texts.items()
        if any(form in text for form in forms(secret))
    ]


class Leaky:
    """A region's KMS whose data keys are known."""

    def __init__(self, inner: FakeKms, seen: dict[str, bytes]) -> None:
        self._inner, self._seen = inner, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def generate_data_key(self, key_arn: str, context: Mapping[str, str]) -> GeneratedKey:
        made = self._inner.generate_data_key(key_arn, context)
        self._seen[f"data key {len(self._seen)}"] = bytes(made.plaintext)
        return made

    def decrypt(self, wrapped: bytes, key_arn: str, context: Mapping[str, str]) -> UnwrappedKey:
        opened = self._inner.decrypt(wrapped, key_arn, context)
        self._seen[f"data key {len(self._seen)}"] = bytes(opened.plaintext)
        return opened


@dataclasses.dataclass
class Bench:
    """The sealing canaries over a fake estate whose secrets are all known."""

    settings: Settings
    estate: FakeEstate
    clock: ManualClock
    secrets: dict[str, bytes]
    rng: random.Random = dataclasses.field(default_factory=lambda: random.Random(7))

    def entropy(self, length: int) -> bytes:
        """Give random bytes, and remember them."""
        made = self.rng.randbytes(length)
        self.secrets[f"plaintext {len(self.secrets)}"] = made
        return made

    def canaries(self, ports: Ports) -> list[Canary]:
        return [dataclasses.replace(cast("Any", each), entropy=self.entropy) for each in live_canaries(ports)]


@pytest.fixture
def bench(write_config: Callable[..., Path], estate: FakeEstate, clock: ManualClock) -> Bench:
    nowhere = "".join(f'[endpoints.{region}]\nkms = "https://127.0.0.1:1"\n' for region in REGIONS)
    settings = load(write_config(f"[canaries]\nkinds = {json.dumps(SEALING)}\n{nowhere}"))
    settings.state.dir.mkdir()
    return Bench(settings, estate, clock, {})


@pytest.fixture
def quiet() -> Iterator[None]:
    """Put the logging back."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["json", "console"])
def test_neither_plaintext_nor_data_keys_leave_the_canaries(
    bench: Bench, quiet: None, capfd: pytest.CaptureFixture[str], form: Any
) -> None:
    """In good days, with every kind of failure KMS has, and when a canary crashes with them in its hands."""
    logs.configure(Log(format=form, level="debug"), bench.clock)
    history, log = HistorySink(bench.settings.state.dir / "history.db", bench.clock), LogSink()
    ports = Ports(bench.settings, bench.clock, owns_state=True)
    results: list[CanaryResult] = []
    with Core(
        bench.settings.core_config(),
        observer=LiveEvents((history, log), bench.clock),
        clock=bench.clock,
        connect=lambda region: Leaky(bench.estate[region], bench.secrets),
        lane=lambda _: InlineLane(bench.clock),
    ) as core:
        canaries = bench.canaries(ports)
        for fault in (None, "AccessDeniedException", "ReadTimeout", "InvalidCiphertextException", None):
            bench.estate.fail(fault)
            results += [runner.run(canary, core, bench.clock, sinks=(history, log)) for canary in canaries]
        bad = [Crashing(canary) for canary in canaries]
        results += [runner.run(canary, core, bench.clock, sinks=(history, log)) for canary in bad]
    history.close()
    ports.close()

    told = {"stderr": capfd.readouterr().err.encode(), "results": "".join(map(repr, results)).encode()}
    assert {result.outcome for result in results} == set(Outcome)
    assert len(bench.secrets) > 50
    assert "canary.crashed" in told["stderr"].decode()
    assert found_in(told | files_under(bench.settings.state.dir), bench.secrets) == []


@dataclasses.dataclass
class Crashing:
    """A canary with a mistake in it: it falls while it holds a plaintext."""

    inner: Canary

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, core: Core, clock: ManualClock) -> CanaryResult:
        plaintext = cast("Any", self.inner).entropy(64)
        core.encrypt(plaintext, purpose="general", context={"canary": "true"})
        raise RuntimeError(f"a mistake, {len(plaintext)} bytes in hand")


def test_the_search_finds_what_leaks() -> None:
    """Else an empty answer would prove nothing."""
    secret = random.Random(1).randbytes(32)

    for form in (secret, secret.hex().encode(), base64.b64encode(secret), repr(secret).encode()):
        assert found_in({"log": b"x" + form + b"y"}, {"key": secret}) == ["key in log"]
    assert found_in({"log": b"nothing"}, {"key": secret}) == []


class Asking:
    """Asks a running daemon everything there is to ask, as a stranger, as somebody known, and with a wrong token."""

    def __init__(self, url: str, token: str) -> None:
        self._address, self._token = urlsplit(url), token

    def all(self) -> dict[str, bytes]:
        paths = ("/", "/fragment", "/metrics", "/health", "/livez", "/readyz", "/api/v1/status", "/login", "/none")
        heads = {
            "stranger": {},
            "known": {"Authorization": f"Bearer {self._token}"},
            "wrong": {"Authorization": "Bearer x"},
        }
        told = {f"GET {path} {who}": self._ask("GET", path, head) for path in paths for who, head in heads.items()}
        run = "/api/v1/canaries/round_trip:us-east-1:general/run"
        return told | {f"POST {who}": self._ask("POST", run, head) for who, head in heads.items()}

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        with closing(http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=10)) as c:
            c.request(method, path, headers=dict(headers))
            answer = c.getresponse()
            return str(answer.headers).encode() + answer.read()


SECRETS = {
    "http token": "tokentokentoken-0123456789-abcdefghij",
    "deadman": "deadman-secret-path-0123456789",
    "push password": "push-password-0123456789",
    "session token": "session-token-0123456789/abc+def==",
}


@pytest.fixture
def daemon(cloud: LocalCloud, tmp_path: Path, quiet: None) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    """A daemon at its most talkative, with every secret a configuration can hold; and its configuration."""
    config = cloud.config(
        tmp_path / "run",
        f'[health]\ndeadman_url = "http://127.0.0.1:1/{SECRETS["deadman"]}"\n'
        '[log]\nlevel = "debug"\nformat = "json"\n[overrides]\nfile = "../overrides.json"\n',
        prefix="secrets",
    )
    listen = 'listen = "127.0.0.1:0"'
    config.write_text(config.read_text().replace(listen, f'{listen}\ntoken = "{SECRETS["http token"]}"'))
    assert cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config).returncode == 0
    assert run_here("evacuate", config, "us-west-2", "--for", "1h", "--reason", "INC-7", "--yes").exit_code == 0
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "kms_watchdog", "run", "--config", str(config)],
            env={**cloud.environment, "KMS_WATCHDOG__PROMETHEUS__PUSH_URL": push_url()},
            stdout=out,
            stderr=err,
        )
    yield process, config, tmp_path
    process.kill()
    process.wait(10)


def run_here(name: str, config: Path, *arguments: str) -> Result:
    """Run a command in this process: it needs no credentials."""
    return CliRunner().invoke(command, [name, *arguments, "--config", str(config)])


def push_url() -> str:
    return f"http://pusher:{SECRETS['push password']}@127.0.0.1:1"


@pytest.mark.slow
def test_no_secret_is_ever_written(
    daemon: tuple[subprocess.Popen[bytes], Path, Path], cloud: LocalCloud, quiet: None
) -> None:
    """By a whole run, from both streams, every file of the state and every answer to everybody; commands included.

    The daemon follows an order of `evacuate` meanwhile, and says so.
    """
    process, config, folder = daemon
    told_url = folder / "run" / "state" / "http.json"
    wait_until(lambda: told_url.exists() or process.poll() is not None, says="it listens")
    asking = Asking(json.loads(told_url.read_text())["url"], SECRETS["http token"])
    wait_until(lambda: b"daemon.ready" in (folder / "err").read_bytes(), says="it is ready")
    wait_until(lambda: b"overrides.changed" in (folder / "err").read_bytes(), says="it follows the order")
    answers = asking.all()
    ran = {name: run_here(name, config) for name in ("status", "history", "digest", "dump-config", "check-config")}
    process.send_signal(signal.SIGTERM)
    code = process.wait(15)

    texts = answers | {name: done.output.encode() for name, done in ran.items()}
    texts |= {name: raw for name, raw in files_under(folder).items() if not name.endswith("watchdog.toml")}
    secrets = {**SECRETS, "secret key": cloud.endpoints["credentials"]["aws_secret_access_key"]}
    assert code == 0
    assert ran["status"].output.startswith("status\t")
    assert b"alive" in texts["GET /livez known"]
    assert {"err", "out", "overrides.json"} <= texts.keys()
    assert found_in(texts, {name: secret.encode() for name, secret in secrets.items()}) == []


@pytest.mark.slow
def test_a_session_token_is_not_written_either(cloud: LocalCloud, tmp_path: Path) -> None:
    """One that AWS refuses is told as such, by its code alone."""
    config = cloud.config(tmp_path, prefix="daemon")
    environment = {**cloud.environment, "AWS_SESSION_TOKEN": SECRETS["session token"]}

    done = subprocess.run(
        [sys.executable, "-m", "kms_watchdog", "once", "--config", str(config)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode != 0
    assert found_in({"out": done.stdout, "err": done.stderr}, {"token": SECRETS["session token"].encode()}) == []

"""Regions as hosts of their own: network namespaces with a router each, and what can befall the way to one of them.

    client  10.77.N.1 ── 10.77.N.2  router of region N  10.78.N.1 ── 10.78.N.2  the local AWS

The namespaces have no way outward. One local AWS serves all regions, at an address of its own for each: they share
their keys' material, as multi-Region keys do, and nothing of the way to them. What befalls a way is done at its router,
so client and server see what they would see of a real one: silence, or a router's word.

Everything is named after this process; `hosts` deletes what it made, and before it begins what a dead process left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PREFIX = "kmswd"
SMALL_MTU = 600
"""Of a black hole: a request's or a certificate's packet is larger, a bare handshake's is not."""
_SECONDS = 20.0


class NetworkError(RuntimeError):
    """A command of the network's failed; the text is its own."""


def missing() -> str:
    """Return what this machine lacks for it; empty: nothing."""
    if os.geteuid() != 0:
        return "namespaces want root"
    if absent := [name for name in ("ip", "iptables") if shutil.which(name) is None]:
        return f"no {absent[0]} on PATH (Debian: iproute2, iptables)"
    name = f"{PREFIX}{os.getpid()}-try"
    try:
        run("ip", "netns", "add", name)
        try:
            run("ip", "-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
            run("ip", "netns", "exec", name, "iptables", "-A", "FORWARD", "-p", "tcp", "--syn", "-j", "DROP")
        finally:
            run("ip", "netns", "del", name)
    except NetworkError as e:
        return f"this machine makes no namespaces: {e}"
    return ""


def lacks(kind: str) -> str:
    """Return why this kernel has no queueing discipline `kind`; empty: it has it."""
    if shutil.which("tc") is None:
        return "no tc on PATH (Debian: iproute2)"
    name = f"{PREFIX}{os.getpid()}-tc"
    words = {"netem": ("delay", "1ms"), "tbf": ("rate", "1mbit", "burst", "10k", "latency", "50ms")}
    run("ip", "netns", "add", name)
    try:
        run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", kind, *words[kind])
    except NetworkError as e:
        return f"this kernel has no {kind}: {e}"
    finally:
        run("ip", "netns", "del", name)
    return ""


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace."""

    name: str

    def command(self, *argv: str) -> list[str]:
        """Return what runs `argv` there."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str) -> str:
        """Run a command there to its end, and return what it printed."""
        return run(*self.command(*argv))

    def ip(self, *argv: str) -> None:
        """Change its network."""
        run("ip", "-n", self.name, *argv)


@dataclass(frozen=True, slots=True)
class Hosts:
    """All of them, joined."""

    client: Host
    aws: Host
    routers: dict[str, Host]
    """By region."""

    def address(self, region: str) -> str:
        """Return where the local AWS is in that region, for the client."""
        return f"10.78.{self._number(region)}.2"

    def _number(self, region: str) -> int:
        return list(self.routers).index(region)

    def _client(self, region: str) -> str:
        return f"10.77.{self._number(region)}.1"

    @contextmanager
    def near_link_down(self, region: str) -> Iterator[None]:
        """The cable is out: nothing goes in either direction, and nobody says so."""
        with _until_end(self.routers[region].ip, ("link", "set", "front"), on=("down",), off=("up",)):
            yield

    @contextmanager
    def far_link_down(self, region: str) -> Iterator[None]:
        """The region is gone behind its router, which says so: network unreachable."""
        with _until_end(self.routers[region].ip, ("link", "set", "rear"), on=("down",), off=("up",)):
            yield

    @contextmanager
    def answers_lost(self, region: str) -> Iterator[None]:
        """What is sent arrives, a SYN too; what is answered does not. Open connections go silent."""
        with self._black_hole(region, self._client(region)):
            yield

    @contextmanager
    def requests_lost(self, region: str) -> Iterator[None]:
        """What is sent does not arrive; what is answered would."""
        with self._black_hole(region, self.address(region)):
            yield

    @contextmanager
    def _black_hole(self, region: str, address: str) -> Iterator[None]:
        router, hole = self.routers[region], ("blackhole", f"{address}/32")
        router.ip("route", "add", *hole)
        try:
            yield
        finally:
            router.ip("route", "del", *hole)

    @contextmanager
    def syns_lost(self, region: str) -> Iterator[None]:
        """New connections do not come about; open ones go on."""
        rule = ("FORWARD", "-p", "tcp", "--syn", "-j", "DROP")
        with self._rule(region, rule):
            yield

    @contextmanager
    def packets_lost(self, region: str, share: float) -> Iterator[None]:
        """A share of all packets is lost, in both directions; TCP sends them again."""
        rule = ("FORWARD", "-m", "statistic", "--mode", "random", "--probability", f"{share:g}", "-j", "DROP")
        with self._rule(region, rule):
            yield

    @contextmanager
    def mtu_black_hole(self, region: str) -> Iterator[None]:
        """Small packets pass, large ones do not, and the router's word about it (ICMP) is filtered: so it hangs."""
        router = self.routers[region]
        with self._rule(region, ("OUTPUT", "-p", "icmp", "-j", "DROP")):
            for end in ("front", "rear"):
                router.ip("link", "set", end, "mtu", f"{SMALL_MTU}")
            try:
                yield
            finally:
                for end in ("front", "rear"):
                    router.ip("link", "set", end, "mtu", "1500")

    @contextmanager
    def _rule(self, region: str, rule: Sequence[str]) -> Iterator[None]:
        router = self.routers[region]
        router.run("iptables", "-A", *rule)
        try:
            yield
        finally:
            router.run("iptables", "-D", *rule)

    @contextmanager
    def queue(self, region: str, *words: str) -> Iterator[None]:
        """Put a queueing discipline on what comes back from the region."""
        router = self.routers[region]
        router.run("tc", "qdisc", "add", "dev", "front", "root", *words)
        try:
            yield
        finally:
            router.run("tc", "qdisc", "del", "dev", "front", "root")


@contextmanager
def _until_end(
    change: Callable[..., None], what: Sequence[str], *, on: Sequence[str], off: Sequence[str]
) -> Iterator[None]:
    change(*what, *on)
    try:
        yield
    finally:
        change(*what, *off)


@contextmanager
def hosts(regions: Sequence[str]) -> Iterator[Hosts]:
    """Make the namespaces and join them; all is gone at the end, and whoever still runs in them."""
    sweep()
    with ExitStack() as stack:
        made = Hosts(_made(stack, "client"), _made(stack, "aws"), {region: _made(stack, region) for region in regions})
        for number, router in enumerate(made.routers.values()):
            _join(made.client, f"to{number}", router, "front", f"10.77.{number}")
            _join(router, "rear", made.aws, f"to{number}", f"10.78.{number}")
            router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            made.client.ip("route", "add", f"10.78.{number}.0/24", "via", f"10.77.{number}.2")
            made.aws.ip("route", "add", f"10.77.{number}.0/24", "via", f"10.78.{number}.1")
        yield made


def _made(stack: ExitStack, name: str) -> Host:
    host = Host(f"{PREFIX}{os.getpid()}-{name}")
    run("ip", "netns", "add", host.name)
    stack.callback(_delete, host.name)
    host.ip("link", "set", "lo", "up")
    return host


def _join(one: Host, one_end: str, other: Host, other_end: str, network: str) -> None:
    one.ip("link", "add", one_end, "type", "veth", "peer", "name", other_end, "netns", other.name)
    for number, (host, end) in enumerate(((one, one_end), (other, other_end)), start=1):
        host.ip("addr", "add", f"{network}.{number}/24", "dev", end)
        host.ip("link", "set", end, "up")


def sweep() -> list[str]:
    """Delete what a process made that is dead; return the names."""
    names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    left = [
        name
        for name in names
        if (found := re.match(rf"{PREFIX}(\d+)-", name)) and not Path(f"/proc/{found[1]}").exists()
    ]
    for name in left:
        _delete(name)
    return left


def _delete(name: str) -> None:
    """Delete a namespace of ours, and end who runs in it: a process keeps it alive, without a name."""
    for pid in run("ip", "netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", name)


def run(*argv: str) -> str:
    """Run a command of the network's to its end, and return what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(argv)}: {' '.join(done.stderr.split()) or done.returncode}")
    return done.stdout

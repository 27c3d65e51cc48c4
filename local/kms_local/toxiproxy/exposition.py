"""`/metrics`: byte counters, what runs now, and the process's own figures, in Prometheus' text format."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from kms_local.toxiproxy.proxies import Proxy
from kms_local.toxiproxy.traffic import Traffic

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
_PROC = Path("/proc/self")
_DIGITS_BEFORE_POINT = 6  # from the seventh on Go writes an exponent
_UNLIMITED = 2**64
_MEMORY_HELP = "Maximum amount of virtual memory available in bytes."

_Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """Which of the two groups is shown; byte counters are live here, not added when a connection ends."""

    proxy_metrics: bool
    runtime_metrics: bool
    traffic: Traffic

    def text(self, proxies: list[Proxy]) -> str:
        """Return the page; families stand in the order of their names."""
        lines: list[str] = []
        if self.proxy_metrics:
            lines += _now(proxies)
        if self.runtime_metrics:
            lines += _process()
        lines += _scrapes()
        if self.proxy_metrics:
            lines += self._bytes_total()
        return "\n".join(lines) + "\n"

    def _bytes_total(self) -> Iterator[str]:
        counted = [(labels._asdict(), counters) for labels, counters in self.traffic.all()]
        received: list[_Sample] = [(labels, counters.received) for labels, counters in counted]
        sent: list[_Sample] = [(labels, counters.sent) for labels, counters in counted]
        yield from _family("toxiproxy_proxy_received_bytes_total", "counter", "", received)
        yield from _family("toxiproxy_proxy_sent_bytes_total", "counter", "", sent)


def _now(proxies: list[Proxy]) -> Iterator[str]:
    """Yield what the real server does not have, under names of our own."""
    open_now: list[_Sample] = [({"proxy": proxy.name}, proxy.connections) for proxy in proxies]
    enabled: list[_Sample] = [({"proxy": proxy.name}, int(proxy.enabled)) for proxy in proxies]
    toxics: list[_Sample] = [({"proxy": proxy.name}, len(proxy.toxics())) for proxy in proxies]
    yield from _family("kms_local_proxy_connections", "gauge", "Client connections that are open.", open_now)
    yield from _family("kms_local_proxy_enabled", "gauge", "Whether the proxy listens.", enabled)
    yield from _family("kms_local_proxy_toxics", "gauge", "Toxics that the proxy has.", toxics)


def _scrapes() -> Iterator[str]:
    causes: list[_Sample] = [({"cause": "encoding"}, 0), ({"cause": "gathering"}, 0)]
    what = "Total number of internal errors encountered by the promhttp metric handler."
    yield from _family("promhttp_metric_handler_errors_total", "counter", what, causes)


def _process() -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = round(usage.ru_utime + usage.ru_stime, 2)
    cpu_help = "Total user and system CPU time spent in seconds."
    yield from _family("process_cpu_seconds_total", "counter", cpu_help, [({}, cpu)])
    descriptors = _limit(resource.RLIMIT_NOFILE)
    yield from _family("process_max_fds", "gauge", "Maximum number of open file descriptors.", [({}, descriptors)])
    if _PROC.is_dir():
        yield from _from_proc()


def _from_proc() -> Iterator[str]:
    stat = (_PROC / "stat").read_text().rpartition(")")[2].split()  # from the third field on
    started = _boot_seconds() + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    families: tuple[tuple[str, str, str, float], ...] = (
        *_octets(),
        ("open_fds", "gauge", "Number of open file descriptors.", sum(1 for _ in (_PROC / "fd").iterdir())),
        ("resident_memory_bytes", "gauge", "Resident memory size in bytes.", int(stat[21]) * resource.getpagesize()),
        ("start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", started),
        ("virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", int(stat[20])),
        ("virtual_memory_max_bytes", "gauge", _MEMORY_HELP, _limit(resource.RLIMIT_AS)),
    )
    for name, kind, what, value in families:
        yield from _family(f"process_{name}", kind, what, [({}, value)])


def _octets() -> Iterator[tuple[str, str, str, float]]:
    """Yield what went over the network, where the kernel says so."""
    try:
        lines = (_PROC / "net" / "netstat").read_text().splitlines()
    except OSError:
        return
    names, values = [line.split() for line in lines if line.startswith("IpExt:")]
    octets = dict(zip(names[1:], map(int, values[1:]), strict=False))
    for name, what, key in (("receive", "received", "InOctets"), ("transmit", "sent", "OutOctets")):
        what = f"Number of bytes {what} by the process over the network."  # noqa: PLW2901  one sentence for both
        yield f"network_{name}_bytes_total", "counter", what, octets[key]


def _boot_seconds() -> int:
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime"))


def _limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _family(name: str, kind: str, what: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """Yield a family, nothing when it has no samples."""
    for number, (labels, value) in enumerate(samples):
        if number == 0:
            yield f"# HELP {name} {what}"
            yield f"# TYPE {name} {kind}"
        shown = ",".join(f"{label}={_quoted(text)}" for label, text in labels.items())
        yield f"{name}{{{shown}}} {number_text(value)}" if shown else f"{name} {number_text(value)}"


def number_text(value: float) -> str:
    """Return a number as Go's `%g` has it: above 999999 with an exponent."""
    decimal = Decimal(repr(float(value))).normalize()
    if value == 0 or -5 < decimal.adjusted() < _DIGITS_BEFORE_POINT:  # noqa: PLR2004  Go's own borders
        return format(decimal, "f")
    mantissa, _, exponent = f"{decimal:e}".partition("e")
    return f"{mantissa}e{int(exponent):+03d}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'

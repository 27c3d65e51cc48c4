"""`/metrics`: byte counters of the proxies, and the process's own figures, in Prometheus' text format."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kms_local.toxiproxy.proxies import Proxy
from kms_local.toxiproxy.toxics import DIRECTIONS

_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposition:
    """Which of the two groups is shown; byte counters are live here, not added when a connection ends."""

    proxy_metrics: bool
    runtime_metrics: bool

    def text(self, proxies: list[Proxy]) -> str:
        """Return the page."""
        lines: list[str] = []
        if self.proxy_metrics:
            for name in ("received", "sent"):
                lines += _bytes_total(name, proxies)
        if self.runtime_metrics:
            lines += _process()
        return "\n".join(lines) + "\n"


def _bytes_total(what: str, proxies: Iterable[Proxy]) -> Iterable[str]:
    name = f"toxiproxy_proxy_{what}_bytes_total"
    yield f"# HELP {name} "
    yield f"# TYPE {name} counter"
    for proxy in proxies:
        for direction in DIRECTIONS:
            value = getattr(proxy.counters[direction], what)
            labels = {
                "direction": direction,
                "listener": proxy.listen,
                "proxy": proxy.name,
                "upstream": proxy.upstream,
            }
            yield f"{name}{{{','.join(f'{label}={_quoted(text)}' for label, text in labels.items())}}} {value}"


def _process() -> Iterable[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds."
    yield "# TYPE process_cpu_seconds_total counter"
    yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}"
    yield "# HELP process_max_resident_memory_bytes Highest resident memory size in bytes."
    yield "# TYPE process_max_resident_memory_bytes gauge"
    yield f"process_max_resident_memory_bytes {usage.ru_maxrss * 1024}"
    if _DESCRIPTORS.is_dir():
        yield "# HELP process_open_fds Number of open file descriptors."
        yield "# TYPE process_open_fds gauge"
        yield f"process_open_fds {len(list(_DESCRIPTORS.iterdir()))}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'

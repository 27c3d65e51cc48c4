"""The server's flags, read as Go's `flag` package reads them: one dash or two, `-name value` or `-name=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}
_INT64 = range(-(2**63), 2**63)
_HIDDEN = "leash-fd"


@dataclass(frozen=True, slots=True)
class _Flag:
    kind: str  # what the usage calls its value; a boolean has none
    usage: str
    default: str = ""


_FLAGS = {
    "api-token": _Flag("string", "Token that every API request must carry as 'Authorization: Bearer TOKEN'"),
    "config": _Flag("string", "JSON file containing proxies to create on startup"),
    "host": _Flag("string", "Host for the API to listen on", "localhost"),
    "leash-fd": _Flag("int", "End when this pipe ends"),
    "port": _Flag("string", "Port for the API to listen on", "8474"),
    "proxy-metrics": _Flag("", "Serve the proxies' counters at /metrics", "false"),
    "runtime-metrics": _Flag("", "Serve the process's figures at /metrics", "false"),
    "seed": _Flag("int", "Seed for every throw of the dice"),
    "version": _Flag("", "Print the version", "false"),
}


class FlagError(ValueError):
    """Arguments that are none; the text says why. `asked_for_help` is no mistake."""

    def __init__(self, message: str, *, asked_for_help: bool = False) -> None:
        super().__init__(message)
        self.asked_for_help = asked_for_help


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Return the values of the flags that were given; what stands after the first other word is not looked at.

    Raises:
        FlagError: a flag is unknown, lacks its value, or has a wrong one.
    """
    given: dict[str, str] = {}
    rest = list(arguments)
    while rest and len(rest[0]) > 1 and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        given[name] = _value(name, value if has_value else None, rest)
    return given


def is_true(given: dict[str, str], name: str) -> bool:
    """Say whether a boolean flag was given, and not as false."""
    return given.get(name, "false") in _TRUE


def integer(given: dict[str, str], name: str) -> int | None:
    """Return an integer flag, None when it was not given."""
    return int(given[name], 0) if name in given else None


def usage(program: str) -> str:
    """Return the text that `-h` prints."""
    lines = [f"Usage of {program}:"]
    for name, flag in _FLAGS.items():
        if name != _HIDDEN:
            default = {"": f' (default "{flag.default}")', "string": f' (default "{flag.default}")'}.get(flag.kind, "")
            lines += [f"  -{name} {flag.kind}".rstrip(), f"    \t{flag.usage}{default if flag.default else ''}"]
    return "\n".join(lines) + "\n"


def _value(name: str, value: str | None, rest: list[str]) -> str:
    flag = _FLAGS.get(name)
    if flag is None:
        if name in {"h", "help"}:
            raise FlagError("", asked_for_help=True)
        raise FlagError(f"flag provided but not defined: -{name}")
    if not flag.kind:
        if value is not None and value not in _TRUE | _FALSE:
            raise FlagError(f'invalid boolean value "{value}" for -{name}: parse error')
        return value or "true"
    if value is None:
        if not rest:
            raise FlagError(f"flag needs an argument: -{name}")
        value = rest.pop(0)
    if flag.kind == "int":
        _require_integer(name, value)
    return value


def _require_integer(name: str, value: str) -> None:
    try:
        fits = int(value, 0) in _INT64
    except ValueError as e:
        raise FlagError(f'invalid value "{value}" for flag -{name}: parse error') from e
    if not fits:
        raise FlagError(f'invalid value "{value}" for flag -{name}: value out of range')

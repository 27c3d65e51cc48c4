"""The commands, their arguments and options as one text, a line each; and what is incompatible between two texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

REQUIRED = ", required"


def listing(programs: Mapping[str, click.Command]) -> str:
    """Return every command that is shown, with what it takes: how it is written, its type, its default."""
    return "".join(f"{line}\n" for name in sorted(programs) for line in _command(name, programs[name]))


def breaking_changes(before: str, now: str) -> list[str]:
    """Return which command lines of `before` would be refused, or understood otherwise, by `now`."""
    old, new = _takes(before), _takes(now)
    gone = [f"{what}: removed" for what in old if what not in new]
    other = [f"{what}: {old[what]} -> {new[what]}" for what in old if what in new and _narrower(old[what], new[what])]
    command_of = {what: what.rsplit(" ", 1)[0] for what in new}
    asked = [what for what in new if what not in old and REQUIRED in new[what] and command_of[what] in old]
    return gone + other + [f"{what}: new, and required" for what in asked]


def _command(path: str, command: click.Command) -> Iterator[str]:
    yield path
    context = click.Context(command, info_name=path)
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            yield f"{path} {_written(parameter)}: {_taken(parameter, context)}"
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _command(f"{path} {name}", below)


def _written(parameter: click.Parameter) -> str:
    """Return every way to write it, with a comma between: `-c,--config`."""
    if isinstance(parameter, click.Argument):
        return str(parameter.name).upper()
    return ",".join([*parameter.opts, *parameter.secondary_opts])


def _taken(parameter: click.Parameter, context: click.Context) -> str:
    """Return type, how many, default and whether it must be given, in one line."""
    kind = parameter.type
    text = " | ".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name
    if isinstance(parameter, click.Option) and parameter.is_flag:
        text = "flag"
    text += ", repeatable" if parameter.multiple or parameter.nargs == -1 else ""
    if parameter.required:
        return text + REQUIRED
    default = parameter.get_default(context, call=False)
    return text + (f", default {default}" if isinstance(default, str | int | float) and text != "flag" else "")


def _takes(text: str) -> dict[str, str]:
    """Return what each command and each spelling of a parameter takes."""
    taken: dict[str, str] = {}
    for line in text.splitlines():
        what, _, takes = line.partition(": ")
        command, _, spellings = what.rpartition(" ")
        if takes:
            taken |= {f"{command} {spelling}": takes for spelling in spellings.split(",")}
        elif not line.startswith("#"):
            taken[what] = "command"
    return taken


def _narrower(old: str, new: str) -> bool:
    """Tell whether `new` takes less than `old` did, or has another default."""
    before, after = (one.replace(REQUIRED, "").split(", ") for one in (old, new))
    fewer = set(before[0].split(" | ")) - set(after[0].split(" | "))
    default = [[part for part in one if part.startswith("default ")] for one in (before, after)]
    no_longer = "repeatable" in before and "repeatable" not in after
    return bool(fewer or no_longer or default[0] != default[1] or (REQUIRED in new and REQUIRED not in old))

"""The public API of a package as one text, in the syntax of a stub, and what is incompatible between two such texts.

Read from the source without importing it, so that every version of Python writes the same text.
Public is what no underscore begins: module, class, function, constant, field; and what a package's `__all__` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import griffe

MODULE = "# ---- module "
LONGEST_VALUE = 70  # characters; a table is shown by its name alone
LONGEST_LINE = 120
NOT_CALLED = {"__post_init__", "__repr__", "__slots__"}  # special names that no caller writes
STATED_KINDS = {
    griffe.ParameterKind.var_positional: "*",
    griffe.ParameterKind.var_keyword: "**",
}


def listing(modules: Sequence[str], folder: Path) -> str:
    """Return the public names of `modules`, and of what is below them, with their signatures; read from `folder`."""
    package = griffe.load(modules[0].partition(".")[0], search_paths=[folder], allow_inspection=False)
    assert isinstance(package, griffe.Module)
    roots = [package[name.partition(".")[2]] if "." in name else package for name in modules]
    found = sorted((module for root in roots for module in _public_modules(root)), key=lambda one: one.path)
    return "\n\n".join("\n".join([MODULE + one.path, *_module(one)]) for one in found) + "\n"


def breaking_changes(before: str, now: str) -> list[str]:
    """Return what a caller of `before` may not find, or find otherwise, in `now`: both as `listing` writes them."""
    old, new = _sections(before), _sections(now)
    gone = [f"{name}: the module was removed" for name in old if name not in new]
    pairs = ((_visited(name, old[name]), _visited(name, new[name])) for name in old if name in new)
    return gone + [told for before, now in pairs for told in _changes(before, now)]


def _public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for name, below in module.modules.items():
        if not name.startswith("_") and not below.is_alias:
            yield from _public_modules(below)


def _module(module: griffe.Module) -> Iterator[str]:
    """Yield the lines of one module: what it hands on from elsewhere, then its own names in the order of the source."""
    own: list[str] = []
    for name in map(str, module.exports) if module.exports is not None else list(module.members):
        source = module.imports.get(name)
        if source is None or module.exports is None:
            one = module.members[name]
            if one.is_public and not one.is_alias and not one.is_module and name != "__all__":
                own += _member(one)
        elif any(part.startswith("_") for part in source.split(".")):
            own += _member(module.modules_collection[source])
        else:
            yield f"from {source.rpartition('.')[0]} import {source.rpartition('.')[2]}"
    yield from own


def _member(one: griffe.Object | griffe.Alias, *, indent: str = "") -> Iterator[str]:
    if one.is_class:
        yield from _class(one)
    elif one.is_function:
        yield from _function(one, indent)
    elif "property" in one.labels:
        yield f"{indent}@property"
        yield f"{indent}def {one.name}(self){_returns(one.annotation)}: ..."
    elif one.is_attribute:
        yield indent + _attribute(one)


def _class(one: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Yield a class with all that its callers see: what it has from a private base is its own here."""
    bases = [str(base) for base in one.bases if not _is_private(base)]
    yield f"class {one.name}({', '.join(bases)}):" if bases else f"class {one.name}:"
    members = {**_inherited_privately(one), **one.members}
    shown = [m for name, m in members.items() if m.is_public and name not in NOT_CALLED]
    lines = [line for member in shown for line in _member(member, indent="    ")]
    yield from lines or ["    ..."]


def _inherited_privately(one: griffe.Object | griffe.Alias) -> dict[str, griffe.Object | griffe.Alias]:
    """Return what comes from bases that are not listed themselves; a listed base tells of its own.

    What such a base declares for type checkers alone is not there at run time.
    """
    return {
        name: member
        for name, member in one.inherited_members.items()
        if member.final_target.runtime
        and any(part.startswith("_") for part in member.target_path.rpartition(".")[0].split("."))
    }


def _is_private(base: str | griffe.Expr) -> bool:
    path = base if isinstance(base, str) else base.canonical_path
    return any(part.startswith("_") for part in path.split("."))


def _function(one: griffe.Object | griffe.Alias, indent: str) -> Iterator[str]:
    for label in ("classmethod", "staticmethod"):
        if label in one.labels:
            yield f"{indent}@{label}"
    start = f"{indent}{'async ' if 'async' in one.labels else ''}def {one.name}("
    arguments, end = list(_arguments(one.parameters)), f"){_returns(one.returns)}: ..."
    line = start + ", ".join(arguments) + end
    if len(line) <= LONGEST_LINE:
        yield line
    else:
        yield from (start, *(f"{indent}    {argument}," for argument in arguments), indent + end)


def _arguments(parameters: griffe.Parameters) -> Iterator[str]:
    """Yield each parameter, and the marks between them that say how they may be given."""
    kinds = [one.kind for one in parameters]
    for place, one in enumerate(parameters):
        if one.kind is griffe.ParameterKind.keyword_only and not {
            griffe.ParameterKind.keyword_only,
            griffe.ParameterKind.var_positional,
        } & set(kinds[:place]):
            yield "*"
        text = STATED_KINDS.get(one.kind, "") + one.name + (f": {one.annotation}" if one.annotation else "")
        stated = one.default is not None and one.kind not in STATED_KINDS
        yield text + ((f" = {one.default}" if one.annotation else f"={one.default}") if stated else "")
        if one.kind is griffe.ParameterKind.positional_only and kinds[place + 1 : place + 2] != [one.kind]:
            yield "/"


def _attribute(one: griffe.Object | griffe.Alias) -> str:
    """Return a field or a constant; its value where it is short, and not what a constructor was given."""
    annotation = f": {one.annotation}" if one.annotation else ""
    value = str(one.value) if one.value is not None and one.labels != {"instance-attribute"} else ""
    if not value or "\n" in value or len(value) > LONGEST_VALUE:
        value = "" if annotation else "..."
    return f"{one.name}{annotation}" + (f" = {value}" if value else "")


def _returns(annotation: str | griffe.Expr | None) -> str:
    return f" -> {annotation}" if annotation else ""


def _sections(text: str) -> dict[str, str]:
    """Return the code of each module of a listing."""
    parts = re.split(rf"^{MODULE}(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _visited(name: str, code: str) -> griffe.Module:
    module = griffe.visit(name, filepath=Path(f"{name}.pyi"), code=code)
    module.exports = list(module.members)  # what it hands on is public too
    return module


def _changes(before: griffe.Module, now: griffe.Module) -> Iterator[str]:
    """Yield what griffe finds, and the values of constants, which it does not compare."""
    yield from (_told(one) for one in griffe.find_breaking_changes(before, now))
    values = dict(_values(now))
    for path, value in _values(before):
        if values.get(path, value) != value:
            yield f"{path}: Value was changed: {value} -> {values[path]}"


def _values(within: griffe.Module | griffe.Class) -> Iterator[tuple[str, str]]:
    """Yield constants and members of enumerations; a field's default is its constructor's."""
    for one in within.members.values():
        if isinstance(one, griffe.Class) and "__init__" not in one.members:
            yield from _values(one)
        elif isinstance(one, griffe.Attribute) and one.value is not None:
            yield one.path, str(one.value)


def _told(one: griffe.Breakage) -> str:
    name = f"{one.obj.path}: {one.kind.value}"
    match one.kind:
        case griffe.BreakageKind.OBJECT_REMOVED:
            return name
        case _ if one.kind.name.startswith("PARAMETER"):
            parameter = one.old_value or one.new_value
            return f"{name}: {parameter.name if isinstance(parameter, griffe.Parameter) else parameter}"
        case _:
            return f"{name}: {one.old_value} -> {one.new_value}"

"""Small faults for Python source: one change at a time, of what decides, not of the words that people read.

Strings are left alone (codes among them are data, and texts are free to change), and so are annotations, decorators'
arguments and what stands in an f-string.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

Slot = tuple[Any, Any]
"""Where a node hangs: its parent and the field's name, or a list and the place in it."""

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NEGATED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}
_AT_THE_BORDER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "iter"}
_NEVER = frozenset({"annotation", "returns", "decorator_list", "defaults", "kw_defaults"})
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change of one module; the tree is shared, and changed only while it is compiled."""

    function: tuple[str, int] | None
    """Qualified name and first line of the outermost function it is in; None: code that runs when it is imported."""
    line: int
    text: str
    """That line of the source, without what surrounds it."""
    change: str
    """From what to what."""
    _tree: ast.Module = field(repr=False)
    _slot: Slot = field(repr=False)
    _new: ast.AST = field(repr=False)

    def code(self, path: str) -> CodeType:
        """Return the module with the change, compiled as if it stood in `path`."""
        with _put(self._slot, self._new):
            return compile(ast.fix_missing_locations(self._tree), path, "exec")


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    tree, lines, found = ast.parse(source), source.splitlines(), []
    for slot, old, new, function in _changes(tree, (), None):
        new = ast.copy_location(copy.deepcopy(new), old)  # noqa: PLW2901 - it shares parts with what it replaces
        change = f"{_shown(old)} → {_shown(new)}"
        number = getattr(old, "lineno", 0) or old.pattern.lineno  # type: ignore[attr-defined] # a case has none
        text = lines[number - 1].strip()
        found.append(Mutant(function=function, line=number, text=text, change=change, _tree=tree, _slot=slot, _new=new))
    return sorted(found, key=lambda one: one.line)


Function = tuple[str, int] | None
Change = tuple[Slot, Any, ast.AST, Function]


def _changes(node: ast.AST, names: tuple[str, ...], function: Function) -> Iterator[Change]:
    """Yield each change below `node`."""
    if isinstance(node, ast.ClassDef | _FUNCTION):
        names = (*names, node.name)
    outside = function
    if isinstance(node, _FUNCTION) and function is None:
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        function = ".".join(names), first
        yield from _defaults(node, outside)
    for slot, child in _children(node):
        if isinstance(child, ast.JoinedStr) or _is_words(child):
            continue
        for new in _instead(child, node, slot[1] if slot[0] is node else ""):
            yield slot, child, new, function
        yield from _changes(child, names, function)


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, outside: Function) -> Iterator[Change]:
    for held in (node.args.defaults, node.args.kw_defaults):
        for number, default in enumerate(held):
            if default is not None:
                for new in _instead(default, node, ""):
                    yield (held, number), default, new, outside


def _children(node: ast.AST) -> Iterator[tuple[Slot, Any]]:
    for name, value in ast.iter_fields(node):
        if name in _NEVER:
            continue
        if isinstance(value, ast.AST):
            yield (node, name), value
        elif isinstance(value, list):
            yield from (((value, at), one) for at, one in enumerate(value) if isinstance(one, ast.AST))


def _is_words(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _instead(node: Any, parent: ast.AST, name: str) -> Iterator[ast.AST]:
    """Yield what may stand in place of `node`, the field `name` (empty: one of several) of `parent`."""
    tested = name == "test" or (isinstance(parent, ast.comprehension) and name == "")
    if tested and not isinstance(node, ast.Constant):
        yield ast.Constant(value=False)
        if not isinstance(parent, ast.While):
            yield ast.Constant(value=True)
    if isinstance(node, ast.List) and isinstance(parent, ast.Tuple):
        return  # the arguments of a Callable
    yield from _other_expression(node, tested=tested)
    yield from _other_statement(node)


def _other_expression(node: Any, *, tested: bool) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            yield from _compared(node, tested=tested)
        case ast.BoolOp(values=values):
            for number in range(len(values)):
                left = [*values[:number], *values[number + 1 :]]
                yield ast.BoolOp(op=node.op, values=left) if len(left) > 1 else left[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=op) if type(op) in _SWAPPED:
            yield ast.BinOp(left=node.left, op=_SWAPPED[type(op)](), right=node.right)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield from (ast.Constant(value=value + 1), ast.Constant(value=value - 1))
        case ast.Call(func=ast.Name(id=called)) if called in _CALLS:
            kept = [] if called in {"sorted", "reversed"} else node.keywords
            yield ast.Call(func=ast.Name(id=_CALLS[called], ctx=ast.Load()), args=node.args, keywords=kept)
        case ast.List(elts=[_, *_], ctx=ast.Load()):
            yield ast.List(elts=[], ctx=ast.Load())


def _compared(node: ast.Compare, *, tested: bool) -> Iterator[ast.AST]:
    for number, op in enumerate(node.ops):
        tables = (_AT_THE_BORDER,) if tested else (_AT_THE_BORDER, _NEGATED)  # a test is made True and False anyway
        for other in (table[type(op)] for table in tables if type(op) in table):
            ops = [*node.ops[:number], other(), *node.ops[number + 1 :]]
            yield ast.Compare(left=node.left, ops=ops, comparators=node.comparators)  # type: ignore[arg-type]


def _other_statement(node: Any) -> Iterator[ast.AST]:
    match node:
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield ast.Expr(value=ast.YieldFrom(value=ast.Tuple(elts=[], ctx=ast.Load())))
        case ast.Expr() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.AugAssign(op=op):
            yield ast.Pass()
            if type(op) in _SWAPPED:
                yield ast.AugAssign(target=node.target, op=_SWAPPED[type(op)](), value=node.value)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(value=ast.Constant(value=None))
        case ast.ExceptHandler(type=ast.Tuple(elts=kinds)):
            for number in range(len(kinds)):
                fewer = ast.Tuple(elts=[*kinds[:number], *kinds[number + 1 :]], ctx=ast.Load())
                yield ast.ExceptHandler(type=fewer, name=node.name, body=node.body)
        case ast.match_case():
            yield ast.match_case(pattern=node.pattern, guard=ast.Constant(value=False), body=node.body)


@contextmanager
def _put(slot: Slot, new: ast.AST) -> Iterator[None]:
    where, at = slot
    get, put = (type(where).__getitem__, type(where).__setitem__) if isinstance(where, list) else (getattr, setattr)
    old = get(where, at)
    put(where, at, copy.deepcopy(new))
    try:
        yield
    finally:
        put(where, at, old)


def _shown(node: Any) -> str:
    """Return the node's source on one line; of what has a body, its head."""
    if isinstance(node, ast.ExceptHandler):
        return f"except {ast.unparse(node.type) if node.type else ''}"
    if isinstance(node, ast.match_case):
        return f"case {ast.unparse(node.pattern)}{' if False' if isinstance(node.guard, ast.Constant) else ''}"
    return " ".join(ast.unparse(node).split())

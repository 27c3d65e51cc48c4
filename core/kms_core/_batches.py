"""Many messages in one call: each data key is asked for once, and so is each one that cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from kms_core.batch import Opened, Refused, Sealed, ToOpen, ToSeal
from kms_core.errors import ClosedError, KmsCoreError, KmsUnavailableError, MessageError
from kms_core.message import parse_header

R = TypeVar("R")
_UNUSABLE = (AttributeError, TypeError, ValueError)


def sealing_group(item: ToSeal) -> Hashable:
    """Return what items have in common that share a data key."""
    try:
        return (_name(item.purpose), frozenset(item.context.items()))
    except _UNUSABLE:
        return id(item)  # sealing will say what is wrong with it


def opening_group(item: ToOpen, max_encrypted_data_keys: int) -> Hashable:
    """Return all that KMS would be asked with for `item`, and all that it is compared with before.

    Nothing less: what is refused for one item is refused for its whole group, and headers can be forged.
    """
    try:
        header = parse_header(bytes(memoryview(item.message)), max_encrypted_data_keys=max_encrypted_data_keys)
        wanted, written = frozenset(item.context.items()), frozenset(header.context.items())
        return (_name(item.purpose), wanted, header.suite.id, written, header.encrypted_data_keys)
    except (*_UNUSABLE, MessageError):
        return id(item)


def _name(purpose: str) -> str:
    if not isinstance(purpose, str):
        raise TypeError(f"a purpose is a string, not {type(purpose).__name__}")
    return purpose


class Batch:
    """Does items one after the other, those of one group together, and remembers what KMS refused."""

    def __init__(self) -> None:
        self._refused: dict[Hashable, KmsCoreError] = {}

    def results(
        self, items: Sequence[R], groups: Sequence[Hashable], do: Callable[[R], Sealed | Opened]
    ) -> list[Sealed | Opened | Refused]:
        """Return what came of each item, in their order.

        Raises:
            ClosedError: the core was closed meanwhile.
        """
        first: dict[Hashable, int] = {}
        for position, group in enumerate(groups):
            first.setdefault(group, position)
        done: dict[int, Sealed | Opened | Refused] = {}
        for position in sorted(range(len(items)), key=lambda at: (first[groups[at]], at)):
            done[position] = self._result(items[position], groups[position], do)
        return [done[position] for position in range(len(items))]

    def _result(self, item: R, group: Hashable, do: Callable[[R], Sealed | Opened]) -> Sealed | Opened | Refused:
        if (known := self._refused.get(group)) is not None:
            return Refused(known)
        try:
            return do(item)
        except ClosedError:
            raise
        except (KmsCoreError, AttributeError, TypeError, ValueError, OverflowError) as e:
            if isinstance(e, KmsCoreError) and (e.attempts or isinstance(e, KmsUnavailableError)):
                self._refused[group] = e  # KMS was asked: it would say the same again
            return Refused(e)

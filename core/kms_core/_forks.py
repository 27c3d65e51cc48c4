"""A core does not survive `fork`: its threads stay in the parent, and its locks may be held by them for ever.

The child's calls are refused at once, with an error that says so, before any lock is touched. Nothing is paid for that
on the way of a call: the operating system tells us of the fork.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What must know that it is in a child process now."""

    def forked(self) -> None:
        """Take note, without touching a lock."""
        ...


_living: weakref.WeakSet[Forkable] = weakref.WeakSet()


def remember(one: Forkable) -> None:
    """Tell `one` when it finds itself in a child process."""
    _living.add(one)


def _in_child() -> None:
    for one in list(_living):
        one.forked()


os.register_at_fork(after_in_child=_in_child)

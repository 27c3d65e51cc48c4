"""`python dying_process.py NUMBER before|after MODULE ARGS…`: a command of ours that is killed at its NUMBERth change.

A change is a request to AWS whose operation does not only look. `before`: it is not sent; `after`: it was done, and its
answer is lost. With fewer changes the command ends as it would.
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
from typing import Any

from kms_watchdog import aws

LOOKING = ("Describe", "Get", "List")


def main(number: str, when: str, module: str, *arguments: str) -> None:
    """Have it killed, or not; then run it."""
    changes = itertools.count(1)

    def count(event_name: str, **_: Any) -> None:
        if not event_name.rpartition(".")[2].startswith(LOOKING) and next(changes) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    aws._session().events.register({"before": "before-send", "after": "after-call"}[when], count)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

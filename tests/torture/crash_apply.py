"""`kms-watchdog provision apply`, killed before and after every change of AWS that it makes.

It keeps nothing on disk but an empty lock file: what a crash leaves is in AWS. So an estate is made by a run after the
other, each of which dies at one change; the next goes on from what it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crash_figures import Protocol
from daemon_kit import REGIONS, serving
from provisioned_estate import CHANGES_OF_ONE_KEY, Estate, Moment, estate


def killed_at_each_change(folder: Path, figures: Protocol, moments: Sequence[Moment] = ("before", "after")) -> None:
    """Make one estate a moment, by runs that die; note what is not as a run that lives would have made it."""
    with serving(folder) as cloud:
        for moment in moments:
            made = estate(cloud, folder / moment, f"dies{moment}", purposes=1)
            ends = made.die_until_applied(moment)
            figures.operations["change"] = CHANGES_OF_ONE_KEY
            figures.crashes[moment] += ends.count(-9)
            figures.states += ends.count(-9)
            figures.find(f"{moment} each change", _wrong(made, ends))


def _wrong(made: Estate, ends: list[int]) -> list[str]:
    *killed, last = ends
    told = []
    if (set(killed), last) != ({-9}, 0) or len(killed) < CHANGES_OF_ONE_KEY - 4:  # what is there already is not made
        told.append(f"the runs ended {ends}")
    applied, left = made.provision("apply", "--yes"), made.provision("plan")
    if (applied.returncode, left.returncode, left.stdout) != (0, 0, "nothing to do\n"):
        told.append(f"another run: {applied.stderr or applied.stdout}; then left: {left.stdout}")
    if (keys := [len(made.keys(region)) for region in REGIONS]) != [1] * len(REGIONS):
        told.append(f"keys a region: {keys}")
    if (policies := [*map(len, made.role_policies().values())]) != [1] * 8:
        told.append(f"policies a role: {policies}")
    if made.trails() != {"kms-watchdog-keys": True}:
        told.append(f"trails: {made.trails()}")
    return told

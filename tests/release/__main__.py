"""`python tests/release build|api`: make a release in dist/, or write the files of docs/api anew.

Exit code: 0 done, 1 two builds differ, 2 nothing could be built, 4 an incompatible change without a new version.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bill import bill_of
from twice import BuildFailedError, DifferentBuildsError, build_twice, epoch_of, git, is_checkout, sums, write

ROOT = Path(__file__).parents[2]
FIRST = Path("0/tree")
"""Where `build_twice` puts the tree that it builds first."""


def main() -> int:
    """Do what is asked."""
    parser = argparse.ArgumentParser(prog="python tests/release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser(
        "build", help="wheel, sdist, bill of materials and their sums, made twice and compared"
    )
    building.add_argument("--into", type=Path, default=ROOT / "dist", help="dist when not given")
    building.add_argument("--without-bill", action="store_true", help="leave the bill out: CycloneDX is not here")
    commands.add_parser("api", help="write docs/api")
    wanted = parser.parse_args()
    return write_api() if wanted.command == "api" else release(wanted.into, with_bill=not wanted.without_bill)


def release(into: Path, *, with_bill: bool = True) -> int:
    """Build what is committed here twice; write what came out, and the sums, when both are the same."""
    try:
        with tempfile.TemporaryDirectory(prefix="kms-watchdog-release-") as workplace:
            files = build_twice(ROOT, Path(workplace))
            files |= bill_of(Path(workplace) / FIRST, epoch_of(ROOT)) if with_bill else {}
        write(files, into)
        print(sums(files) + f"built twice, the same bytes: {built_from(ROOT)}")
    except DifferentBuildsError as e:
        print(e, file=sys.stderr)
        return 1
    except (BuildFailedError, OSError) as e:
        print(e, file=sys.stderr)
        return 2
    return 0


def built_from(source: Path) -> str:
    """Return what was built, and that more lies about when it does."""
    if not is_checkout(source):
        return "the files as they are; no git here"
    commit = git(source, "rev-parse", "HEAD").decode().strip()
    changed = git(source, "status", "--porcelain").splitlines()
    return f"commit {commit}" + (f"; {len(changed)} uncommitted files are not in it" if changed else "")


def write_api() -> int:
    """Write each file of docs/api, unless something incompatible came without a new version."""
    from committed_api import FILES, FOLDER, project_version, refusal  # noqa: PLC0415 - a build needs none of it

    version, refusals = project_version(), []
    for file in FILES:
        path, text = FOLDER / file.name, file.text(version)
        why = refusal(file, path.read_text(encoding="utf-8"), text, version) if path.exists() else ""
        refusals.append(why)
        if not why:
            path.write_text(text, encoding="utf-8")
    for why in filter(None, refusals):
        print(why, file=sys.stderr)
    return 4 if any(refusals) else 0


if __name__ == "__main__":
    sys.exit(main())

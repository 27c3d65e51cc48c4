"""What people read: every link leads to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "alarms").rglob("*.md")]
    + [ROOT / folder / "README.md" for folder in ("daemon", "dashboards") if (ROOT / folder / "README.md").exists()]
)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of `page` may say, as GitHub makes it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """At three in the morning nobody looks for a page that was renamed."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_setup_guides_procedures_have_a_page() -> None:
    """Its four emergency procedures, its three troubles and its four debugging commands."""
    index = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    by_procedure = dict(re.findall(r"^\| (.+?) \| (.+?) \|", index, re.MULTILINE))

    for procedure in (
        "**Circuit breaker activation**",
        "**High error rates**",
        "**Key unavailability**",
        "**Performance degradation**",
        "1. `KMS_KEY_UNAVAILABLE`",
        "2. Rate limits",
        "3. Cross-region access",
        "`aws kms list-keys`",
        "`aws kms get-key-rotation-status",
        "`aws kms get-key-policy",
        "`aws kms generate-data-key",
    ):
        [pages] = [pages for found, pages in by_procedure.items() if found.startswith(procedure)]
        assert LINK.search(pages), procedure

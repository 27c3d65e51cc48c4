"""The forms that a drill's account takes, by the names that `--format` knows, and the file that each is kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kms_chaos.export import as_json, chaostoolkit, junit, markdown
from kms_chaos.export.account import Account


@dataclass(frozen=True, slots=True)
class Form:
    """One form: what it is kept in, and what makes it."""

    file: str
    render: Callable[[Account], str]


def _html(a: Account) -> str:
    from kms_chaos.report import page  # noqa: PLC0415 - matplotlib takes a second to import; only this form needs it

    return page(a)


FORMS: Mapping[str, Form] = {
    "html": Form("report.html", _html),
    "junit": Form("junit.xml", junit.render),
    "json": Form("report.json", as_json.render),
    "markdown": Form("report.md", markdown.render),
    "ctk": Form("journal.json", chaostoolkit.render),
}

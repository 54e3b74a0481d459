"""The report as Markdown, for an appendix or a diff: the same chapters, without figures.

Not what it says (`findings.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..verify.section import Section
from .findings import Page


def markdown(page: Page) -> str:
    """The file's text; the same page gives the same text."""
    return "\n".join(_lines(page))


def _lines(page: Page) -> Iterator[str]:
    yield f"# {_text(page.title)}"
    yield from ("", f"**{page.word.upper()}: {_text(page.sentence)}**", "")
    yield from (f"- {_text(line)}" for line in [*page.reasons, *page.facts])
    for chapter in page.chapters:
        tables = chapter.tables or [figure.numbers for figure in chapter.figures]
        if not (chapter.text or tables or chapter.commands):
            continue
        yield from ("", f"## {_text(chapter.title)}")
        if chapter.text:
            yield from ("", *(f"- {_text(line)}" for line in chapter.text))
        for table in tables:
            yield from _table(table)
        if chapter.commands:
            yield from ("", "```sh", chapter.commands, "```")
    yield ""


def _table(table: Section) -> Iterator[str]:
    yield from ("", f"### {_text(table.title)}", "", "| | " + " | ".join(_text(each) for each in table.head) + " |")
    yield "|---|" + "---:|" * len(table.head)
    for name, cells in table.rows:
        shown = [f"{_text(value)} ({interval})" if interval else _text(value) for value, interval in cells]
        yield f"| {_text(name)} | " + " | ".join(shown) + " |"


def _text(text: str) -> str:
    """Text that comes from files, without Markdown's table and markup characters taking effect."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in " ".join(text.split()))

"""The report as one HTML file that loads nothing: style, script and figures are inside.

Not what it says (`findings.py`), not its look (`style.py`). All text is escaped, and the page's own policy lets a browser
run the one script whose hash it names, and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape

from ..verify.section import Section
from .figures import Figure
from .findings import Chapter, Page
from .style import SCRIPT, STYLE

WITHOUT = "The figures are missing: matplotlib is not installed where this was written. Their numbers are in the tables."


def html(page: Page) -> str:
    """The file's text; the same page gives the same text."""
    body = [line for chapter in page.chapters for line in _chapter(chapter)]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(page.title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#main">To the evidence</a>',
            "<header>",
            f"<h1>{_text(page.title)}</h1>",
            f'<div class="verdict {page.word.partition(" ")[0]}">',
            f"<p><strong>{page.word}</strong>: {_text(page.sentence)}</p>",
            *_list(page.reasons),
            "</div>",
            *_list(page.facts, "facts"),
            "</header>",
            '<nav aria-label="Chapters">',
            "<ul>",
            *(f'<li><a href="#{each.topic}">{_text(each.title)}</a></li>' for each in page.chapters),
            "</ul>",
            "</nav>",
            '<main id="main">',
            *body,
            "</main>",
            "<footer>",
            "<p>Written by EdgeFM. The numbers of this page are in report.json, beside it.</p>",
            "</footer>",
            f"<script>{SCRIPT}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f'<section aria-labelledby="{chapter.topic}">'
    yield f'<h2 id="{chapter.topic}">{_text(chapter.title)}</h2>'
    if chapter.text:
        yield from _list(chapter.text) if len(chapter.text) > 1 else [f"<p>{_text(chapter.text[0])}</p>"]
    if any(not figure.svg for figure in chapter.figures):
        yield f"<p>{WITHOUT}</p>"
    for figure in chapter.figures:
        yield from _figure(figure)
    for number, table in enumerate(chapter.tables, 1):
        yield from _table(table, f"{chapter.topic}-table-{number}")
    if chapter.commands:
        yield f'<pre tabindex="0"><code>{_text(chapter.commands)}</code></pre>'
    yield "</section>"


def _figure(figure: Figure) -> Iterator[str]:
    """The drawing is one image to a screen reader, with the words for it; its numbers follow, folded away."""
    if figure.svg:
        yield "<figure>"
        yield figure.svg.replace("<svg ", f'<svg role="img" aria-label="{_text(figure.alternative)}" ', 1)
        yield f"<figcaption>{_text(figure.caption)}</figcaption>"
        yield "</figure>"
    yield f"<details{'' if figure.svg else ' open'}>"
    yield f"<summary>{_text(figure.numbers.title)}</summary>"
    yield from _table(figure.numbers, f"{figure.name}-numbers")
    yield "</details>"


def _table(table: Section, name: str) -> Iterator[str]:
    """A table in a box that scrolls sideways, by keyboard too."""
    yield f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
    yield "<table>"
    yield f'<caption id="{name}">{_text(table.title)}</caption>'
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in ["name", *table.head])
    yield f"<thead><tr>{head}</tr></thead>"
    yield "<tbody>"
    for row, cells in table.rows:
        yield f'<tr><th scope="row">{_text(row)}</th>' + "".join(_cell(*cell) for cell in cells) + "</tr>"
    yield "</tbody>"
    yield "</table>"
    yield "</div>"


def _cell(value: str, interval: str) -> str:
    if not interval:
        return f"<td>{_text(value)}</td>"
    return f'<td><span data-value>{_text(value)}</span> <span class="interval">{_text(interval)}</span></td>'


def _list(lines: Sequence[str], kind: str = "") -> Iterator[str]:
    if lines:
        yield f'<ul class="{kind}">' if kind else "<ul>"
        yield from (f"<li>{_text(line)}</li>" for line in lines)
        yield "</ul>"


def _text(text: str) -> str:
    """Text that comes from files: no markup, and no character that is neither seen nor a space or a line's end."""
    return escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))

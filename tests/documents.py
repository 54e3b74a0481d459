"""The code blocks of the documentation, with the comment that says who runs them.

Not the running: `test_docs.py` looks at every command, `end_to_end/test_documents.py` runs them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/device-maker.md", "docs/researcher.md", "docs/hospital-it.md")
BLOCK = re.compile(r"(?:<!-- run by: (?P<by>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


class Block(NamedTuple):
    """A fenced block. `by` is "test" unless a comment before it says otherwise."""

    document: str
    by: str
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    return [Block(document, each["by"] or "test", each["language"], each["text"]) for each in BLOCK.finditer(text)]


def commands(document: str, by: str | None = None) -> list[list[str]]:
    """The words of each shell command of a document, comments left out."""
    shell = [block for block in blocks(document) if block.language == "sh" and by in (None, block.by)]
    lines = [line for block in shell for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]

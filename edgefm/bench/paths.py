"""A sentence without the folders of this machine: what bench writes down is read elsewhere, and folders name people.

Not for a terminal's own errors, where a person needs the whole path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# what stands at the start or after a blank or a bracket: the // of an address and the / of a fraction are within words
_ABSOLUTE = re.compile(r"(?<![\w.:/\\])(?:~?(?:/[^/\s'\"<>:,;()]+)+/?|[A-Za-z]:\\[^\s'\"<>:,;()]+)")


def without_paths(text: str, names: Mapping[str, str] | None = None) -> str:
    """The text with the last part of each absolute path in the place of the path.

    Args:
        names: what to call certain files, by their path or name as it may stand in the text, blanks in it or not.
    """
    home = f"{Path.home()}/"
    known = {**(names or {}), **({home: "~/"} if home.count("/") > 1 else {})}
    for path in sorted(known, key=len, reverse=True):
        end = r"(?![\w-])" if not path.endswith("/") else ""
        text = re.sub(rf"(?<![\w.-]){re.escape(path)}{end}", lambda _, path=path: known[path], text)  # type: ignore[misc]
    return _ABSOLUTE.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)

"""What can go wrong, as exceptions that carry an exit code.

Not a place for recovery: whoever raises says what was found, what was expected and what to do; the command line prints it.
Not every code is an exception's: `bench` ends with 5 where a device's budget is not met, and its findings are whole.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with `\\x1b` for what is no visible character: names come from strangers, and a terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class EdgeFMError(Exception):
    """Base of every error that EdgeFM raises on purpose.

    Args:
        found: what was found, with the name of the file, row or option it was found in.
        expected: what would have been right, or "" where `found` says it already.
        do: the next step for a tired person, one imperative sentence without a full stop, or "".

    `str(error)` is one line: "FOUND; expected EXPECTED. DO."
    """

    exit_code = 2

    def __init__(self, found: str, *, expected: str = "", do: str = "") -> None:
        self.found, self.expected, self.do = found, expected, do
        line = f"{found}; expected {expected}." if expected else f"{found}."
        if do:
            line += f" {do[0].upper()}{do[1:]}."
        super().__init__(printable(" ".join(line.split())))


class InputError(EdgeFMError):
    """The user's input or environment (exit 2)."""


class BundleError(InputError):
    """A `.efm` file that is damaged, unsafe, refused or too new (exit 2)."""


class ImageError(InputError):
    """One image that cannot be read; others may be fine (exit 2)."""


class MissingExtra(InputError):
    """A library of an optional extra is not installed (exit 2)."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed here",
            do=f"install it with: pip install 'edgefm[{extra}]'",
        )
        self.library, self.extra = library, extra


class GateRefused(EdgeFMError):
    """A gate said no; the best artefact so far is kept and marked `refused` (exit 3)."""

    exit_code = 3


class ParityError(EdgeFMError):
    """Two engines, or an engine and the model, disagree (exit 4)."""

    exit_code = 4

"""Text lined up in columns for a terminal, and sizes in words. Not what stands in the columns."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Text columns, two spaces apart, the first column left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            f"{cell:>{width}}" if _numeric(column) else f"{cell:{width}}"
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        return "  ".join(cells).rstrip()

    def _numeric(column: int) -> bool:
        return column > 0 and all(row[column].lstrip("+-")[:1].isdigit() or row[column] in ("-", "") for row in rows)

    return [line(head), *[line(row) for row in rows]]


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"

"""A CSV as a listing: `file[,label][,patient][,group columns...][,split]`, paths relative to the CSV's folder.

Not a general CSV reader. Every refusal names the row as a spreadsheet counts it: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..spec.recipe import DataRecipe
from .files import Files
from .listing import Listing
from .splits import SPLITS

MISSING = ("nan", "na", "<na>", "#n/a", "n/a", "null")  # what other programs write for "not known"; it could be meant as a name
NONE = "none"  # Python writes it for "not known", but a class can be called so: "none of the findings"
Rows = list[tuple[int, list[str]]]


def read_table(path: Path, recipe: DataRecipe) -> Listing:
    """The images that a CSV lists.

    UTF-8 with or without a byte-order mark; comma, or semicolon or tab where the header shows it; blank lines are passed
    over; white space around a cell does not count, nor do capitals in the names of columns. Columns of `recipe` that are
    there but wholly empty count as absent, and every other column is a group. A row that the table puts into train may go
    without a label, if the table has val rows.

    Raises:
        InputError: not UTF-8, no `file` column, ragged rows, a file twice, an empty cell in a column that matters, "nan" or
            "NA" as a label or a patient, "None" as a patient, or a split that is none.
    """
    header, rows = _parse(path, recipe)
    columns = {name: [cells[i] for _, cells in rows] for i, name in enumerate(header)}
    columns.pop("", None)  # a comma too many at the end of each line
    numbers = [row for row, _ in rows]
    files = columns.pop(recipe.file)
    _refuse(files, numbers, path, recipe.file, bool, "a path in each row", "fill it or remove the row")
    paths = [_locate(path.parent, file) for file in files]
    _refuse_twice(paths, files, numbers, path)

    labels, patients, splits = (_column(columns, name) for name in (recipe.label, recipe.patient, recipe.split))
    if splits:
        splits = [split.lower() for split in splits]
        _refuse(splits, numbers, path, recipe.split, SPLITS.__contains__, ", ".join(SPLITS), "correct it")
    if patients:
        _refuse(patients, numbers, path, recipe.patient, bool, "a patient in each row or in none", "fill it or remove the row")
        _refuse(patients, numbers, path, recipe.patient, _is_patient, "a patient", "write who it is, or remove the row")
    notes: tuple[str, ...] = ()
    if labels:
        _check_labels(labels, splits, numbers, path, recipe)
        notes = _nones(labels)
    elif recipe.label not in header:
        notes = (f"{path} has no column '{recipe.label}': no image has a label (--set data.label=NAME names the column)",)
    return Listing(
        name=f"{path.absolute().parent.name}/{path.name}",
        store=Files(tuple(paths), recipe.frame),
        names=tuple(files),
        rows=tuple(numbers),
        cells=tuple(_labels(cell) if cell else None for cell in labels) if labels else None,
        multilabel=bool(labels) and any("|" in cell for cell in labels or ()),
        patients=tuple(patients) if patients else None,
        groups={name: tuple(values) for name, values in columns.items()},
        splits=tuple(splits) if splits else None,
        notes=notes,
    )


def _parse(path: Path, recipe: DataRecipe) -> tuple[list[str], Rows]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", do="save it as 'CSV UTF-8'") from error
    if not text.strip():
        raise InputError(f"{path} is empty", expected=f"a header with the column '{recipe.file}', then one row per image")
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    found: list[str] = []
    for delimiter in ",;\t":
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        header = _as_asked(header, recipe)
        if recipe.file in header:
            break
        found = max(found, header, key=len)
    else:
        listed = ", ".join(cell for cell in found if cell) or "nothing"
        raise InputError(
            f"{path} has no column '{recipe.file}', only: {listed[:200]}", do="name that column with --set data.file=NAME"
        )
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise InputError(f"{path} has the column '{twice[0]}' twice", do="rename one of them")
    rows: Rows = []
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append((number, cells))
    except csv.Error as error:
        raise InputError(f"{path} is no valid CSV ({error})", do="check the quotes") from error
    for number, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"row {number} of {path} has {len(cells)} cells", expected=f"{len(header)}, as in the header")
    if len(rows) < 2:
        raise InputError(f"{path} has a header but no rows", do="add one row per image")
    return header, rows[1:]


def _as_asked(header: list[str], recipe: DataRecipe) -> list[str]:
    """`File` is the column `file`: unseen, `Patient` would be a group, and one patient would be on both sides of a split."""
    asked = (recipe.file, recipe.label, recipe.patient, recipe.split)
    known = {name.casefold(): name for name in asked if name not in header}
    return [known.get(name.casefold(), name) for name in header]


def _column(columns: dict[str, list[str]], name: str) -> list[str] | None:
    values = columns.pop(name, None)
    return values if values and any(values) else None


def _check_labels(labels: list[str], splits: list[str] | None, rows: list[int], path: Path, recipe: DataRecipe) -> None:
    expected = "the name of a class, or nothing where it is not known"
    _refuse(labels, rows, path, recipe.label, _is_name, expected, "empty the cell, or give the class another name")
    do = "fill it, remove the row, or write | for an image with none of the labels"
    # Rows without a label can only learn from a teacher. Where val is yet to be cut, nobody has said which rows those are.
    open_to = ("train",) if splits and ("val" in splits or not recipe.val) else ()
    held = [at for at in range(len(labels)) if not splits or splits[at] not in open_to]
    expected = "a label in each row or in none"
    expected += ", train apart" if open_to else f"; with rows for train and val in column '{recipe.split}', train may have gaps"
    _refuse([labels[at] for at in held], [rows[at] for at in held], path, recipe.label, bool, expected, do)


def _is_name(cell: str) -> bool:
    return not any(part.strip().lower() in MISSING for part in cell.split("|"))


def _is_patient(cell: str) -> bool:
    return cell.lower() != NONE and _is_name(cell)


def _nones(labels: list[str]) -> tuple[str, ...]:
    """A sentence for each spelling of `NONE` among the labels."""
    counts = Counter(label for cell in labels for label in _labels(cell) if label.lower() == NONE)
    return tuple(
        f"'{label}' is taken as a class, that of {count} image{'s' * (count > 1)}; empty the cells where it means not known"
        for label, count in counts.items()
    )


def _labels(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in cell.split("|") if part.strip()))


def _locate(folder: Path, file: str) -> Path:
    path = folder / file
    if "\\" in file and not path.exists():  # written on Windows
        path = folder / file.replace("\\", "/")
    return path


def _refuse(
    values: list[str], rows: list[int], path: Path, column: str, good: Callable[[str], bool], expected: str, do: str
) -> None:
    bad = [(row, value) for row, value in zip(rows, values) if not good(value)]
    if bad:
        what = f"'{bad[0][1]}'" if bad[0][1] else "nothing"
        where = ", ".join(str(row) for row, _ in bad[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise InputError(
            f"{path} has {what} in column '{column}' of row{'s' * (len(bad) > 1)} {where}", expected=expected, do=do
        )


def _refuse_twice(paths: list[Path], files: list[str], rows: list[int], path: Path) -> None:
    first: dict[str, int] = {}
    for row, image, file in zip(rows, paths, files):
        if (other := first.setdefault(os.path.normpath(image), row)) != row:
            raise InputError(
                f"rows {other} and {row} of {path} both name {file}",
                expected="each file once",
                do="remove one row; several labels go into one cell, separated by |",
            )

"""What `bench` found, one line of JSON per run, in `history.jsonl` beside bench.json: it grows, also under --force.

Not a database: the newest line is the last, and whoever wants more reads the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError

NAME = "history.jsonl"


def append(folder: Path, found: dict[str, Any]) -> None:
    """Add one line, flushed to disk. A last line that a killed process left unfinished stays, and the new one begins below it.

    Raises:
        InputError: the disk refuses.
    """
    path, line = folder / NAME, msgspec.json.encode(found) + b"\n"
    try:
        with open(path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})", do="free some space or choose another -o") from error


def read(path: Path) -> dict[str, Any]:
    """The findings in a bench.json, or in the last whole line of a history.

    Raises:
        InputError: the file is not there, or is no finding of `bench`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", do="check the path") from error
    texts = [line for line in data.splitlines() if line.strip()] if path.suffix == ".jsonl" else [data]
    for text in reversed(texts):
        try:
            found = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
        if isinstance(found, dict) and {"contenders", "machine", "image", "threads"} <= found.keys():
            return found
        break
    raise InputError(f"{path} holds no findings of bench", expected="a bench.json or a history.jsonl", do="check the path")

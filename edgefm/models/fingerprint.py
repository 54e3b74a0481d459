"""The hash of all that `load_model` reads of a model on disk, without loading it. Not the loading.

What was known of these bytes is known again. Files are read piece by piece, so that a large model takes no memory.

| source | hashed |
|---|---|
| a folder, `hf-hub:OWNER/NAME` | its JSON files, README.md and weights, `base/`, and the model that a run stands on |
| `.onnx`, `.xml`, `.tflite` | the graph with its weights, labels.json and preprocess.json beside it |
| `.efm`, a checkpoint | the file, and README.md beside a checkpoint |
| a timm name | its weights file |
| `FILE.py:FUNCTION`, an `nn.Module`, a run that stands on one | nothing: code is known by running it only |
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .contract import read_json
from .teachers import CHECKPOINTS, GRAPHS, HUB
from .weights import file_sha256, find_weights


def fingerprint(source: object) -> str | None:
    """SHA-256 of a model's name and of all that is read; None for code, and for what `load_model` will refuse."""
    try:
        words = _words(str(source)) if isinstance(source, (str, Path)) else None
    except InputError:
        return None
    return None if words is None else hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _words(text: str) -> list[Any] | None:
    if text.startswith(HUB):
        from .hub import fetch_folder

        hub_id = text.partition(":")[2]
        return _folder(fetch_folder(hub_id), hub_id.partition("@")[0])
    path = Path(text.removeprefix("local-dir:"))
    if path.is_dir():
        return _folder(path, path.resolve().name)
    if path.is_file():
        return _file(path)
    if ".py:" in text:
        return None
    from .timm_names import published_file

    return [text, file_sha256(published_file(text))]


def _folder(folder: Path, name: str) -> list[Any] | None:
    words = [name, *_hashes([*sorted(folder.glob("*.json")), folder / "README.md", *find_weights(folder)])]
    card = folder / "edgefm.json"
    base = read_json(card).get("base") if card.is_file() else None
    if not isinstance(base, dict):
        return words
    source = base.get("source")
    under = _folder(folder / "base", "base") if source is None else _words(str(source))
    return None if under is None else [*words, under]


def _file(path: Path) -> list[Any] | None:
    if path.suffix == ".efm":
        return [path.name, file_sha256(path)]
    if path.suffix in GRAPHS:
        from .graph import graph_sha256

        return [path.name, graph_sha256(path), *_hashes([path.parent / "labels.json", path.parent / "preprocess.json"])]
    if path.suffix in CHECKPOINTS:
        return [path.name, file_sha256(path), *_hashes([path.parent / "README.md"])]
    return None


def _hashes(files: list[Path]) -> list[list[str]]:
    return [[file.name, file_sha256(file)] for file in files if file.is_file()]

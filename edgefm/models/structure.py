"""What a model's answers depend on beside its weights, as a hash: parts, their settings, how it pools. Not the weights.

Seen: the name and class of every part; what the module prints of itself (sizes, activations); of parts that torch, timm,
transformers or EdgeFM define, every setting kept as numbers, words, lists of these, a function or a class (`global_pool`,
`num_heads`), and a transformers configuration; and the bytes of FILE.py where that made the model.

Not seen: what the forward pass of a user's own class does, and its settings unless it prints them (`extra_repr`). A file's
bytes show every change in it, but not in the files that it imports; of a module passed from Python nothing shows them. Nor
does it see another version of a library that computes otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from torch import nn

KNOWN = ("edgefm", "timm", "torch", "transformers")
# Kept by torch for every module; then what says where weights came from, and a switch of our own.
OTHER = {*vars(nn.Module()), "pretrained_cfg", "default_cfg", "tokens"}


def structure_sha256(module: nn.Module, code: bytes = b"") -> str:
    """The hash, the same in every process.

    Args:
        code: of the file that made the module.
    """
    first: dict[int, str] = {}  # a part that is there twice, as a tapped one is, is told by its first name
    parts = [
        [name, first.setdefault(id(part), name), f"{type(part).__module__}.{type(part).__qualname__}", _settings(part)]
        for name, part in module.named_modules(remove_duplicate=False)
    ]
    words = [hashlib.sha256(code).hexdigest(), re.sub(r" at 0x[0-9a-f]+", "", repr(module)), parts]
    return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()


def _settings(part: nn.Module) -> dict[str, Any]:
    if type(part).__module__.partition(".")[0] not in KNOWN:
        return {}
    found = {name: _plain(value) for name, value in vars(part).items() if name not in OTHER}
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """As JSON can hold it; None for what is no setting."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    to_dict = getattr(value, "to_dict", None)  # a configuration of transformers
    return to_dict() if callable(to_dict) else None

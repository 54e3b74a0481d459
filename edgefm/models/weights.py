"""Weights in: safetensors, or pickles through `weights_only=True`, and a strict match between keys and module.

Not the choice of architecture: the loaders of folders do that, and ask here for the tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError

PREFERRED = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
SHARDS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WRAPPERS = ("model", "state_dict")
State = dict[str, torch.Tensor]


def find_weights(folder: Path) -> list[Path]:
    """The weights of a model folder: one file, or the shards that an index file lists.

    A known name comes first (safetensors before pickles), then the only file with a weights suffix.

    Raises:
        InputError: there is none, or several with unknown names.
    """
    for name in PREFERRED:
        if (folder / name).is_file():
            return [folder / name]
    for name in SHARDS:
        if (folder / name).is_file():
            return _shards(folder / name)
    for suffix in SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return found
        if found:
            raise InputError(
                f"{folder} holds several weights files ({', '.join(file.name for file in found[:4])})",
                expected=f"one, or one called {PREFERRED[0]}",
                do="remove or rename the others",
            )
    raise InputError(
        f"{folder} holds no weights",
        expected=f"{PREFERRED[0]}, {PREFERRED[2]}, or one file ending in {', '.join(SUFFIXES)}",
        do="download the weights into that folder too",
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not an index of weights", do="download the model folder again") from error
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise InputError(f"{index} lists {name}, which is not beside it", do="download the model folder again")
    return [index.parent / name for name in names]


def read_weights(files: list[Path]) -> State:
    """All tensors of the files, on the CPU; floating ones as float32, whatever they were stored in.

    A pickle that holds a training state is opened to its "model" or "state_dict" entry; the prefixes that
    DistributedDataParallel and torch.compile leave ("module.", "_orig_mod.") are taken off.

    Raises:
        InputError: a file is damaged, or is a pickle that holds more than tensors and plain containers.
    """
    state: State = {}
    for file in files:
        state.update(_read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file))
    return {_bare(key): tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def _bare(key: str) -> str:
    while key.startswith(("module.", "_orig_mod.")):
        key = key.partition(".")[2]
    return key


def _read_safetensors(file: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error})", do="download or copy it again") from error


def _read_pickle(file: Path) -> State:
    # argparse.Namespace: MAE-style checkpoints (RETFound's too) keep their command line in one; it only holds attributes.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file} is a pickle that holds more than weights, or is damaged: loading it could run code, so it is not loaded",
            expected="tensors in plain dictionaries",
            do="ask its author for safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is not a whole torch checkpoint ({error})", do="download or copy it again") from error
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{file} holds no dictionary of tensors", do="save the model's state_dict() instead")
    return {str(key): value for key, value in found.items()}


def misfits(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps `state` from being the weights of `module`, one phrase per kind of fault; empty where it fits."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shaped = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    return [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for kind, keys in (("missing", missing), ("unexpected", extra), ("of another shape", shaped))
        if keys
    ]


def refuse_misfits(faults: list[str], where: object) -> None:
    """Raise `InputError` naming the first keys that are missing, unexpected or of another shape, if there are any."""
    if faults:
        raise InputError(
            f"the weights in {where} do not fit the architecture: {'; '.join(faults)}",
            do="check the architecture and its arguments in the configuration",
        )


def fill(module: torch.nn.Module, state: State, where: object) -> None:
    """Make `state` the weights of `module`: every key present, none left over, every shape equal.

    The tensors themselves become the parameters, so that a module built on the meta device is filled without a copy.

    Raises:
        InputError: they do not fit.
    """
    refuse_misfits(misfits(module, state), where)
    module.load_state_dict(state, strict=True, assign=True)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_sha256(files: list[Path], module: torch.nn.Module) -> str:
    """The hash that `LoadedModel.sha256` holds: of the one file, else of the module's tensors."""
    return file_sha256(files[0]) if len(files) == 1 else state_sha256(module.state_dict())

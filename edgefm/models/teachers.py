"""Any MODEL to a `LoadedModel`: looks at the form of the source and asks the loader of that form.

Not a loader itself.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .extra import compress_extra
from .loaded import LoadedModel

if TYPE_CHECKING:
    import torch

GRAPHS = (".onnx", ".xml", ".tflite", ".efm")
CHECKPOINTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
HUB = ("hf-hub:", "hf_hub:")


def load_model(
    source: str | Path | torch.nn.Module,
    *,
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model of any form.

    | source | read by |
    |---|---|
    | `hf-hub:OWNER/NAME[@REVISION]` | `hub.py`, then as a folder |
    | a folder with `edgefm.json` (a run of `adapt` or `distill`) | `run_dir.py` |
    | a folder with timm's `config.json` | `timm_dir.py` |
    | a folder with transformers' `config.json` | `hf_dir.py` |
    | a folder with `adapter_config.json` (PEFT's LoRA) | `peft_dir.py` |
    | a folder with `open_clip_config.json` | `open_clip.py` |
    | a checkpoint file, or a folder with nothing else: RETFound's | `mae.py` |
    | `.onnx`, `.xml`, `.tflite`, `.efm` | `frozen.py` |
    | `FILE.py:FUNCTION`, an `nn.Module` | `module.py` |
    | anything else: a timm name | `timm_names.py` |

    Args:
        tap: a node whose features, pooled, become the embedding; `list_taps` names them.
        licence: what a local model does not state, or instead of what it states.
        trust_remote_code: allow `FILE.py:FUNCTION`, which runs that file.

    Returns:
        The model in eval mode (an `nn.Module` that was passed keeps its mode).

    Raises:
        InputError: with the remedy, whatever is wrong with the source.
        MissingExtra: a library of `[compress]` is not installed.
    """
    with compress_extra():
        loaded = _load(source, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    if tap is not None and loaded.kind != "frozen":
        from .taps import tap_module

        loaded = tap_module(loaded, tap)
    from .structure import structure_sha256

    return replace(loaded, structure=structure_sha256(loaded.module, _code(source)))


def _load(
    source: str | Path | torch.nn.Module, *, tap: str | None, licence: str | None, trust_remote_code: bool
) -> LoadedModel:
    if not isinstance(source, (str, Path)):
        from .module import load_module

        return load_module(source, licence=licence)
    text = str(source)
    if text.startswith(HUB):
        from .hub import fetch_folder

        hub_id = text.partition(":")[2]
        return _load_folder(fetch_folder(hub_id), licence, hub_id.partition("@")[0], tap, trust_remote_code)
    path = Path(text.removeprefix("local-dir:"))
    if path.is_dir():
        return _load_folder(path, licence, None, tap, trust_remote_code)
    if path.is_file():
        return _load_file(path, tap=tap, licence=licence)
    if ".py:" in text:
        from .module import load_function

        return load_function(text, trust_remote_code=trust_remote_code, licence=licence)
    if "/" in text or path.suffix in GRAPHS + CHECKPOINTS or isinstance(source, Path):
        _refuse_path(path)
    from .timm_names import load_timm_name

    return load_timm_name(text, licence=licence)


def _code(source: object) -> bytes:
    """Of FILE.py:FUNCTION the file's bytes."""
    file, colon, _ = str(source).rpartition(":") if isinstance(source, (str, Path)) else ("", "", "")
    return Path(file).read_bytes() if colon and file.endswith(".py") else b""


def _load_folder(
    folder: Path, licence: str | None, hub_id: str | None, tap: str | None, trust_remote_code: bool
) -> LoadedModel:
    from .contract import read_json

    if (folder / "edgefm.json").is_file():
        from .run_dir import load_run

        return load_run(folder, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    if (folder / "adapter_config.json").is_file():
        from .peft_dir import load_peft_folder

        return load_peft_folder(folder, licence=licence, hub_id=hub_id, trust_remote_code=trust_remote_code)
    if (folder / "open_clip_config.json").is_file():
        from .open_clip import load_open_clip_folder

        return load_open_clip_folder(folder, read_json(folder / "open_clip_config.json"), licence=licence, hub_id=hub_id)
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        if "architecture" in config:
            from .timm_dir import load_timm_folder

            return load_timm_folder(folder, config, licence=licence, hub_id=hub_id)
        if "model_type" in config:
            from .hf_dir import load_hf_folder

            return load_hf_folder(folder, config, licence=licence, hub_id=hub_id)
        raise InputError(
            f"{folder / 'config.json'} states neither architecture (timm) nor model_type (transformers)",
            do="download the model folder again",
        )
    if any(folder.glob("*.pth")):
        from .mae import load_mae
        from .weights import find_weights

        return load_mae(find_weights(folder), licence=licence, name=hub_id or folder.resolve().name)
    runs = sorted(path.parent.name for path in folder.glob("*/edgefm.json"))
    if runs:
        raise InputError(
            f"the folder {folder} holds several models: {', '.join(runs[:5])}{' …' if len(runs) > 5 else ''}",
            expected="one of them",
            do=f"name it, such as {folder / runs[0]}",
        )
    what = "is empty" if not any(folder.iterdir()) else "holds no config.json"
    raise InputError(f"the folder {folder} {what}", expected="a run directory, or a model folder of timm or Hugging Face")


def _load_file(path: Path, *, tap: str | None, licence: str | None) -> LoadedModel:
    if path.suffix in GRAPHS:
        from .frozen import load_frozen

        return load_frozen(path, tap=tap, licence=licence)
    if path.suffix in CHECKPOINTS:
        from .mae import load_mae

        return load_mae([path], licence=licence)
    raise InputError(
        f"{path} is not a model", expected=f"a folder, a timm name, FILE.py:FUNCTION, or a file {', '.join(GRAPHS)}"
    )


def _refuse_path(path: Path) -> None:
    folder = path.parent
    near = difflib.get_close_matches(path.name, [child.name for child in folder.iterdir()], n=3) if folder.is_dir() else []
    found = f"there is no file or folder {path}"
    if near:
        raise InputError(found, expected=f"perhaps {', '.join(str(folder / name) for name in near)}")
    if not folder.is_dir() and len(path.parts) == 2 and not path.is_absolute():
        raise InputError(found, do=f"check the path; for a model of the Hugging Face Hub write hf-hub:{path}")
    raise InputError(found, do="check the path")

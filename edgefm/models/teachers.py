"""Any MODEL to a `LoadedModel`: looks at the form of the source and asks the loader of that form.

Not a loader itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .loaded import LoadedModel

if TYPE_CHECKING:
    import torch


def load_model(
    source: str | Path | torch.nn.Module,
    *,
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model of any form that DESIGN.md calls MODEL.

    Args:
        source: a timm name; a run directory; a folder with timm's `config.json`.
        tap: inner node whose features become the embedding.
        licence: SPDX id of a local model that states none, or to replace what it states.
        trust_remote_code: allow `file.py:function`.

    Raises:
        InputError: with the remedy, whatever is wrong with the source.
    """
    from .run_dir import CARD, load_run
    from .timm_dir import load_timm_folder, load_timm_name, read_json

    text = str(source)
    folder = Path(text.removeprefix("local-dir:"))
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder} has no config.json", expected="a run directory or a model folder of timm or Hugging Face"
            )
        config = read_json(folder / "config.json")
        if (folder / CARD).is_file():
            return load_run(folder, config, licence=licence)
        if "architecture" in config:
            return load_timm_folder(folder, config, licence=licence)
    return load_timm_name(text, licence=licence)

"""The features of a frozen model, computed once and kept in shards, so that a run that was killed goes on where it stood.

Not views: a probe learns from the images as they are. Not the classifier either (`probe.py`).

    RUN.partial/state/train-00000.safetensors    rows 0 to 255 of the images of `train`, float32 [256, D]
    RUN.partial/state/val-00000.safetensors      …

A shard is written whole or not at all, and carries the identity of its run: those of another are refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..models import LoadedModel
from ..partial import write_atomically
from ..train.checkpoint import check_identity, state_folder
from ..train.images import Images
from ..train.precision import Precision
from ..train.predict import predict

SHARD = 256  # images


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Where features come from and where they are kept.

    Attributes:
        model: in eval mode, on `device`. folder: of the run.
        identity: what a resumed run must share with the one that stopped, as JSON can hold it.
        bar: takes the share done, 0 to 1, and the seconds left.
    """

    model: LoadedModel
    images: Images
    folder: Path
    identity: Mapping[str, Any]
    device: torch.device
    bar: Callable[[float, float], None]

    def features(self, splits: Mapping[str, tuple[np.ndarray, Precision]]) -> dict[str, np.ndarray]:
        """The embeddings of the images of each split, float32 `[N, D]`, in order.

        Args:
            splits: by name: positions of its images, int64 `[N]`, and the arithmetic that the model runs in.

        Raises:
            InputError: an embedding is not finite, or not one vector per image (names the image); a shard is damaged or of
                another run; the disk is full.
        """
        todo = [(name, start, *split) for name, split in splits.items() for start in range(0, len(split[0]), SHARD)]
        count = sum(len(indexes) for indexes, _ in splits.values())
        found: dict[str, list[np.ndarray]] = {name: [] for name in splits}
        started, shown, computed = time.perf_counter(), 0, 0
        for name, start, indexes, precision in todo:
            chosen = indexes[start : start + SHARD]
            path = state_folder(self.folder) / f"{name}-{start // SHARD:05}.safetensors"
            identity = {**self.identity, "precision": precision, "shard": SHARD}
            rows = self._read(path, identity)
            if rows is None:
                rows = self._compute(chosen, precision)
                self._write(path, rows, identity)
                computed += len(chosen)
            shown += len(chosen)
            pace = (time.perf_counter() - started) / computed if computed else float("nan")
            self.bar(shown / count, pace * (count - shown))
            found[name].append(rows)
        return {name: np.concatenate(rows) for name, rows in found.items()}

    def _compute(self, indexes: np.ndarray, precision: Precision) -> np.ndarray:
        model, rows = self.model, []
        asked = predict(model.module, self.images, indexes, model.preprocess, device=self.device, precision=precision)
        for chosen, outputs in asked:
            embedding = outputs.embedding
            if embedding.ndim != 2:
                raise InputError(
                    f"the embedding of {model.name} has the shape {list(embedding.shape)}", expected="one vector per image"
                )
            finite = torch.isfinite(embedding).all(dim=1)
            if not finite.all():
                name = self.images.dataset.names[int(chosen[int(torch.nonzero(~finite)[0])])]
                raise InputError(f"{model.name} gives {name} features that are not finite", do="check the model's weights")
            rows.append(embedding.numpy())
        return np.concatenate(rows)

    def _write(self, path: Path, rows: np.ndarray, identity: Mapping[str, Any]) -> None:
        from safetensors.numpy import save

        write_atomically(path, save({"features": np.ascontiguousarray(rows)}, {"identity": json.dumps(identity)}))

    def _read(self, path: Path, identity: Mapping[str, Any]) -> np.ndarray | None:
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, framework="np") as file:
                check_identity(self.folder, json.loads((file.metadata() or {})["identity"]), identity)
                rows: np.ndarray = file.get_tensor("features")
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InputError(f"the features in {path} are damaged ({error})", do="start again without --resume") from error
        return rows

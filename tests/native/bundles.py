"""Small bundles with native variants, made as `export` makes them: golden inputs, both precisions, a task.

Not files of the repository: they are made anew by each test run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgefm.bundle import open_bundle, write_bundle
from edgefm.export.golden import golden, golden_entries
from edgefm.export.native import native_entries
from edgefm.models import LoadedModel
from edgefm.spec.manifest import Golden, Graph, Manifest, Tensor, Variant
from edgefm.spec.task import Task

from .vits import make

BINARY = Task(kind="binary", labels=("normal", "größer"), thresholds=(0.4,), temperature=1.5)
MULTICLASS = Task(kind="multiclass", labels=("a", "b", "c"), temperature=0.7)
MULTILABEL = Task(kind="multilabel", labels=("a", "b", "c"), thresholds=(0.3, 0.5, 0.9))
EMBEDDING = Task(kind="embedding")
TASKS = {task.kind: task for task in (BINARY, MULTICLASS, MULTILABEL, EMBEDDING)}


def native_variant(model: LoadedModel, precision: str, outputs: Mapping[str, np.ndarray]) -> tuple[Variant, dict[str, bytes]]:
    """The variant of a model and its files; `outputs` are those of one image, for their widths."""
    name, spec = f"native-{precision}", model.preprocess
    files = native_entries(model, precision, f"variants/{name}")  # type: ignore[arg-type]
    image = Tensor(name="images", shape=(-1, spec.channels, spec.size, spec.size))
    made = tuple(Tensor(name=output, shape=(-1, len(values))) for output, values in outputs.items())
    graphs = {"encoder": Graph(files=tuple(files), inputs=(image,), outputs=made)}
    return Variant(name=name, engine="native", precision=precision, graphs=graphs), files  # type: ignore[arg-type]


def new_manifest(
    name: str, task: Task, variants: tuple[Variant, ...], golden: tuple[Golden, ...], refused: str | None = None
) -> Manifest:
    """A manifest with no more than it must have."""
    return Manifest(name=name, edgefm="0.1.0", task=task, variants=variants, golden=golden, refused=refused)


def write_native(
    path: Path, kind: str, task: Task, *, precisions: tuple[str, ...] = ("int8", "fp32"), refused: str | None = None
) -> None:
    """Write a bundle of a model of `vits.py` that answers `task`."""
    model = replace(make(kind, lambda vit: vit.reset_classifier(len(task.labels))), task=task)
    pictures = golden(model)
    listed, entries = golden_entries(pictures)
    variants = []
    for precision in precisions:
        variant, files = native_variant(model, precision, pictures[0].outputs)
        variants.append(variant)
        entries |= files
    write_bundle(path, new_manifest(kind, task, tuple(variants), listed, refused), model.preprocess, entries, force=True)


def rewrite(path: Path, source: Path, entries: Mapping[str, bytes] = {}, **changes: Any) -> Path:
    """Write the bundle again with other members and fields of the manifest, all hashes right. Returns `path`."""
    with open_bundle(source) as bundle:
        kept = {name: bytes(bundle.view(name)) for name in bundle.manifest.entries}
        manifest, preprocess = msgspec.structs.replace(bundle.manifest, **changes), bundle.preprocess
    own = ("labels.json", "preprocess.json")
    write_bundle(path, manifest, preprocess, {k: v for k, v in {**kept, **entries}.items() if k not in own}, force=True)
    return path


def pictures(seed: int = 0) -> list[np.ndarray]:
    """Noise of both depths and of 1, 3 and 4 channels."""
    random = np.random.Generator(np.random.PCG64(seed))
    return [
        random.integers(0, 256, (90, 70), dtype=np.uint8),
        random.integers(0, 65536, (64, 64), dtype=np.uint16),
        random.integers(0, 256, (1, 1, 3), dtype=np.uint8),
        random.integers(0, 65536, (50, 130, 4), dtype=np.uint16),
    ]

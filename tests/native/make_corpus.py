"""Makes `csrc/fuzz/corpus/`, what fuzzing starts from. Run it as a script from the project's root to write the files anew.

Not a corpus of what fuzzing found: small good files of each kind, and two mutations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch

from edgefm.bundle import open_bundle, write_bundle
from edgefm.export.golden import npy, reference
from edgefm.models import LoadedModel
from edgefm.models.encoder import TimmEncoder
from edgefm.runtime.preprocess import prepare
from edgefm.spec.manifest import Golden
from edgefm.spec.preprocess import Preprocess

from ..bundle.make_format1 import FIXTURE
from .bundles import BINARY, native_variant, new_manifest

CORPUS = Path(__file__).resolve().parents[2] / "csrc" / "fuzz" / "corpus"
SHAPE = {
    "img_size": 8,
    "patch_size": 4,
    "embed_dim": 32,
    "depth": 1,
    "num_heads": 1,
    "mlp_ratio": 1.0,
    "in_chans": 1,
    "num_classes": 2,
}


def smallest() -> LoadedModel:
    """A vision transformer of five tokens."""
    torch.manual_seed(0)
    module = TimmEncoder(
        timm.create_model("vit_tiny_patch16_224", **SHAPE).eval(),
        architecture="vit_tiny_patch16_224",
        arguments=SHAPE,
        pooling="own",
    )
    spec = Preprocess(channels=1, size=8, resize_to=8, mean=(0.5,), std=(0.5,))
    return LoadedModel(module=module.eval(), preprocess=spec, task=BINARY, name="smallest", licence="unknown", sha256="0" * 64)


def bundle(path: Path, precision: str) -> None:
    """A bundle of it with one golden input of 3 x 2 pixels."""
    model = smallest()
    pixels = np.array([[0, 255, 3], [200, 90, 17]], np.uint8)
    outputs = reference(model, prepare(pixels, model.preprocess)[None], one=True)
    names = {name: f"golden/dot.{name}.npy" for name in outputs}
    golden = Golden(name="dot", pixels="golden/dot.npy", outputs=names)
    variant, files = native_variant(model, precision, outputs)
    entries = {**files, "golden/dot.npy": npy(pixels), **{names[name]: npy(values) for name, values in outputs.items()}}
    manifest = new_manifest("smallest", BINARY, (variant,), (golden,))
    write_bundle(path, manifest, model.preprocess, entries, force=True)


def make(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "native-int8"
    bundle(path, "int8")
    with open_bundle(path) as opened:
        parts = {name.rpartition("/")[2]: bytes(opened.view(name)) for name in opened.names()}
    (folder / "description").write_bytes(parts["encoder.json"] + b"\0" + parts["encoder.bin"])
    for name in ("manifest.json", "preprocess.json", "dot.npy"):
        (folder / name).write_bytes(parts[name])
    whole = FIXTURE.read_bytes()
    (folder / "format1").write_bytes(whole)
    (folder / "format1-cut").write_bytes(whole[:-7])
    (folder / "format1-changed").write_bytes(whole[:2000] + b"\xff" + whole[2001:])


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS)

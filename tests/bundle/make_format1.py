"""Makes `tests/fixtures/format1.efm`, the bundle that every later reader must open. Run it as a script to write the file anew.

Not a bundle that answers anything: its members are short texts in the place of graphs and weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgefm.bundle import append_evidence, write_bundle
from edgefm.spec.manifest import Ancestor, Golden, Graph, Manifest, Tensor, Variant
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format1.efm"
IDENTITY = "01010b036be1a584f6547901d1cff792b06dedd1f1e5e0827ad49fb74155be25"
FILE_SHA256 = "345da08a40aaad8de2657957d61b56d9b0fc99bb9e32ef465260728e3e481e67"

IMAGES = Tensor(name="images", shape=(-1, 1, 8, 8))
LOGITS = Tensor(name="logits", shape=(-1, 2))


def variant(engine: str, precision: str, *files: str) -> Variant:
    """A variant whose one graph has these files in the variant's own folder."""
    name = f"{engine}-{precision}"
    graph = Graph(files=tuple(f"variants/{name}/{file}" for file in files), inputs=(IMAGES,), outputs=(LOGITS,))
    return Variant(name=name, engine=engine, precision=precision, graphs={"encoder": graph}, accuracy={"auc": 0.9}, parity=0.0)


MANIFEST = Manifest(
    name="tiny",
    edgefm="0.1.0",
    task=Task(kind="binary", labels=("normal", "größer"), thresholds=(0.5,), temperature=1.25),
    variants=(variant("onnx", "fp32", "encoder.onnx", "encoder.weights"), variant("openvino", "int8", "encoder.xml")),
    golden=(Golden(name="dot", pixels="golden/dot.npy", outputs={"logits": "golden/dot-logits.npy"}),),
    lineage=(Ancestor(role="teacher", name="big", licence="Apache-2.0", sha256="0" * 64),),
    recipe={"seed": 7, "distill": {"lr": 1e-3}},
    versions={"onnx": "1.23"},
)
PREPROCESS = Preprocess(channels=1, size=8, resize_to=8, mean=(0.5,), std=(0.25,))
ENTRIES = {
    "variants/onnx-fp32/encoder.onnx": b"graph",
    "variants/onnx-fp32/encoder.weights": bytes(range(100)),
    "variants/openvino-int8/encoder.xml": b"<net/>",
    "golden/dot.npy": b"pixels",
    "golden/dot-logits.npy": b"",
    "card.md": b"# tiny\n",
}


def make(path: Path) -> str:
    """Write the bundle and its evidence; the bundle id."""
    identity = write_bundle(path, MANIFEST, PREPROCESS, ENTRIES, force=True)
    append_evidence(path, "evidence/report.json", b"{}")
    return identity


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURE))

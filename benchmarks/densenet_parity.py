"""DenseNet-121 on real chest X-rays: do torch, ONNX Runtime, OpenVINO and EdgeFM's runtime decide alike?

Not a timing and not a claim about int8's cost on other models.

    python benchmarks/densenet_parity.py [--limit N] [--int8]

The reference is the teacher of the test data (EDGEFM_TEST_DATA) as timm loads it, with timm's own transform, on the 1,211 test
images of cxr_pneumonia. Beside it: its ONNX graph in plain ONNX Runtime and its IR in plain OpenVINO (f32, and OpenVINO's
default, which is bf16 where the processor has it) on the same tensors, and `Session.predict` on the files. --int8 adds the
variants of `edgefm quantize` at its defaults.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
TEACHER = DATA / "teachers" / "densenet121_cxr"
LABELS = DATA / "cxr_pneumonia" / "labels.csv"
LIMIT = 1e-4  # largest difference of AUC

Answer = Callable[[Path, np.ndarray], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="the first N test images only")
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    files, truth = test_images(options.limit)
    with tempfile.TemporaryDirectory() as folder:
        contenders = dict(answers(Path(folder), options.int8))
        prepare = timm_transform()
        found = {name: np.empty(len(files)) for name in contenders}
        for index, file in enumerate(files):
            tensor = prepare(file)
            for name, answer in contenders.items():
                found[name][index] = answer(file, tensor)
    results = {name: compare(probability, found["torch"], truth) for name, probability in found.items()}
    exact = [result for name, result in results.items() if "bf16" not in name and "int8" not in name and "default" not in name]
    save(
        "densenet_parity",
        {
            "images": len(files),
            "positive": int(truth.sum()),
            "limit_auc": LIMIT,
            "passed": all(abs(row["auc"] - results["torch"]["auc"]) <= LIMIT and row["flipped"] == 0 for row in exact),
            "contenders": results,
        },
    )


def test_images(limit: int | None) -> tuple[list[Path], np.ndarray]:
    """Files of the test split and whether each shows pneumonia, bool `[N]`."""
    with open(LABELS, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][:limit]
    return [LABELS.parent / row["file"] for row in rows], np.array([row["label"] == "pneumonia" for row in rows])


def timm_transform() -> Callable[[Path], np.ndarray]:
    """The teacher's own preprocessing: file to float32 `[1, 3, 224, 224]`."""
    import timm
    from PIL import Image

    config = json.loads((TEACHER / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
    return lambda file: transform(Image.open(file).convert("RGB"))[None].numpy()


def answers(folder: Path, int8: bool) -> Iterator[tuple[str, Answer]]:
    """Every contender: its name and a function of (file, timm's tensor) to the probability of pneumonia."""
    import onnxruntime
    import openvino
    import timm
    import torch

    import edgefm

    model = timm.create_model(f"local-dir:{TEACHER}", pretrained=True).eval()

    def by_torch(_: Path, tensor: np.ndarray) -> float:
        with torch.no_grad():
            return positive(model(torch.from_numpy(tensor)).numpy())

    yield "torch", by_torch
    bundle = edgefm.export(TEACHER, folder / "teacher.efm")
    with edgefm.open_bundle(bundle) as opened:
        for name in opened.names():
            if name.startswith("variants/"):
                (folder / Path(name).name).write_bytes(opened.view(name))
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    yield "ONNX Runtime", lambda _, tensor: positive(session.run(["logits"], {"images": tensor})[0])
    core = openvino.Core()  # kept: a core that goes leaves the thread without its signal stack
    for name, hint in (("OpenVINO f32", {"INFERENCE_PRECISION_HINT": "f32"}), ("OpenVINO default", {})):
        compiled = core.compile_model(folder / "encoder.xml", "CPU", hint)
        ran = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        name = f"{name} ({ran})" if not hint else name
        yield name, lambda _, tensor, compiled=compiled: positive(compiled({"images": tensor})["logits"])
    for variant in ("onnx-fp32", "openvino-fp32"):
        yield f"EdgeFM {variant}", by_session(edgefm.Session(bundle, variant=variant))
    if int8:
        small = edgefm.quantize(TEACHER, LABELS, folder / "int8.efm")
        for variant in ("onnx-int8", "openvino-int8", "openvino-bf16"):
            yield f"EdgeFM {variant}", by_session(edgefm.Session(small, variant=variant))


def by_session(session: Any) -> Answer:
    """A contender that reads the file itself."""
    return lambda file, _: float(session.predict(file).probabilities["pneumonia"])


def positive(logits: np.ndarray) -> float:
    """Softmax of `[1, 2]`, its second column."""
    z = logits[0].astype(np.float64)
    return float(1 / (1 + np.exp(z[0] - z[1])))


def compare(probability: np.ndarray, reference: np.ndarray, truth: np.ndarray) -> dict[str, float | int]:
    """AUC by scikit-learn, sensitivity and specificity at 0.5, and the distance from the reference."""
    from sklearn.metrics import roc_auc_score

    decided = probability >= 0.5
    return {
        "auc": round(float(roc_auc_score(truth, probability)), 6),
        "sensitivity": round(float(decided[truth].mean()), 6),
        "specificity": round(float((~decided)[~truth].mean()), 6),
        "flipped": int((decided != (reference >= 0.5)).sum()),
        "largest_difference": float(f"{np.abs(probability - reference).max():.2g}"),
    }


if __name__ == "__main__":
    main()

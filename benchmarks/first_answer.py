"""From a fresh process, one PNG file to the answer: EdgeFM, plain ONNX Runtime, plain OpenVINO, torch; seconds and peak memory.

Not the latency of a loaded model (`predict_overhead.py`). Files are in the page cache: what is measured is the software.

    python benchmarks/first_answer.py [--bundle FILE.efm] [--image FILE.png] [--teacher FOLDER] [--runs 11]

Without --bundle the DenseNet-121 teacher of the test data (EDGEFM_TEST_DATA) is exported; without --image a PNG is made of the
first image of its data. The plain contenders read the same graphs, unpacked from the bundle, and prepare with Pillow and numpy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from measure import process, save, timing

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
LIMITS = {"edgefm onnx": 0.35, "edgefm openvino first": 0.7, "edgefm openvino again": 0.5}
PLAIN = {
    "edgefm onnx": "plain onnx",
    "edgefm openvino first": "plain openvino first",
    "edgefm openvino again": "plain openvino again",
}

EDGEFM = """
import sys, edgefm
answer = edgefm.Session(sys.argv[1], variant=sys.argv[2], threads=@THREADS@).predict(sys.argv[3])
print(list(answer.probabilities.values())[1], flush=True)
"""
PREPARE = """
import sys, numpy as np
from PIL import Image
picture = Image.open(sys.argv[2]).convert("RGB").resize((224, 224), Image.BICUBIC)
x = (np.asarray(picture, np.float32) / 255 - @MEAN@) / @STD@
x = np.ascontiguousarray(x.transpose(2, 0, 1)[None], dtype=np.float32)
def answer(z):
    e = np.exp(z[0] - z[0].max()); print((e / e.sum())[1], flush=True)
"""
ONNX = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = @THREADS@
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
answer(session.run(["logits"], {"images": x})[0])
"""
OPENVINO = """
sys.modules["openvino_telemetry"] = None
import openvino
core = openvino.Core()
model = core.read_model(sys.argv[1])
model.reshape([1, 3, 224, 224])
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": @THREADS@, "PERFORMANCE_HINT": "LATENCY"}
if len(sys.argv) > 3:
    settings["CACHE_DIR"] = sys.argv[3]
answer(core.compile_model(model, "CPU", settings)(x)["logits"])
"""
TORCH = """
import timm, torch
torch.set_num_threads(@THREADS@)
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
with torch.inference_mode():
    answer(model(torch.from_numpy(x)).numpy())
"""
UNPACK = """
import json, sys
from pathlib import Path
from edgefm.bundle import open_bundle
with open_bundle(sys.argv[1]) as bundle:
    for name in bundle.names():
        if name.startswith("variants/"):
            Path(sys.argv[2], name).parent.mkdir(parents=True, exist_ok=True)
            Path(sys.argv[2], name).write_bytes(bundle.view(name))
    print(json.dumps([bundle.preprocess.mean, bundle.preprocess.std]))
"""
EXPORT = "import sys, edgefm; edgefm.export(sys.argv[1], sys.argv[2])"
CONVERT = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('L').save(sys.argv[2])"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--teacher", type=Path, default=DATA / "teachers" / "densenet121_cxr")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, work: Path) -> None:
    # every heavy step has a process of its own: the peak of this one would count as its children's
    base = os.environ | {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}
    bundle, image = options.bundle, options.image
    if bundle is None:
        bundle = work / "densenet.efm"
        process(python(EXPORT, options.teacher, bundle), env=base)
    if image is None:
        image = work / "image.png"
        first = min((DATA / "cxr_pneumonia" / "images").iterdir())
        process(python(CONVERT, first, image), env=base)
    mean, std = process(python(UNPACK, bundle, work), env=base).stdout.strip()[2:-2].split("], [")
    prepare = PREPARE.replace("@MEAN@", f"np.array([{mean}])").replace("@STD@", f"np.array([{std}])")
    onnx, xml = work / "variants/onnx-fp32/encoder.onnx", work / "variants/openvino-fp32/encoder.xml"
    cold, warm, plain_warm = work / "cold", work / "warm", work / "plain-warm"
    commands = {
        "edgefm onnx": (python(EDGEFM, bundle, "onnx-fp32", image), warm),
        "plain onnx": (python(prepare + ONNX, onnx, image), warm),
        "edgefm openvino first": (python(EDGEFM, bundle, "openvino-fp32", image), cold),
        "plain openvino first": (python(prepare + OPENVINO, xml, image), warm),
        "edgefm openvino again": (python(EDGEFM, bundle, "openvino-fp32", image), warm),
        "plain openvino again": (python(prepare + OPENVINO, xml, image, plain_warm), warm),
        "torch": (python(prepare + TORCH, options.teacher, image), warm),
    }
    if not options.teacher.is_dir():
        del commands["torch"]
    runs: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in commands}
    for turn in range(options.runs + 1):
        for name, (command, cache) in commands.items():
            shutil.rmtree(cold, ignore_errors=True)
            command = [part.replace("@THREADS@", str(options.threads)) for part in command]
            done = process(command, env=base | {"XDG_CACHE_HOME": str(cache)})
            if turn:  # the first round fills the page cache and the compiled models
                runs[name].append((done.first_line, done.seconds, done.peak_mib, float(done.stdout)))
    found = {
        name: {
            "seconds_to_answer": {"p50": at50 / 1e3, "p95": at95 / 1e3, "n": count},
            "seconds_to_exit_p50": sorted(run[1] for run in taken)[len(taken) // 2],
            "peak_mib": round(max(run[2] for run in taken), 1),
            "probability": taken[0][3],
        }
        for name, taken in runs.items()
        for at50, at95, count, *_ in [timing([run[0] * 1e3 for run in taken])]
    }
    claims = {
        name: {
            "limit_seconds": limit,
            "holds": found[name]["seconds_to_answer"]["p50"] <= limit,  # type: ignore[index]
            "seconds_over_plain": round(
                found[name]["seconds_to_answer"]["p50"] / found[PLAIN[name]]["seconds_to_answer"]["p50"],
                3,  # type: ignore[index]
            ),
            "peak_over_plain": round(found[name]["peak_mib"] / found[PLAIN[name]]["peak_mib"], 3),  # type: ignore[operator]
        }
        for name, limit in LIMITS.items()
    }
    save(
        "first_answer",
        {
            "bundle_mib": round(bundle.stat().st_size / 2**20, 1),
            "image": image.name,
            "threads": options.threads,
            "contenders": found,
            "claims": claims,
        },
    )


if __name__ == "__main__":
    main()

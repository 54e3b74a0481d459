"""A ViT-S in int8, from the start of a process to the first answer: the C example, and `edgefm run` with each engine.

Not the latency of a loaded model (`native_vit.py`). Random weights; files are in the page cache: the software is measured.

    python benchmarks/native_start.py [--runs 15]

Each process opens the bundle, checks every byte of it, and answers for one picture of 224 x 224 pixels. `edgefm run` was run
once before, so that the variant has been held to its golden outputs, and OpenVINO finds its compiled model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import process, save, timing

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "build" / "library"
ARCHITECTURE, SIDE = "vit_small_patch16_224", 224
VARIANTS = ("native-int8", "openvino-int8", "onnx-int8")
C_MS, C_MIB, RUN_S, LIBRARY_MIB = 60.0, 64.0, 0.25, 1.0  # at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # in a process of its own: the kernel counts this one's peak as its children's
        child = multiprocessing.get_context("spawn").Process(target=make, args=(work,))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit("the bundle was not made")
        save("native_start", measured(work, options.runs))


def make(work: Path) -> None:
    """The bundle, the picture as PNG and PGM, and the C example with its library."""
    from PIL import Image

    import edgefm
    from edgefm.data.phantom import LABELS
    from edgefm.data.radiograph import radiograph
    from edgefm.models import build_student
    from edgefm.spec.preprocess import Preprocess
    from edgefm.spec.task import make_task

    picture = Image.fromarray(radiograph(0, 0, SIDE, SIDE)).convert("L")
    picture.save(work / "picture.png")
    picture.save(work / "picture.pgm")
    model = build_student(ARCHITECTURE, task=make_task("binary", LABELS), preprocess=Preprocess(), seed=0)
    data = f"phantom:opacity?n=100&size={SIDE}"
    edgefm.quantize(model, data, work / "vit.efm", max_drop=1.0, max_flips=1.0, set=("quantize.calibration_images=16",))
    with edgefm.open_bundle(work / "vit.efm") as bundle:
        lean = [name for name in VARIANTS if name in {each.name for each in bundle.manifest.variants}]
    for name in lean:
        edgefm.slim(work / "vit.efm", keep=(name,), out=work / f"{name}.efm")
    subprocess.run(["make", "-s", "library"], cwd=ROOT, check=True)
    compile_c = ["gcc", "-std=c11", "-O2", "-Icsrc/include", "csrc/examples/predict.c", "-o", str(work / "predict")]
    subprocess.run([*compile_c, f"-L{LIBRARY}", "-ledgefm", f"-Wl,-rpath,{LIBRARY}"], cwd=ROOT, check=True)


def measured(work: Path, runs: int) -> dict[str, object]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(work / "cache")}
    commands = {"C": [str(work / "predict"), str(work / "native-int8.efm"), str(work / "picture.pgm")]}
    for name in VARIANTS:
        if (work / f"{name}.efm").exists():
            words = ["run", str(work / f"{name}.efm"), str(work / "picture.png")]
            commands[f"edgefm run, {name}"] = [sys.executable, "-m", "edgefm", *words]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            done = process(command, env=environment)
            if turn:  # the first fills the caches
                taken[name].append((done.seconds * 1e3, done.peak_mib))
    found = {}
    for name, each in taken.items():
        p50, p95, count, *_ = timing([milliseconds for milliseconds, _ in each])
        found[name] = {"p50_ms": p50, "p95_ms": p95, "n": count, "peak_mib": round(max(peak for _, peak in each), 1)}
    library = (LIBRARY / "libedgefm.so").stat().st_size / 2**20
    holds = {
        "C, start to answer": found["C"]["p50_ms"] <= C_MS,
        "C, memory": found["C"]["peak_mib"] <= C_MIB,
        "edgefm run": found["edgefm run, native-int8"]["p50_ms"] <= RUN_S * 1e3,
        "library": library <= LIBRARY_MIB,
    }
    bundle = round((work / "native-int8.efm").stat().st_size / 2**20, 1)
    return {"bundle_mib": bundle, "library_mib": round(library, 3), "processes": found, "holds": holds}


if __name__ == "__main__":
    main()

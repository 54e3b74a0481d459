"""File to answer: the int8 student of `main_path.py` beside its teacher in torch and in OpenVINO at its best precision.

Not accuracy (`main_path.py`, `main_path_int8.py`). Run those first, with the same --work.

    python benchmarks/main_path_speed.py [--work runs/main_path] [--seed 0] [--runs 100]

Warm: loaded models, contenders in turn, from a JPEG file to the answer: one answer each, so that every contender finds the
caches full of the others' weights, and rows of ten, of which the first does not count. Fresh: a new process each, to its
answer, and its peak memory. The student runs the variant that the device chooses. The teacher's torch is channels-last, in
fp32 and in bf16, and its OpenVINO has a static shape, in f32 and in bf16: each is quoted at its faster precision. A processor
without bf16 has a result file of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from first_answer import EDGEFM, PREPARE, TORCH, python
from main_path import ROOT, TEACHER, folder, test_images, workplace
from measure import alternate, latency, process, ratio, save, timing

from edgefm.runtime.cpu import runs_bf16

TARGETS = {"warm, teacher in torch": 10.0, "warm, teacher in OpenVINO": 3.0, "fresh, teacher in torch": 4.0, "memory": 5.0}
ROW = 10  # answers, the first not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_path")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--fresh-runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    bundle = folder(workplace(options), "distilled", options.seed).with_suffix(".int8.efm")
    image = test_images()[0][0]
    fresh = from_fresh_processes(bundle, image, options)  # before torch makes this process large
    warm, rows, chosen = loaded(bundle, image, options)
    ratios = {
        **against(warm, "warm"),
        **against(rows, "warm, in a row"),
        "fresh, teacher in torch": round(fresh["teacher in torch"]["seconds"] / fresh["student"]["seconds"], 2),
        "memory": round(fresh["teacher in torch"]["peak_mib"] / fresh["student"]["peak_mib"], 2),
    }
    save(
        "main_path_speed" if runs_bf16() else "main_path_speed_without_bf16",
        {
            "threads": options.threads,
            "variant": chosen,
            "warm_milliseconds": {name: each._asdict() for name, each in warm.items()},
            "in_a_row_milliseconds": {name: each._asdict() for name, each in rows.items()},
            "fresh": fresh,
            "times_faster_or_smaller": ratios,
            "targets": TARGETS,
            "holds": {name: ratios[name] >= target for name, target in TARGETS.items()},
        },
    )


def against(times: dict[str, Any], how: str) -> dict[str, float]:
    """How many times as long the teacher takes, in each library at its best precision."""
    best = {
        library: min((each for name, each in times.items() if library in name), key=lambda each: each.p50)
        for library in ("torch", "OpenVINO")
    }
    return {f"{how}, teacher in {library}": ratio(each, times["student"]) for library, each in best.items()}


def in_a_row(call: Callable[[], object]) -> Callable[[], float]:
    """Milliseconds of one answer, as the mean of a row of them."""

    def run() -> float:
        call()
        start = time.perf_counter()
        for _ in range(ROW - 1):
            call()
        return (time.perf_counter() - start) * 1e3 / (ROW - 1)

    return run


def loaded(bundle: Path, image: Path, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Milliseconds from the file to the answer, everything loaded: one by one, in rows; the sentence of the device's choice."""
    import openvino
    import timm
    import torch
    from PIL import Image

    import edgefm

    torch.set_num_threads(options.threads)
    model = timm.create_model(f"local-dir:{TEACHER}", pretrained=True).eval().to(memory_format=torch.channels_last)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config)

    def read() -> torch.Tensor:
        return transform(Image.open(image).convert("RGB"))[None]

    def by_torch(bf16: bool) -> Callable[[], object]:
        def answer() -> object:
            x = read().contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return model(x).float().softmax(1).numpy()

        return answer

    contenders: dict[str, Callable[[], object]] = {}
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as work, edgefm.Session(bundle, threads=options.threads, allow_refused=True) as session:
        contenders["student"] = lambda: session.predict(image)
        with edgefm.open_bundle(edgefm.export(TEACHER, Path(work) / "teacher.efm")) as opened:
            for name in opened.names():
                if name.startswith("variants/openvino-fp32/"):
                    (Path(work) / Path(name).name).write_bytes(opened.view(name))
        for precision in ("f32", "bf16"):
            graph = core.read_model(Path(work) / "encoder.xml")
            graph.reshape([1, *config["input_size"]])
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": options.threads}
            compiled = core.compile_model(graph, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
            contenders[f"teacher in OpenVINO, {precision}"] = lambda compiled=compiled: compiled(read().numpy())["logits"]
            contenders[f"teacher in torch, {precision}"] = by_torch(precision == "bf16")
        single = alternate(contenders, options.runs, warmup=5)
        calls = {name: in_a_row(call) for name, call in contenders.items()}
        rows = {name: timing(taken) for name, taken in latency.alternate(calls, options.runs // 4, warmup=1).items()}
        return single, rows, session.choice


def from_fresh_processes(bundle: Path, image: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds from the start of a process to its answer, and the largest peak memory, for student and torch teacher."""
    prepare = PREPARE.replace("@MEAN@", "np.float32(0.5)").replace("@STD@", "np.float32(0.25)")
    code = EDGEFM.replace("variant=sys.argv[2], ", "allow_refused=True, ").replace("sys.argv[3]", "sys.argv[2]")
    commands = {
        "student": python(code.replace("@THREADS@", str(options.threads)), bundle, image),
        "teacher in torch": python((prepare + TORCH).replace("@THREADS@", str(options.threads)), TEACHER, image),
    }
    runs: dict[str, list[Any]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as cache:
        for turn in range(options.fresh_runs + 1):
            for name, command in commands.items():
                environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": cache, "ORT_DISABLE_TELEMETRY": "1"}
                done = process(command, env=environment)
                runs[name] += [done] if turn else []  # the first one chooses the variant and fills the caches
    return {
        name: {
            "seconds": round(float(np.median([each.first_line for each in taken])), 4),
            "peak_mib": round(max(each.peak_mib for each in taken), 1),
            "n": len(taken),
        }
        for name, taken in runs.items()
    }


if __name__ == "__main__":
    main()

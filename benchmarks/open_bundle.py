"""What checking every byte costs: opening a 90 MB bundle, beside plain SHA-256 of the file, ZIP's own check, a plain read.

Not the time to an answer (`first_answer.py`): no engine is loaded here. Target: at most 0.1 s on a CPU with SHA instructions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import measure

from edgefm.bundle import open_bundle, write_bundle
from edgefm.spec.manifest import Graph, Manifest, Tensor, Variant
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

TARGET_MS = 100.0
MEGABYTES = 90
FRESH = "import sys, time; from edgefm.bundle import open_bundle; t = time.perf_counter(); open_bundle(sys.argv[1]); "
FRESH += "print((time.perf_counter() - t) * 1e3)"


def make_bundle(path: Path) -> None:
    """A bundle of two variants whose weights, random bytes, take 90 MB together: fp32 four fifths, int8 the rest."""
    images, logits = Tensor(name="images", shape=(-1, 3, 224, 224)), Tensor(name="logits", shape=(-1, 2))
    variants, entries = [], {}
    for precision, share in (("fp32", 0.8), ("int8", 0.2)):
        files = tuple(f"variants/onnx-{precision}/encoder.{end}" for end in ("onnx", "weights"))
        entries |= {files[0]: os.urandom(200_000), files[1]: os.urandom(int(share * MEGABYTES * 1e6))}
        graph = Graph(files=files, inputs=(images,), outputs=(logits,))
        variants.append(Variant(name=f"onnx-{precision}", engine="onnx", precision=precision, graphs={"encoder": graph}))
    task = make_task("binary", ("normal", "pneumonia"))
    write_bundle(path, Manifest(name="benchmark", edgefm="0", task=task, variants=tuple(variants)), Preprocess(), entries)


def opened(path: Path) -> None:
    open_bundle(path).close()


def opened_on_one_core(path: Path) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        open_bundle(path).close()
    finally:
        os.sched_setaffinity(0, cores)


def hashed(path: Path) -> None:
    hashlib.sha256(path.read_bytes()).hexdigest()


def tested(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def processor(path: Path, runs: int) -> float:
    """Milliseconds of processor time of one `open_bundle`, all threads together: says what a busy machine's clock cannot."""
    start = time.process_time()
    for _ in range(runs):
        opened(path)
    return round((time.process_time() - start) * 1e3 / runs, 1)


def fresh(path: Path, runs: int, before: Callable[[], None]) -> measure.Timing:
    """Milliseconds inside a new process for its first `open_bundle`, `before` having been called each time."""
    taken = []
    for _ in range(runs):
        before()
        done = subprocess.run([sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, check=True)
        taken.append(float(done.stdout))
    return measure.timing(taken)


def evict(path: Path) -> None:
    """Ask the kernel to forget the file's pages, so that the next reader waits for the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=40)
    options.add_argument("--out", type=Path, default=measure.RESULTS / "open_bundle.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.efm")
        make_bundle(path)
        contenders = {
            "open_bundle, all cores": opened,
            "open_bundle, one core": opened_on_one_core,
            "hashlib.sha256 of the file": hashed,
            "zipfile.testzip (CRC-32)": tested,
            "read of the file": Path.read_bytes,
        }
        bound = {name: lambda call=call: call(path) for name, call in contenders.items()}  # type: ignore[misc]
        timings = measure.alternate(bound, runs=chosen.runs)
        runs = max(3, chosen.runs // 4)
        timings["open_bundle, fresh process"] = fresh(path, runs, lambda: None)
        timings["open_bundle, fresh process, file not in memory"] = fresh(path, runs, lambda: evict(path))
        processor_ms = processor(path, runs)
        size = path.stat().st_size
    ours = timings["open_bundle, all cores"]
    machine = measure.machine()
    result = {
        "script": "benchmarks/open_bundle.py",
        "machine": machine | {"openssl": ssl.OPENSSL_VERSION},
        "sha_instructions": bool({"sha_ni", "sha2"} & set(machine["features"])),
        "threads": len(os.sched_getaffinity(0)),
        "megabytes": round(size / 1e6, 1),
        "milliseconds": {name: timing._asdict() for name, timing in timings.items()},
        "ratio": {name: measure.ratio(ours, timing) for name, timing in timings.items()},
        "open_bundle_processor_ms": processor_ms,
        "target_ms": TARGET_MS,
        "within_target": ours.p50 <= TARGET_MS,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(chosen.out.read_text())


if __name__ == "__main__":
    main()

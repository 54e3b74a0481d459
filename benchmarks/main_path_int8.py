"""What int8 costs the distilled students of `main_path.py`, against the best other precision of the same engine.

Not a timing, and not the choice of the students. Run `main_path.py` first, with the same --work.

    python benchmarks/main_path_int8.py [--work runs/main_path] [--seeds 0 1 2] [--epochs 6]

`edgefm quantize` at its defaults, with its gate; then every variant answers for the 1,211 test images, never seen.
Sensitivity and the like are those at the threshold that the bundle stores. Intervals are paired, by patient. What
recovered the decisions is in `kept`, after `trials`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from main_path import LABELS, ROOT, folder, point, test_images, variant_answers, workplace
from measure import save

LIMITS = {"auc": 0.002, "balanced_accuracy": 0.005, "sensitivity": 0.01}
EQUAL, SIZE = 0.99, 0.3
ENGINES = ("onnx", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_path")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    files, truth, patients = test_images()
    found = {}
    for seed in options.seeds:
        run = folder(workplace(options), "distilled", seed)
        found[str(seed)] = measure(run, run.with_suffix(".int8.efm"), files, truth, patients)
    holds = {seed: each["refused"] is None and all(passes(each, engine) for engine in ENGINES) for seed, each in found.items()}
    save("main_path_int8", {"limits": LIMITS, "equal": EQUAL, "size": SIZE, "seeds": found, "holds": holds})


def passes(seed: dict[str, Any], engine: str) -> bool:
    """Whether this engine's int8 is there and keeps every limit."""
    row = seed["int8"].get(f"{engine}-int8")
    return row is not None and all(row["holds"].values())


def measure(run: Path, bundle: Path, files: list[Path], truth: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    import edgefm
    from edgefm.errors import GateRefused

    with contextlib.suppress(GateRefused):  # the bundle is there and says so itself; `refused` is part of the result
        edgefm.quantize(run, LABELS, bundle, force=True)
    with edgefm.open_bundle(bundle) as opened:
        manifest, evidence = opened.manifest, json.loads(bytes(opened.view("evidence/quantize.json")))
    sizes = {
        each.name: sum(manifest.entries[file].size for graph in each.graphs.values() for file in graph.files)
        for each in manifest.variants
    }
    names = [*sizes, *(["openvino-bf16"] if any(each.bf16 for each in manifest.variants) else [])]
    outputs = {name: variant_answers(bundle, name, files) for name in names}
    threshold = manifest.task.thresholds[0]
    result: dict[str, Any] = {"refused": manifest.refused, "threshold": threshold, "recipe": manifest.recipe["quantize"]}
    result |= {"kept": evidence["kept"], "trials": evidence["trials"]}
    result["variants"] = {name: point(outputs[name], truth, threshold) for name in names}
    result["int8"] = {}
    for engine in ENGINES:
        others = [name for name in names if name.startswith(engine) and not name.endswith("int8")]
        best = max(others, key=lambda name: result["variants"][name]["auc"])
        if f"{engine}-int8" in names:
            row = against(outputs[f"{engine}-int8"], outputs[best], truth, patients, threshold)
            share = round(sizes[f"{engine}-int8"] / sizes[f"{engine}-fp32"], 3)
            row["holds"]["size"] = share <= SIZE
            result["int8"][f"{engine}-int8"] = {"against": best, "size_over_fp32": share, **row}
    return result


def against(small: np.ndarray, other: np.ndarray, truth: np.ndarray, patients: np.ndarray, threshold: float) -> dict[str, Any]:
    """How much of each metric int8 loses, with intervals, the share of equal decisions, and whether the limits hold."""
    from edgefm.verify.intervals import bootstrap_intervals

    def drops(rows: np.ndarray) -> dict[str, float]:
        before, after = (point(each[rows], truth[rows], threshold) for each in (other, small))
        return {name: before[name] - after[name] for name in before}

    found = bootstrap_intervals(drops, patients)
    flipped = int(((small >= threshold) != (other >= threshold)).sum())
    holds = {name: found[name].value <= limit for name, limit in LIMITS.items()}
    return {
        "drops": {name: {key: round(float(value), 5) for key, value in each._asdict().items()} for name, each in found.items()},
        "flipped": flipped,
        "equal_decisions": round(1 - flipped / len(truth), 5),
        "holds": holds | {"equal_decisions": 1 - flipped / len(truth) >= EQUAL},
    }


if __name__ == "__main__":
    main()

"""What `quantize` would take: images, minutes, disk and memory, from a few real runs of the model. Writes nothing.

Not a promise: other work on the machine makes it longer.
"""

from __future__ import annotations

import resource
import time

from ..export.fp32 import ENGINES
from ..export.golden import reference
from .job import Job

# seconds that do not depend on the model or the images: importing the libraries, tracing, converting, loading engines
FIXED = 15.0
# passes of the torch model that the same image costs in other ways: rough figures, not measurements
CALIBRATE, MEASURE = 8.0, 3.0  # to calibrate: two kinds of ranges


def plan(job: Job) -> list[str]:
    """Sentences about the run. Raises `ImageError` if the first images cannot be read."""
    few = [int(index) for index in job.val[:4]]
    start = time.perf_counter()
    prepared = [job.prepare(job.dataset.pixels(index))[None] for index in few]
    read = (time.perf_counter() - start) / len(few)
    reference(job.model, prepared[0])
    start = time.perf_counter()
    for tensor in prepared:
        reference(job.model, tensor)
    answer = (time.perf_counter() - start) / len(few)
    calibration, val, share = len(job.calibration), len(job.val), len(job.recipe.quantize.engines) / len(ENGINES)
    seconds = FIXED + calibration * (2 * read + CALIBRATE * answer) + val * (2 * read + (1 + MEASURE * share) * answer)
    weights = sum(4 * value.numel() for value in job.model.module.state_dict().values())
    disk = 1.25 * weights * len(job.recipe.quantize.engines) + 1.3e6
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 10 * weights + 0.5e9
    minutes = job.recipe.quantize.minutes
    names = [f"{engine}-{precision}" for precision in ("fp32", "int8") for engine in job.recipe.quantize.engines]
    lines = [
        f"{job.model.name}: {', '.join(names)}; {job.calibrated()}; the gate looks at {val} images of 'val'",
        f"about {_minutes(seconds)} on this machine, {disk / 1e6:.0f} MB for the bundle and as much again "
        f"while it is made, {peak / 1e9:.1f} GB of memory",
    ]
    if job.graph_engines:
        more = f"trials for about {_minutes(60 * minutes)} more at most, and twice the disk in OUT.partial"
        lines.append(f"if int8 changes too much: {more}")
    return lines


def _minutes(seconds: float) -> str:
    count = max(1, round(seconds / 60))
    return "1 minute" if count == 1 else f"{count} minutes"

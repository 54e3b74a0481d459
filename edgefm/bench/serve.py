"""The inside of a contender's process: load, answer once, then run what stdin asks for and tell how long each took.

Not the comparison: whoever starts the process sends the words and collects the times (`contender.py`).

    stdin     a word a line; at its end the process ends, so none outlives its parent
    stdout    {"peak_mib": …} once the first answer is there, then the facts, then a reply per word; or {"error": …}

    "answer", "model"   {"ms": …} of one run
    "stages"            {"decode": …, "preprocess": …, "model": …, "postprocess": …}, milliseconds within one answer
    "batch 4 2"         {"ms": […]} of several runs of 4 images on 2 threads, loaded for that; null for who cannot
    "peak"              {"peak_mib": …} so far
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..errors import EdgeFMError
from ..runtime.answer import answered
from ..runtime.decode import decode
from ..runtime.engines import load_engine, version
from ..runtime.session import Session
from .latency import timed
from .memory import peak_mib

STAGES = ("decode", "preprocess", "model", "postprocess")
FEWEST = 3
BATCH_SECONDS = 0.5


class Work(NamedTuple):
    """What a contender can do, loaded.

    Attributes:
        answer: from the image file to the answer.
        model: the model alone, from the prepared tensor to its outputs.
        facts: engine, version, precision (that really ran, read back) and threads; of a rival the source of its weights, too.
        stages: the four steps of an answer, in the order of `STAGES`: each takes what the one before returned, the first None.
        batch: images per run and threads to a callable that runs so many prepared images once.
    """

    answer: Callable[[], object]
    model: Callable[[], object]
    facts: Callable[[], dict[str, Any]]
    stages: tuple[Callable[[Any], Any], ...] = ()
    batch: Callable[[int, int], Callable[[], object]] | None = None


def serve(load: Callable[..., Work]) -> None:
    """Run until stdin ends. The settings for `load` are JSON in the first argument."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no reply

    def reply(**fields: Any) -> None:
        os.write(replies, msgspec.json.encode(fields) + b"\n")

    try:
        work = load(**msgspec.json.decode(sys.argv[1]))
        work.answer()
        reply(peak_mib=peak_mib())
        reply(**work.facts())
        for line in sys.stdin:
            word, *numbers = line.split()
            if word == "stages":
                reply(**_stages(work.stages))
            elif word == "batch":
                reply(ms=work.batch and _batches(work.batch(*map(int, numbers))))
            elif word == "peak":
                reply(peak_mib=peak_mib())
            else:
                reply(ms=timed({"answer": work.answer, "model": work.model}[word])())
    except EdgeFMError as error:
        reply(error=str(error).rstrip("."))


def _stages(stages: tuple[Callable[[Any], Any], ...]) -> dict[str, float]:
    """One answer, with a look at the clock after each stage."""
    value, taken = None, list[float]()
    for stage in stages:
        start = time.perf_counter()
        value = stage(value)
        taken.append((time.perf_counter() - start) * 1e3)
    return dict(zip(STAGES, taken, strict=False))


def _batches(run: Callable[[], object]) -> list[float]:
    """Milliseconds of each of at least `FEWEST` runs, more until `BATCH_SECONDS` have passed; one before does not count."""
    run()
    call, taken, stop = timed(run), list[float](), time.perf_counter() + BATCH_SECONDS
    while len(taken) < FEWEST or time.perf_counter() < stop:
        taken.append(call())
    return taken


def bundle(*, path: str, variant: str, stored: str, engine: str, image: str, threads: int) -> Work:
    """A variant of a bundle, as `Session` runs it; `stored` is its graph's name, another one for bf16."""
    session = Session(path, variant=variant, threads=threads, allow_refused=True)
    file = Path(image)
    tensor = session.prepare(file)[None]
    graph = next(each for each in session.bundle.manifest.variants if each.name == stored)

    def batch(size: int, many: int) -> Callable[[], object]:
        loaded = load_engine(engine)(session.bundle, graph, threads=many, precision=session.precision, batch=size)
        images = np.repeat(tensor, size, axis=0)
        return lambda: loaded(images)

    return Work(
        answer=lambda: session.predict(file),
        model=lambda: session.run_prepared(tensor),
        facts=lambda: {
            "engine": engine,
            "version": version(engine).partition(",")[0],  # after it stands what lies beside the library
            "precision": session.precision,
            "threads": session.threads,
        },
        stages=(
            lambda _: decode(file),
            lambda pixels: session.prepare(pixels)[None],
            session.run_prepared,
            lambda outputs: answered(image, outputs, session.task, session.variant),
        ),
        batch=batch,
    )

"""The inside of a contender's process: load, answer once, then run what stdin asks for and tell how long each took.

Not the comparison: whoever starts the process sends the words and collects the times (`contender.py`).

    stdin     "answer" or "model", a line each; at its end the process ends, so none outlives its parent
    stdout    {"peak_mib": …} once the first answer is there, then the facts, then {"ms": …} per word; or {"error": …}
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..errors import EdgeFMError
from ..runtime.engines import version
from ..runtime.session import Session
from .memory import peak_mib


class Work(NamedTuple):
    """What a contender can do, loaded.

    Attributes:
        answer: from the image file to the answer.
        model: the model alone, from the prepared tensor to its outputs.
        facts: engine, version, precision (that really ran, read back) and threads; of a rival the source of its weights, too.
    """

    answer: Callable[[], object]
    model: Callable[[], object]
    facts: Callable[[], dict[str, Any]]


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
            run = {"answer": work.answer, "model": work.model}[line.strip()]
            start = time.perf_counter()
            run()
            reply(ms=(time.perf_counter() - start) * 1e3)
    except EdgeFMError as error:
        reply(error=str(error).rstrip("."))


def bundle(*, path: str, variant: str, engine: str, image: str, threads: int) -> Work:
    """A variant of a bundle, as `Session` runs it."""
    session = Session(path, variant=variant, threads=threads, allow_refused=True)
    file = Path(image)
    tensor = session.prepare(file)[None]
    return Work(
        answer=lambda: session.predict(file),
        model=lambda: session.run_prepared(tensor),
        facts=lambda: {
            "engine": engine,
            "version": version(engine).partition(",")[0],  # after it stands what lies beside the library
            "precision": session.precision,
            "threads": session.threads,
        },
    )

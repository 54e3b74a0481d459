"""Which variant runs: the one asked for, else the one that answers rightly and fastest on this machine, timed once.

Not the gate: what int8 or bf16 may cost in accuracy was decided when the bundle was built. Here a candidate only has to
compute, on this processor, what the bundle says it computes.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from ..bundle import Bundle
from ..errors import EdgeFMError, InputError, ParityError
from ..spec.manifest import Manifest, Variant
from .cache import cache_folder, store
from .cpu import machine_id, runs_bf16
from .engines import ENGINES, Engine, Running, installed, load_engine, version
from .golden import check_golden

BUDGET = 0.15  # seconds of timing per candidate, beside loading it
FEWEST, MOST = 5, 50


class Candidate(NamedTuple):
    """A variant as it would run. `name` is the variant's, but `openvino-bf16` for an fp32 variant run in bf16."""

    name: str
    variant: Variant
    precision: Running

    def load(self, bundle: Bundle, threads: int) -> Engine:
        """The engine, ready to run single images."""
        return load_engine(self.variant.engine)(bundle, self.variant, threads=threads, precision=self.precision)


class Choice(NamedTuple):
    """What runs, loaded, and one sentence that says why."""

    candidate: Candidate
    engine: Engine
    sentence: str


class _Remembered(msgspec.Struct):
    """A choice on disk. `milliseconds`, p50 per candidate, is empty where there was one only: it was checked and not timed."""

    winner: str
    milliseconds: dict[str, float]


def choose(bundle: Bundle, *, asked: str | None, threads: int) -> Choice:
    """Choose and load.

    Args:
        asked: name of a variant, or None: then the environment variable EDGEFM_VARIANT, then measurement.

    Raises:
        InputError: an unknown variant, or none that can run here.
        MissingExtra: the engine of the variant asked for is not installed.
        ParityError: the variant asked for does not compute here what the bundle says.
    """
    by, instead = "asked for", "leave the variant out"
    if asked is None and os.environ.get("EDGEFM_VARIANT"):
        asked, by, instead = os.environ["EDGEFM_VARIANT"], "asked for by EDGEFM_VARIANT", "unset EDGEFM_VARIANT"
    everything, left_out = candidates(bundle.manifest)
    if asked is not None:
        candidate = _named(asked, everything, left_out)
        engine = candidate.load(bundle, threads)
        _check_once(bundle, candidate, engine, instead)
        return Choice(candidate, engine, f"{candidate.name}: {by}")
    runnable = [candidate for candidate in everything if candidate.name not in left_out]
    if not runnable:
        raise _none(bundle, left_out)
    memory = _memory(bundle, runnable, threads)
    remembered = _recall(memory)
    if remembered is not None:
        for candidate in runnable:
            if candidate.name == remembered.winner:
                return Choice(candidate, candidate.load(bundle, threads), _sentence(remembered, threads, "timed earlier"))
    return _measure(bundle, runnable, left_out, threads, memory)


def candidates(manifest: Manifest) -> tuple[list[Candidate], dict[str, str]]:
    """All ways to run this bundle, and of those that cannot run here, by name, the reason."""
    found, left_out = [], {}
    for variant in manifest.variants:
        found.append(Candidate(variant.name, variant, variant.precision))
        if variant.engine not in ENGINES:
            left_out[variant.name] = f"this EdgeFM has no {variant.engine} engine"
        elif not installed(variant.engine):
            missing = "is not installed" if ENGINES[variant.engine].extra else "was not built here"
            left_out[variant.name] = f"{ENGINES[variant.engine].title} {missing}"
        if variant.engine == "openvino" and variant.precision == "fp32":
            half = Candidate("openvino-bf16", variant, "bf16")
            found.append(half)
            if variant.bf16 is None:
                left_out[half.name] = "bf16 was not tried when the bundle was built"
            elif not variant.bf16:
                left_out[half.name] = "bf16 did not pass the bundle's gate"
            elif not runs_bf16():
                left_out[half.name] = "this processor has no bf16"
            elif variant.name in left_out:
                left_out[half.name] = left_out[variant.name]
    return found, left_out


def _named(name: str, everything: list[Candidate], left_out: dict[str, str]) -> Candidate:
    for candidate in everything:
        if candidate.name == name:
            load_engine(candidate.variant.engine)
            if name in left_out:
                raise InputError(f"{name} cannot run here: {left_out[name]}", do="choose another variant")
            return candidate
    names = ", ".join(candidate.name for candidate in everything if candidate.name not in left_out)
    raise InputError(f"there is no variant {name!a}", expected=f"one of {names or 'none that can run here'}")


def _check_once(bundle: Bundle, candidate: Candidate, engine: Engine, instead: str) -> None:
    """Hold a variant that was asked for to the first golden input, unless it was here before, with this engine's version.

    To the first only: all of them would double the time of a first start. Arithmetic that has gone wrong shows in any picture.
    """
    folder = cache_folder("checked")
    key = "\n".join([bundle.id, machine_id(), version(candidate.variant.engine), candidate.name])
    passed = folder and folder / sha256(key.encode()).hexdigest()[:32]
    if passed is not None and passed.exists():
        return
    try:
        check_golden(engine, bundle, candidate.precision, variant=candidate.name, most=1)
    except ParityError as error:
        raise ParityError(
            f"{candidate.name} does not compute here what {bundle.path} says: {error.found}",
            expected=error.expected,
            do=f"{instead}, so that this machine chooses one that does, or reinstall {ENGINES[candidate.variant.engine].title}",
        ) from error
    if passed is not None:
        store(passed, candidate.name.encode())


def _none(bundle: Bundle, left_out: dict[str, str]) -> InputError:
    engines = {variant.engine: None for variant in bundle.manifest.variants if variant.engine in ENGINES}
    extras = [ENGINES[engine].extra for engine in engines if not installed(engine) and ENGINES[engine].extra]
    how = " or ".join(f"pip install 'edgefm[{extra}]'" for extra in extras)
    reasons = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
    return InputError(
        f"no variant of {bundle.path} can run here: {reasons}", do=f"install an engine with: {how}" if how else "upgrade EdgeFM"
    )


def _measure(bundle: Bundle, runnable: list[Candidate], left_out: dict[str, str], threads: int, memory: Path | None) -> Choice:
    """Load, check and time one candidate after the other; at most two are in memory at a time."""
    left_out, times = dict(left_out), dict[str, float]()
    best: tuple[float, Candidate, Engine] | None = None
    for candidate in runnable:
        try:
            engine = candidate.load(bundle, threads)
            tensor = check_golden(engine, bundle, candidate.precision, variant=candidate.name)
        except EdgeFMError as error:
            left_out[candidate.name] = str(error).rstrip(".")
            continue
        if len(runnable) == 1:
            best = 0.0, candidate, engine
            break
        times[candidate.name] = taken = _time(engine, tensor)
        if best is None or taken < best[0]:
            best = taken, candidate, engine
    if best is None:
        raise _none(bundle, left_out)
    _, winner, engine = best
    found = _Remembered(winner.name, times)
    kept = memory is not None and store(memory, msgspec.json.encode(found))
    when = "timed now, and remembered" if kept else "timed now; there is no writable cache to remember it"
    without = "".join(f"; without {name}: {reason}" for name, reason in left_out.items())
    return Choice(winner, engine, _sentence(found, threads, when) + without)


def _time(engine: Engine, tensor: np.ndarray) -> float:
    """Median milliseconds of one run on `tensor`, float32 `[1, C, S, S]`, which ran before."""
    taken: list[float] = []
    stop = time.perf_counter() + BUDGET
    while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() < stop):
        start = time.perf_counter()
        engine(tensor)
        taken.append((time.perf_counter() - start) * 1e3)
    return round(sorted(taken)[len(taken) // 2], 3)


def _memory(bundle: Bundle, runnable: list[Candidate], threads: int) -> Path | None:
    """The file that remembers the choice for this bundle, machine, set of engines at their versions, and number of threads."""
    folder = cache_folder("choices")
    engines = sorted({version(candidate.variant.engine) for candidate in runnable})
    key = "\n".join([bundle.id, machine_id(), *engines, str(threads)])
    return folder and folder / f"{sha256(key.encode()).hexdigest()[:32]}.json"


def _recall(memory: Path | None) -> _Remembered | None:
    if memory is None:
        return None
    try:
        return msgspec.json.decode(memory.read_bytes(), type=_Remembered)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _sentence(found: _Remembered, threads: int, when: str) -> str:
    if not found.milliseconds:
        return f"{found.winner}: the only one that can run here"
    ranking = sorted(found.milliseconds.items(), key=lambda item: item[1])
    times = ", ".join(f"{name} {taken:.3g} ms" for name, taken in ranking)
    many = f"{threads} threads" if threads > 1 else "1 thread"
    return f"{found.winner}: the fastest here with {many} ({times}; {when})"

"""Who answers: each way to run a bundle on this machine, and what they are compared with.

Not the answers (`answers.py`), and not the device's choice of one variant (`runtime/select.py`): here all of them run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle import Bundle
from ..errors import EdgeFMError, InputError
from ..runtime.cpu import usable_threads
from ..runtime.golden import contradiction
from ..runtime.select import Candidate, candidates
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from .capped import CAPPED, Capped, caps
from .parity import Predictor


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that is ready to answer.

    Attributes:
        name: a variant's name, or a model's.
        precision: what runs: "fp32", "bf16" or "int8".
        task: what its logits mean, with its own thresholds and temperature.
        preprocess: how pixels become its input.
        predict: float32 `[N, C, S, S]` to "logits" float32 `[N, K]` (unless the task is an embedding) and "embedding" `[N, D]`.
        wrong: how it contradicts the golden outputs of its bundle, or "".
    """

    name: str
    precision: str
    task: Task
    preprocess: Preprocess
    predict: Predictor
    wrong: str = ""


def variants_of(bundle: Bundle) -> tuple[list[Contender], dict[str, str]]:
    """Every way to run the bundle on this machine, loaded and held to its golden outputs; by name why others cannot run.

    Raises:
        InputError: none can run here.
    """
    everything, left_out = candidates(bundle.manifest)
    found = []
    for candidate in everything:
        if candidate.name in left_out:
            continue
        try:
            engine = candidate.load(bundle, usable_threads())
            wrong = contradiction(engine, bundle, candidate.precision, candidate.name)
        except EdgeFMError as error:
            left_out[candidate.name] = str(error).rstrip(".")
            continue
        found.append(_contender(bundle, candidate, candidate.name, engine, wrong))
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"no variant of {bundle.path.name} can run here: {reasons}", do="see what edgefm doctor prints")
    return found, left_out


def capped_of(bundle: Bundle) -> tuple[list[Contender], dict[str, str]]:
    """The variants as older processors would run them, as far as their engines can be capped; by name why others cannot.

    Each is a process of its own (`capped.Capped`), named "openvino-fp32 capped to AVX2".
    """
    everything, left_out = candidates(bundle.manifest)
    found, reasons = [], {}
    for candidate in everything:
        if candidate.name in left_out or candidate.precision == "bf16":  # bf16 is what the older ones lack
            continue
        if candidate.variant.engine not in CAPPED:
            reasons[f"{candidate.name} capped"] = f"{candidate.variant.engine} has no switch for its instruction set"
            continue
        for cap in caps():
            name = f"{candidate.name} capped to {cap}"
            try:
                child = Capped(bundle.path, candidate.name, cap)
            except InputError as error:
                reasons[name] = str(error).rstrip(".")
                continue
            found.append(_contender(bundle, candidate, name, child, child.wrong))
    return found, reasons


def _contender(bundle: Bundle, candidate: Candidate, name: str, predict: Predictor, wrong: str) -> Contender:
    return Contender(
        name=name,
        precision=candidate.precision,
        task=bundle.manifest.task,
        preprocess=bundle.preprocess,
        predict=predict,
        wrong=wrong,
    )


def in_fp32(contenders: Sequence[Contender]) -> Contender | None:
    """The first that runs in fp32: a bundle's own reference. None if none does here."""
    return next((contender for contender in contenders if contender.precision == "fp32"), None)


def comparable(reference: Contender, task: Task) -> None:
    """Raise `InputError` unless the reference answers the same question, in the same order of labels."""
    if task.kind == "embedding":
        return
    mine, theirs = (task.kind, task.labels), (reference.task.kind, reference.task.labels)
    if mine != theirs:
        raise InputError(
            f"{reference.name} answers {_some(reference.task)}",
            expected=f"{_some(task)}, as the bundle",
            do="choose another --against",
        )


def _some(task: Task) -> str:
    shown = ", ".join(task.labels[:6]) + (f", … ({len(task.labels)})" if len(task.labels) > 6 else "")
    return f"{task.kind}: {shown}" if shown else task.kind

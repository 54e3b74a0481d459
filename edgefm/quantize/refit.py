"""Threshold and temperature of an int8 model, refitted so that it decides, and is as sure, as the fp32 model is.

Not a calibration of the model to labels: fp32's own probabilities are the aim, because a bundle answers alike on every engine.

A bundle has one threshold and one temperature for all its variants, and fp32's decisions must not move. So the int8 graph
itself takes the refit up, as a scale and a shift of its logits. With the margin m = z1 - z0 of a binary task (z_k of a
multilabel one), the task's temperature T and threshold t, and a cut c and a temperature T' of int8's own:

    m >= c, p = sigmoid((m - c) / T' + logit t)      is      m' = (T / T') (m - c) + T logit t,   m' / T >= logit t

c: int8's decisions on the `calibrate` split differ from fp32's as rarely as they can; of equally good ones the nearest to
T logit t. T': minimises the cross-entropy of int8's probabilities to fp32's (temperature scaling, Guo et al. 2017, section 4.2,
with fp32's probabilities in the place of the labels). A multiclass task has no threshold, so its c is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..spec.task import Task

NARROWEST, WIDEST = 0.25, 4.0  # T' / T
BEYOND = 1e-3  # how far outside all margins a cut lies that gives all of them one decision
SCALE, SHIFT = "refit/scale", "refit/shift"


@dataclass(frozen=True)
class Refit:
    """`temperature`: T'. `cuts`: c, one for binary, one per label for multilabel, none for multiclass, in the margin's unit."""

    temperature: float
    cuts: tuple[float, ...]


def refit(logits: np.ndarray, reference: np.ndarray, task: Task) -> Refit:
    """Fit to the same images' logits.

    Args:
        logits: int8's, `[N, K]`, finite. reference: fp32's, `[N, K]`. task: any but an embedding.
    """
    from scipy.optimize import minimize_scalar

    small, true = _margins(logits, task), _margins(reference, task)
    levels = _levels(task)
    cuts = np.array([_cut(small[:, k], true[:, k] >= level, level) for k, level in enumerate(levels)])

    def loss(log_share: float) -> float:
        temperature = task.temperature * np.exp(log_share)
        if task.kind == "multiclass":
            return _cross_entropy(logits / temperature, reference / task.temperature)
        found = (small - cuts) / temperature + levels / task.temperature
        return float(np.mean(_softplus(found) - _sigmoid(true / task.temperature) * found))

    best = minimize_scalar(loss, bounds=(np.log(NARROWEST), np.log(WIDEST)), method="bounded")
    return Refit(float(task.temperature * np.exp(best.x)), tuple(float(cut) for cut in cuts))


def folded(proto: onnx.ModelProto, found: Refit, task: Task) -> onnx.ModelProto:
    """The graph whose output `logits` has the refit in it; `proto` is left as it is."""
    scale = task.temperature / found.temperature
    shift = _levels(task) - scale * np.array(found.cuts)
    if task.kind == "binary":
        shift = np.array([-shift[0] / 2, shift[0] / 2])
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == "logits":
                    names[position] = "logits/int8"
    constants = {SCALE: np.array(scale), SHIFT: shift if len(shift) else np.zeros(1)}
    graph.initializer.extend(numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items())
    graph.node.append(helper.make_node("Mul", ["logits/int8", SCALE], ["logits/scaled"], name=SCALE))
    graph.node.append(helper.make_node("Add", ["logits/scaled", SHIFT], ["logits"], name=SHIFT))
    return changed


def folds(proto: onnx.ModelProto) -> dict[str, float]:
    """What `folded` put into a graph, for the manifest's evidence: "logit_scale", "logit_shift_0", …; empty if nothing."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in (SCALE, SHIFT)}
    if not constants:
        return {}
    scale, shift = (numpy_helper.to_array(constants[name]).reshape(-1) for name in (SCALE, SHIFT))
    return {"logit_scale": float(scale[0]), **{f"logit_shift_{k}": float(value) for k, value in enumerate(shift)}}


def _margins(logits: np.ndarray, task: Task) -> np.ndarray:
    """float64 `[N, columns]`: what the thresholds cut."""
    z = np.asarray(logits, np.float64)
    return z[:, 1:] - z[:, :1] if task.kind == "binary" else z


def _levels(task: Task) -> np.ndarray:
    """T logit t for each threshold: where fp32 cuts its margins. Of a threshold of 0 or 1, far out."""
    tiny = 1e-12
    shares = [min(max(threshold, tiny), 1 - tiny) for threshold in task.thresholds]
    return np.array([task.temperature * np.log(share / (1 - share)) for share in shares])


def _cut(margins: np.ndarray, decided: np.ndarray, level: float) -> float:
    """The cut with the fewest decisions that differ from `decided`; of equally good ones the nearest to `level`."""
    ordered = np.sort(margins)
    between = (ordered[1:] + ordered[:-1]) / 2
    places = np.concatenate([[level, ordered[0] - BEYOND, ordered[-1] + BEYOND], between])
    wrong = ((margins[:, None] >= places) != decided[:, None]).sum(axis=0)
    best = places[wrong == wrong.min()]
    return float(best[np.argmin(np.abs(best - level))])


def _cross_entropy(z: np.ndarray, reference: np.ndarray) -> float:
    """Mean of -sum p log q over rows, p and q the softmax of `reference` and `z`."""
    logs = [each - each.max(axis=1, keepdims=True) for each in (np.asarray(z, np.float64), np.asarray(reference, np.float64))]
    log_q, log_p = (each - np.log(np.exp(each).sum(axis=1, keepdims=True)) for each in logs)
    return float(-(np.exp(log_p) * log_q).sum(axis=1).mean())


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(0.0, x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-_softplus(-x)))

"""The clinical gate: whether a model may take its reference's place, from intervals and not from points.

Non-inferiority (Blackwelder 1982; FDA 2016): a model passes where the worst loss that the images leave possible is smaller than
the margin. With a two-sided interval of 95 % that is a one-sided test at 2.5 %: of models that are worse by the margin, one in
forty passes. A model is not refused because it was shown to be worse, but because it was not shown to be as good: few images
refuse more.

    passes:  worst < margin,   worst = loss + w (end of its interval - loss),   and at least  floor(n) = 1 - 0.025^(1/n)
    w = sqrt(q (1 - q) / (p (1 - p))), at least 1;   p: what the model has, q: what it would have if it were worse by the margin

The bootstrap sees how much the model varies as it is; the test has to hold for one that is worse by the margin, and shares vary
more the nearer they are to one half. So w takes the variance to where the claim is tested, as a score test does (Farrington and
Manning 1990). Without it, in simulations with 300 patients, 4.1 % of models passed whose sensitivity was worse by 0.05, the
margin, and 3.8 % whose AUC was worse by 0.02; `benchmarks/gate_errors.py` measures it with w. Brier, calibration
slope and cosine are no shares: their w is 1.

The floor is what a loss that never happened to n patients may still be (Clopper and Pearson 1934, one-sided): where decisions
did not change at all, every draw of the bootstrap says 0. Of a mean over classes it is the mean of the classes' floors.

How much further from 1 a calibration slope is has a kink, and an interval of its own kind (`slope_loss.py`). And a slope needs
errors (`slope.py`): where more than 5 % of the draws have too few, of the model or of its reference, it is not judged, and the
verdict says so: neither passed nor failed. A model of which nothing is judged does not pass.

Not the intervals (`intervals.py`), and not the gate between int8 and fp32 of one model (`quantize/decide.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..spec.gate import Gate
from ..spec.task import Task
from .scores import truth_of

Array = npt.NDArray[Any]
ALPHA = 0.025
TOO_FEW = "not judged: too few errors"
RISES = ("brier", "calibration_slope", "flips")  # what is a loss where it rises
SHARES = ("auc", "balanced_accuracy", "sensitivity", "specificity", "f1", "flips", "knn_accuracy")


def judged(records: Sequence[Mapping[str, Any]], gate: Gate, floors: Mapping[str, float]) -> dict[str, Any]:
    """The verdict over all contenders that are not the reference: a device may run any of them, so all have to pass.

    Args:
        records: as `statement.statements` gives them, with a reference among them. floors: as `floors` gives them.

    Returns:
        `passed`; `alpha`, of the one-sided test; `margins`, by name; `reasons`, a sentence for each check that fails;
        `not_judged`, one for each that could not be made; and `checks`: `name` (of the contender), `what`, `loss`, `worst` (NaN
        where the images do not define it), `margin` and `passed`, None where it was not judged.
    """
    checks = [each for record in records if not record["reference"] for each in _checks(record, gate, floors)]
    made = {each["name"]: False for each in checks} | {each["name"]: True for each in checks if each["passed"] is not None}
    failed = [each for each in checks if each["passed"] is False]
    nothing = [f"{name}: nothing of it could be judged" for name, any_made in made.items() if not any_made]
    return {
        "passed": bool(checks) and not failed and not nothing,
        "alpha": ALPHA,
        "margins": gate.margins(),
        "reasons": [*map(_reason, failed), *nothing],
        "not_judged": [f"{each['name']}: {_named(each)}: {TOO_FEW}" for each in checks if each["passed"] is None],
        "checks": checks,
    }


def floors(labels: Array | None, groups: Array, task: Task) -> dict[str, float]:
    """What a loss that was never seen may still be, by what is judged; 1 where nobody could show it.

    Args:
        labels: as `Scores` takes them; for an embedding any classes; None without. groups: `[N]`, who belongs together.
    """
    everyone = _floor(len(np.unique(groups)))
    found = {"flips": everyone, "knn_accuracy": everyone}
    if labels is None or task.kind == "embedding":
        return found
    truth = truth_of(labels, task)
    if task.kind == "binary":
        truth = truth[:, 1:]
    with_it = [_floor(len(np.unique(groups[column]))) for column in truth.T if column.any()]
    without = [_floor(len(np.unique(groups[~column]))) for column in truth.T if not column.all()]
    sensitivity, specificity = _mean(with_it), _mean(without)
    balanced = sensitivity if task.kind == "multiclass" else (sensitivity + specificity) / 2
    return found | {"sensitivity": sensitivity, "specificity": specificity, "balanced_accuracy": balanced}


def askable(gate: Gate, task: Task, labelled: bool, *, given: bool) -> Gate:
    """The gate without what these data and this task cannot answer.

    Args:
        given: whether somebody asked for this gate; then such a margin is an error.

    Raises:
        InputError: it asks for what is not there, or nothing is left.
    """
    classes = task.kind != "embedding"
    names = {"mean_cosine"} if not classes else {"flips"}
    if labelled:
        names |= (
            {"auc", "balanced_accuracy", "sensitivity", "specificity", "f1", "brier", "calibration_slope"}
            if classes
            else {"knn_accuracy"}
        )
    missing = [name for name in gate.margins() if name not in names]
    if missing and given:
        why = "the data have no labels" if not labelled else f"the task is {task.kind}"
        raise InputError(
            f"the gate judges {', '.join(missing)}, but {why}",
            expected=f"margins of {', '.join(sorted(names))}",
            do=f"set {missing[0]} to null in the gate's file",
        )
    left = Gate(**{name: margin for name, margin in gate.margins().items() if name in names})
    if not left.margins():
        raise InputError("the gate judges nothing", expected=f"a margin of {' or '.join(sorted(names))}")
    return left


def _checks(record: Mapping[str, Any], gate: Gate, least: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    for what, margin in gate.margins().items():
        loss, reach, p = _lost(record, what)
        q = margin if what == "flips" else p + loss - margin
        worst = loss + _wider(p, q) * reach if what in SHARES else loss + reach
        worst = max(worst, least.get(what, 0.0)) if math.isfinite(worst) else math.nan
        unknown = what == "calibration_slope" and without_errors(record)
        yield {
            "name": record["name"],
            "what": what,
            "loss": loss,
            "worst": worst,
            "margin": margin,
            "passed": None if unknown else bool(worst < margin),  # not a number is not smaller
        }


def without_errors(record: Mapping[str, Any]) -> bool:
    """Whether there are too few errors to tell how much further from right the probabilities are than the reference's."""
    loss = record.get("slope_loss")
    return loss is not None and math.isnan(loss["low"]) and loss["undefined"] > 0


def _lost(record: Mapping[str, Any], what: str) -> tuple[float, float, float]:
    """The loss, how far its interval reaches beyond it, and the value itself; NaN where there is none."""
    own = {"flips": (record["flips"] or {}).get("share"), "mean_cosine": record["mean_cosine"]}
    own["calibration_slope"] = record.get("slope_loss")
    interval = own[what] if what in own else record["difference"].get(what)
    if interval is None:
        return math.nan, math.nan, math.nan
    value = interval["value"] if what in own else record["metrics"][what]["value"]
    loss = 1 - interval["value"] if what == "mean_cosine" else interval["value"] if what in RISES else -interval["value"]
    reach = interval["high"] - interval["value"] if what in RISES else interval["value"] - interval["low"]
    return loss, reach, value


def _wider(p: float, q: float) -> float:
    """How much more a share of `q` varies than one of `p`: the ratio of their standard deviations, at least 1."""
    at, there = p * (1 - p), q * (1 - q)
    return max(1.0, math.sqrt(there / at)) if at > 0 and there > 0 else 1.0


def _reason(check: Mapping[str, Any]) -> str:
    what, margin = _named(check), f"{check['margin']:g}"
    if math.isnan(check["worst"]):
        return f"{check['name']}: {what} cannot be judged, the images do not define it"
    if check["what"] == "flips":
        return (
            f"{check['name']}: up to {100 * check['worst']:.1f} % of decisions may change (margin {100 * check['margin']:g} %)"
        )
    if check["what"] == "calibration_slope":
        sure, allowed = math.exp(check["worst"]), math.exp(check["margin"])
        return f"{check['name']}: probabilities may be {sure:.2f} times further from what is right (margin {allowed:.2f} times)"
    return f"{check['name']}: {what} may be worse by {check['worst']:.3f} (margin {margin})"


def _named(check: Mapping[str, Any]) -> str:
    return str(check["what"]).replace("_", " ")


def _floor(count: int) -> float:
    return float(1 - ALPHA ** (1 / count)) if count else 1.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 1.0

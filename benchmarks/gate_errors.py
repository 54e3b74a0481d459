"""How often the clinical gate of `verify` errs, by simulation: it passes what is worse by the margin, or refuses what is not.

Not a timing, and no real images. Simulated patients, half of them ill, have a score x ~ N(d, 1) if ill, N(0, 1) if not, which
is the reference's; the other model sees x + e, e ~ N(0, s^2). So with Phi the normal distribution function

    AUC = Phi(d / sqrt(2 (1 + s^2))),   sensitivity above c = Phi((d - c) / sqrt(1 + s^2))

and s and c can be chosen such that AUC and sensitivity are worse by exactly the margin (`null`), or such that nothing is worse
but a few decisions change (`equal`: s = 0.05). Share of simulations in which the gate passes, with Clopper-Pearson intervals of
95 %: under `null` the type I error of both checks, nominally 2.5 %; under `equal` the power of each check and of all together.

`rare`: exactly so many of 300 images are wrong. The reference's probabilities are calibrated: log odds m = D x of the true
label, D = 2 Phi^-1(1 - errors / 300). The other model's are m + e, e ~ N(0, 0.3^2), but never nearer to 0 than m / 10, so
that it errs on the same images. The shares in which the calibration slope `passes`, `refuses` (an equally good model: at most
2.5 %) and is `not judged`; `too sure`: the same of a model whose log odds are exp(margin) times as large, which should not
pass.

    python benchmarks/gate_errors.py [--patients 100 300 1000] [--simulations 1000] [--draws 1000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from measure import save

from edgefm.spec.gate import DEFAULTS, Gate
from edgefm.spec.task import make_task
from edgefm.verify.gate import floors, judged
from edgefm.verify.intervals import bootstrap_intervals
from edgefm.verify.scores import Scores
from edgefm.verify.slope import Slope, off

TASK, GATE = make_task("binary", ("well", "ill")), DEFAULTS["binary"]
NORMAL = NormalDist()
AT_MARGIN, EQUAL = ("auc", "sensitivity"), 0.05
RARE, RARE_OF, RARE_NOISE = (1, 3, 5, 8, 12, 24), 300, 0.3
AUC, SENSITIVITY = 0.96, 0.9  # the reference's
DISTANCE = math.sqrt(2) * NORMAL.inv_cdf(AUC)
WORDS = {True: "passes", False: "refuses", None: "not judged"}
CUT = DISTANCE - NORMAL.inv_cdf(SENSITIVITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    found: dict[str, Any] = {"reference": {"auc": AUC, "sensitivity": SENSITIVITY}, "margins": GATE.margins()}
    with ProcessPoolExecutor() as pool:
        for scenario in ("null", "equal"):
            found[scenario] = {}
            for patients in options.patients:
                one = partial(simulated, scenario, patients, options.draws)
                passed = list(pool.map(one, range(options.simulations), chunksize=20))
                found[scenario][str(patients)] = {
                    name: share(sum(each[name] for each in passed), len(passed)) for name in passed[0]
                }
                print(scenario, patients, found[scenario][str(patients)], flush=True)
        for scenario in ("rare", "too sure"):
            found[scenario] = {}
            for errors in RARE:
                words = list(
                    pool.map(partial(judged_rare, scenario, errors, options.draws), range(options.simulations), chunksize=20)
                )
                found[scenario][str(errors)] = {word: share(words.count(word), len(words)) for word in WORDS.values()}
                print(scenario, errors, found[scenario][str(errors)], flush=True)
    save("gate_errors", found | {"simulations": options.simulations, "draws": options.draws})


def model(scenario: str) -> tuple[float, float]:
    """s, the standard deviation of the other model's error, and c, where it cuts."""
    if scenario == "equal":
        spread = EQUAL
        return spread, DISTANCE - math.sqrt(1 + spread**2) * NORMAL.inv_cdf(SENSITIVITY)
    spread = math.sqrt((DISTANCE / (math.sqrt(2) * NORMAL.inv_cdf(AUC - GATE.margins()["auc"]))) ** 2 - 1)
    return spread, DISTANCE - math.sqrt(1 + spread**2) * NORMAL.inv_cdf(SENSITIVITY - GATE.margins()["sensitivity"])


def simulated(scenario: str, patients: int, draws: int, seed: int) -> dict[str, bool]:
    """Whether each check passes in one simulation, and whether all do."""
    random = np.random.default_rng([seed, patients, len(scenario)])
    spread, cut = model(scenario)
    truth, groups = np.arange(patients) % 2, np.arange(patients)
    scores = random.normal(size=patients) + DISTANCE * truth
    models = [scores - CUT, scores + spread * random.normal(size=patients) - cut]
    found = judged([record(models, truth, groups, seed, draws)], GATE, floors(truth, groups, TASK))
    checks = {
        each["what"]: bool(each["passed"]) for each in found["checks"] if scenario == "equal" or each["what"] in AT_MARGIN
    }
    return checks | {"all": found["passed"]}


def judged_rare(scenario: str, errors: int, draws: int, seed: int) -> str:
    """What the gate says of the calibration slope, a word of `WORDS`."""
    random = np.random.default_rng([seed, errors, len(scenario)])
    truth, groups, missed = np.arange(RARE_OF) % 2, np.arange(RARE_OF), max(errors, 0.5) / RARE_OF
    wrong = np.zeros(RARE_OF, bool)
    wrong[random.choice(RARE_OF, errors, replace=False)] = True
    quantiles = np.where(wrong, missed, 1 - missed) * random.random(RARE_OF) + np.where(wrong, 0, missed)
    half = -NORMAL.inv_cdf(missed)
    margins = 2 * half * (half + np.array([NORMAL.inv_cdf(each) for each in quantiles]))  # of the true label
    noisy = margins + RARE_NOISE * random.normal(size=RARE_OF)
    noisy = np.where(wrong, np.minimum(noisy, 0.1 * margins), np.maximum(noisy, 0.1 * margins))
    sure = math.exp(GATE.margins()["calibration_slope"]) if scenario == "too sure" else 1.0
    models = [each * (2 * truth - 1) for each in (margins, sure * noisy)]
    loss = slope_loss([1 / (1 + np.exp(-each)) for each in models], truth)
    interval = bootstrap_intervals(lambda rows: {"": loss(rows)}, groups, draws=draws, seed=seed)[""]
    said = {"name": "other", "reference": False, "flips": None, "mean_cosine": None, "slope_loss": interval._asdict()}
    return WORDS[judged([said], Gate(calibration_slope=GATE.calibration_slope), {})["checks"][0]["passed"]]


def slope_loss(ill: list[np.ndarray], truth: np.ndarray) -> Callable[[np.ndarray], float]:
    """Of rows: how much further from 1 the second model's calibration slope is than the first's; probabilities `[N]` each."""
    slopes = [Slope.of_probabilities(np.stack([1 - p, p], axis=1), truth, TASK) for p in ill]
    return lambda rows: off(slopes[1].of(rows)) - off(slopes[0].of(rows))


def record(models: list[np.ndarray], truth: np.ndarray, groups: np.ndarray, seed: int, draws: int) -> dict[str, Any]:
    """What `statement.statements` says of the second model beside the first, as far as it is gated; log odds `[N]` each."""
    ill = [1 / (1 + np.exp(-margins)) for margins in models]
    chances = [np.stack([1 - p, p], axis=1) for p in ill]
    reference, other = (Scores(each, truth, TASK) for each in chances)
    loss = slope_loss(ill, truth)
    changed = (ill[0] >= 0.5) != (ill[1] >= 0.5)

    def everything(rows: np.ndarray) -> dict[tuple[str, str], float]:
        before, after = reference.metrics(rows), other.metrics(rows)
        differences = {("difference", name): after[name] - before[name] for name in after}
        found = {("metrics", name): value for name, value in after.items()} | differences
        return found | {("flips", ""): float(changed[rows].mean()), ("slope_loss", ""): loss(rows)}

    intervals = bootstrap_intervals(everything, groups, draws=draws, seed=seed)
    said: dict[str, Any] = {"metrics": {}, "difference": {}}
    for (kind, name), interval in intervals.items():
        if name:
            said[kind][name] = interval._asdict()
    said |= {"flips": {"share": intervals["flips", ""]._asdict()}, "slope_loss": intervals["slope_loss", ""]._asdict()}
    return {"name": "other", "reference": False, "mean_cosine": None, **said}


def share(count: int, of: int) -> dict[str, float]:
    """`count` of `of`, with the interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(0.95, "exact")
    return {"share": count / of, "low": round(float(interval.low), 5), "high": round(float(interval.high), 5)}


if __name__ == "__main__":
    main()

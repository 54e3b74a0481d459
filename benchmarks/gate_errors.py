"""How often the clinical gate of `verify` errs, by simulation: it passes what is worse by the margin, or refuses what is not.

Not a timing, and no real images. Simulated patients, half of them ill, have a score x ~ N(d, 1) if ill, N(0, 1) if not, which
is the reference's; the other model sees x + e, e ~ N(0, s^2). So with Phi the normal distribution function

    AUC = Phi(d / sqrt(2 (1 + s^2))),   sensitivity above c = Phi((d - c) / sqrt(1 + s^2))

and s and c can be chosen such that AUC and sensitivity are worse by exactly the margin (`null`), or such that nothing is worse
but a few decisions change (`equal`: s = 0.05). Share of simulations in which the gate passes, with Clopper-Pearson intervals of
95 %: under `null` the type I error of both checks, nominally 2.5 %; under `equal` the power of each check and of all together.

The calibration slope, by how many of so many images are wrong: the shares in which its check `passes`, `refuses` and is `not
judged`. The reference's probabilities are calibrated, log odds m = D x of the true label, x ~ N(D / 2, 1),
D = 2 Phi^-1(1 - errors / images). `rare`: exactly so many images are wrong, and the other model's log odds are m + e,
e ~ N(0, 0.3^2), but never nearer to 0 than m / 10, so that it errs on the same ones. `own errors`: so many are wrong on
average; the other model sees x + e, so that it errs on others, too. Both are multiplied such that they are calibrated, and as
good as the reference. `too sure` and `not sure enough`: the other model's log odds are exp(margin) times too large, or too
small; nominally 2.5 % of these pass. `patients of five`: as `own errors`, but five images are one patient's, whose x correlate
by 0.8, so that they err together.

    python benchmarks/gate_errors.py [--patients 100 300 1000] [--simulations 1000] [--draws 1000]
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from statistics import NormalDist
from typing import Any

import numpy as np
from measure import save
from scipy.special import ndtri

from edgefm.spec.gate import DEFAULTS, Gate
from edgefm.spec.task import make_task
from edgefm.verify.gate import floors, judged
from edgefm.verify.intervals import interval, resampled
from edgefm.verify.scores import Scores
from edgefm.verify.slope import Slope
from edgefm.verify.slope_loss import slope_loss
from edgefm.verify.statement import LEVEL

TASK, GATE = make_task("binary", ("well", "ill")), DEFAULTS["binary"]
NORMAL = NormalDist()
AT_MARGIN, EQUAL = ("auc", "sensitivity"), 0.05
RARE = {300: (3, 8, 12, 24), 1000: (24, 100)}  # errors, by images
NOISE, OF_FIVE, ALIKE = 0.3, "patients of five", 0.8  # the noise is that of the log odds, or of x
SURE = {"": 0, ", too sure": 1, ", not sure enough": -1}
SLOPES = [*(name + how for name in ("rare", "own errors") for how in SURE), f"{OF_FIVE}, too sure"]
MANY = 400_000  # images that tell how sure a model is
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
        for scenario, images in product(SLOPES, RARE):
            for errors in RARE[images]:
                one = partial(judged_rare, scenario, images, errors, options.draws)
                words = list(pool.map(one, range(options.simulations), chunksize=20))
                said = {word: share(words.count(word), len(words)) for word in WORDS.values()}
                found.setdefault(scenario, {}).setdefault(str(images), {})[str(errors)] = said
                print(scenario, images, errors, said, flush=True)
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


def judged_rare(scenario: str, images: int, errors: int, draws: int, seed: int) -> str:
    """What the gate says of the calibration slope, a word of `WORDS`."""
    random = np.random.default_rng([seed, images, errors, len(scenario)])
    name, comma, how = scenario.partition(",")
    reference, other = margins(name, images, errors, random)
    other = other * calibrated(name, images, errors) * math.exp(SURE[comma + how] * GATE.margins()["calibration_slope"])
    groups = np.arange(images) // (5 if name == OF_FIVE else 1)
    truth = groups % 2
    both = slopes([1 / (1 + np.exp(-each * (2 * truth - 1))) for each in (reference, other)], truth)
    drawn = resampled(lambda rows: {name: each.of(rows) for name, each in both.items()}, groups, draws=draws, seed=seed)
    loss = slope_loss(drawn["other"], drawn["reference"])._asdict()
    said = {"name": "other", "reference": False, "flips": None, "mean_cosine": None, "slope_loss": loss}
    return WORDS[judged([said], Gate(calibration_slope=GATE.calibration_slope), {})["checks"][0]["passed"]]


def margins(scenario: str, images: int, errors: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The reference's log odds of the true labels, and the other model's, `[N]`."""
    missed = max(errors, 0.5) / images
    half = -NORMAL.inv_cdf(missed)
    if scenario != "rare":
        x = random.normal(size=images)
        if scenario == OF_FIVE:
            x = math.sqrt(ALIKE) * np.repeat(random.normal(size=images // 5), 5) + math.sqrt(1 - ALIKE) * x
        return 2 * half * (half + x), 2 * half * (half + x + NOISE * random.normal(size=images))
    wrong = np.zeros(images, bool)
    wrong[random.choice(images, errors, replace=False)] = True
    quantiles = np.where(wrong, missed, 1 - missed) * random.random(images) + np.where(wrong, 0, missed)
    m = 2 * half * (half + ndtri(quantiles))
    noisy = m + NOISE * random.normal(size=images)
    return m, np.where(wrong, np.minimum(noisy, 0.1 * m), np.maximum(noisy, 0.1 * m))


@cache
def calibrated(scenario: str, images: int, errors: int) -> float:
    """What the other model's log odds have to be multiplied by: its slope on very many images."""
    times = MANY // images
    _, other = margins(scenario, times * images, times * errors, np.random.default_rng(0))
    logits = np.stack([np.zeros(len(other)), other], axis=1)
    return Slope(logits, np.ones(len(other), np.int64), TASK).of(np.arange(len(other)))


def slopes(ill: list[np.ndarray], truth: np.ndarray) -> dict[str, Slope]:
    """The calibration slopes of the reference and of the other model; probabilities `[N]` each."""
    chances = [np.stack([1 - p, p], axis=1) for p in ill]
    return {name: Slope.of_probabilities(each, truth, TASK) for name, each in zip(("reference", "other"), chances)}


def record(models: list[np.ndarray], truth: np.ndarray, groups: np.ndarray, seed: int, draws: int) -> dict[str, Any]:
    """What `statement.statements` says of the second model beside the first, as far as it is gated; log odds `[N]` each."""
    ill = [1 / (1 + np.exp(-margins)) for margins in models]
    chances = [np.stack([1 - p, p], axis=1) for p in ill]
    reference, other = (Scores(each, truth, TASK) for each in chances)
    both = slopes(ill, truth)
    changed = (ill[0] >= 0.5) != (ill[1] >= 0.5)

    def everything(rows: np.ndarray) -> dict[tuple[str, str], float]:
        before, after = reference.metrics(rows), other.metrics(rows)
        differences = {("difference", name): after[name] - before[name] for name in after}
        found = {("metrics", name): value for name, value in after.items()} | differences
        found |= {("slope", name): each.of(rows) for name, each in both.items()}
        return found | {("flips", ""): float(changed[rows].mean())}

    drawn = resampled(everything, groups, draws=draws, seed=seed)
    said: dict[str, Any] = {
        kind: {name: interval(*each, LEVEL)._asdict() for (group, name), each in drawn.items() if group == kind}
        for kind in ("metrics", "difference")
    }
    loss = slope_loss(drawn["slope", "other"], drawn["slope", "reference"], LEVEL)
    said |= {"flips": {"share": interval(*drawn["flips", ""], LEVEL)._asdict()}, "slope_loss": loss._asdict()}
    return {"name": "other", "reference": False, "mean_cosine": None, **said}


def share(count: int, of: int) -> dict[str, float]:
    """`count` of `of`, with the interval of Clopper and Pearson."""
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(0.95, "exact")
    return {"share": count / of, "low": round(float(interval.low), 5), "high": round(float(interval.high), 5)}


if __name__ == "__main__":
    main()

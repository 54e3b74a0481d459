"""What an embedding is worth for another task, and how like another embedding it is: a linear probe, and linear CKA.

Not kNN and not the cosine (`metrics.py`), and not a model's own head (`adapt/`). Plain numpy: both have closed forms.

CKA compares what two models tell apart, whatever the axes and the width: of K = X X', L = Y Y', the Gram matrices of N images,

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))                                          (Kornblith et al. 2019)

with the unbiased HSIC_1 (Song et al. 2012, eq. 5), for the biased one nears 1 where there are fewer images than features:

    HSIC_1 = (tr(K~ L~) + 1'K~1 1'L~1 / ((N - 1)(N - 2)) - 2 / (N - 2) 1'K~ L~1) / (N (N - 3)),  K~ = K without its diagonal.

Every term is a sum over images of products of features: no N x N matrix is made, and an image is taken out by subtracting it.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .intervals import Interval
from .metrics import classes_of

Array = npt.NDArray[Any]
FOLDS = 5
RIDGE = 0.1  # the penalty over N: of features scaled to variance 1, directions that vary by less than a tenth count little
BLOCKS = 50


def probe_right(embedding: Array, labels: Array, groups: Array, *, seed: int = 0) -> Array:
    """Whether a linear probe that has seen other patients only gets each image right: what transfers to a new task.

    Ridge regression of the classes, one column each, on the features, which are scaled to mean 0 and variance 1 on the images
    it is fitted on: W = (X'X + 0.1 N I)^-1 X'(Y - mean), and the largest of mean + x W wins. Whole patients are dealt
    into five folds (or as many as there are patients), each judged by the probe of the others. There is nothing to
    converge and nothing to choose, so two embeddings differ by what is in them.

    Args:
        embedding: float `[N, D]`. labels: int `[N]` or 0/1 `[N, K]` (a distinct row is a class).
        groups: `[N]`, who belongs together; at least two groups. seed: of the dealing.

    Returns:
        bool `[N]`. A class that occurs in one patient only is never right.

    Raises:
        InputError: fewer than two groups.
    """
    labels, fold = classes_of(labels), _dealt(groups, FOLDS, seed)
    features = np.asarray(embedding, np.float64)
    right = np.zeros(len(labels), bool)
    for held in np.unique(fold):
        train, test = fold != held, fold == held
        mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
        spread[spread <= 1e-9 * np.abs(mean)] = 1.0  # a feature that never varies
        x = (features - mean) / np.where(spread > 0, spread, 1.0)
        classes, number = np.unique(labels[train], return_inverse=True)
        y = np.eye(len(classes))[number]
        gram = x[train].T @ x[train] + RIDGE * train.sum() * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x[train].T @ (y - y.mean(axis=0)))
        right[test] = classes[(x[test] @ weights + y.mean(axis=0)).argmax(axis=1)] == labels[test]
    return right


def linear_cka(one: Array, other: Array) -> float:
    """Debiased linear CKA of two embeddings of the same images, -1 to 1: 1 where they are the same but for rotation, scale and
    shift, about 0 where they have nothing in common.

    NaN with fewer than four images, or where one of them is the same for all images.

    Args:
        one: float `[N, D]`. other: float `[N, E]`.

    Raises:
        InputError: not the same number of images.
    """
    x, y = _centred(one, other)
    return _cka(*(_Sums(a, b) for a, b in ((x, y), (x, x), (y, y))))


def cka_interval(one: Array, other: Array, groups: Array, *, seed: int = 0, level: float = 0.95) -> Interval:
    """`linear_cka` with its interval from the delete-a-group jackknife (Shao and Tu 1995, section 2.3) over blocks of patients.

    Not the bootstrap: a draw holds copies of images, each pair of copies is perfectly alike in both embeddings, and CKA rises
    with them. Whole patients are dealt into 50 blocks (or as many as there are patients); theta_j is CKA without block j:

        se^2 = (g - 1) / g sum_j (theta_j - mean)^2,   interval: CKA +- z se, within -1 to 1.

    Args:
        one, other: as `linear_cka`. groups: `[N]`, who belongs together. seed: of the dealing.

    Returns:
        `undefined`: how many theta_j are. No interval (NaN) with one patient only or where any is undefined.
    """
    x, y = _centred(one, other)
    pairs = ((x, y), (x, x), (y, y))
    whole = [_Sums(a, b) for a, b in pairs]
    value = _cka(*whole)
    if not math.isfinite(value) or len(np.unique(groups)) < 2:
        return Interval(value, math.nan, math.nan)
    block = _dealt(groups, BLOCKS, seed)
    without = []
    for out in np.unique(block):
        rows = block == out
        without.append(_cka(*(total.less(_Sums(a[rows], b[rows])) for total, (a, b) in zip(whole, pairs))))
    theta = np.array(without)
    if undefined := int((~np.isfinite(theta)).sum()):
        return Interval(value, math.nan, math.nan, undefined)
    error = math.sqrt((len(theta) - 1) / len(theta) * float(((theta - theta.mean()) ** 2).sum()))
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(value, max(-1.0, value - reach), min(1.0, value + reach))


class _Sums:
    """What HSIC_1 of K = X X' and L = Y Y' is made of, each a sum over images; k and l are the diagonals."""

    def __init__(self, x: Array, y: Array) -> None:
        k, l = (x**2).sum(axis=1), (y**2).sum(axis=1)  # noqa: E741
        self.parts: list[Any] = [len(x), x.T @ y, x.sum(axis=0), y.sum(axis=0), k.sum(), l.sum(), k @ l, k @ y, l @ x]

    def less(self, other: _Sums) -> _Sums:
        """Without the images of `other`."""
        found = object.__new__(_Sums)
        found.parts = [mine - theirs for mine, theirs in zip(self.parts, other.parts)]
        return found

    def hsic(self) -> float:
        """HSIC_1; NaN with fewer than four images."""
        n, xy, x, y, k, l, kl, ky, lx = self.parts  # noqa: E741
        if n < 4:
            return math.nan
        trace = float((xy**2).sum() - kl)
        ones = float((x @ x - k) * (y @ y - l))
        rows = float(x @ xy @ y - ky @ y - lx @ x + kl)
        return float((trace + ones / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3)))


def _cka(both: _Sums, one: _Sums, other: _Sums) -> float:
    norms = one.hsic() * other.hsic()
    return both.hsic() / math.sqrt(norms) if norms > 0 else math.nan


def _centred(*embeddings: Array) -> list[Array]:
    """Float64, mean 0, mean square 1: HSIC_1 does not see the shift, and CKA not the scale; round-off does. 0 where nothing
    varies."""
    if len({len(each) for each in embeddings}) > 1:
        raise InputError(f"embeddings of {' and '.join(str(len(each)) for each in embeddings)} images", expected="of the same")
    found = []
    for each in embeddings:
        values = np.asarray(each, np.float64)
        centred = values - values.sum(axis=0) / max(1, len(values))
        size = math.sqrt(float((centred**2).sum()) / max(1, centred.size))
        varies = size > 1e-6 * float(np.abs(values).max(initial=0.0))  # float32's last bit is no variation
        found.append(centred / size if varies else np.zeros_like(centred))
    return found


def _dealt(groups: Array, parts: int, seed: int) -> Array:
    """The part of each image, int64 `[N]`: whole groups, shuffled and dealt round. Raises `InputError` for fewer than two."""
    member = np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = int(member.max(initial=-1)) + 1
    if count < 2:
        raise InputError(f"there is {count} patient", expected="at least two, to learn from one and judge on the other")
    return np.asarray(np.random.default_rng(seed).permutation(count)[member] % min(parts, count))

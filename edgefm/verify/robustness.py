"""How decisions hold when images get worse: balanced error under every corruption of a modality, at five severities.

Not the corruptions (`corruptions/`), and no gate: a corrupted image is not what a model has to be right on, it is where a small
or an int8 model may break before its reference does.

E(s, c) is the balanced error, 1 - balanced accuracy, under corruption c at severity s; E(clean) that on the same images as they
are. Corruption errors are those of Hendrycks and Dietterich (2019), with the reference in AlexNet's place and balanced error in
the error's (as Di Salvo et al. 2024), and so 1 for the reference itself, less for a model that holds better:

    CE_c = sum_s E(s, c) / sum_s E_ref(s, c)
    relative CE_c = sum_s (E(s, c) - E(clean)) / sum_s (E_ref(s, c) - E_ref(clean))
    mCE, relative mCE: their means over the corruptions for which the sum below the line is above 0

Relative mCE is unsteady where the reference hardly suffers, as its interval shows: read the increase of the mean error first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..spec.task import Task
from .answers import Answers, Images, collect
from .contenders import Contender
from .corruptions import MODALITIES, SEVERITIES, corrupt
from .intervals import DRAWS, bootstrap_intervals

Array = npt.NDArray[Any]
Cell = tuple[str, int]  # a corruption and its severity; ("", 0) is the image as it is
CLEAN: Cell = ("", 0)

# 100 images x (13 corruptions x 5 severities + 1) are 6,600 answers of each model: minutes on two cores. One error is known to
# 0.02 to 0.05 with so few; but models see the same images, and the mean over a modality is of 65 errors.
IMAGES = 100


def robustness(
    images: Images,
    contenders: Sequence[Contender],
    *,
    reference: Contender | None,
    modality: str,
    groups: Array,
    seed: int,
    bar: Callable[[float, float], None],
    limit: int = IMAGES,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Let contenders answer for corrupted images; memory does not grow with the number or the size of images but for one.

    Args:
        images: with labels; at most `limit` of them are used, see `drawn`.
        contenders: of one task. reference: one of them, or None.
        modality: a key of `corruptions.MODALITIES`.
        groups: `[N]`, who belongs together. seed: of what is drawn, corrupted and of the intervals.

    Returns:
        `modality`, `images` (how many were used), `seed`.
        `clean`: contender to `balanced_error`, 0 to 1; NaN where the images do not define it.
        `corruptions`: a record for each corruption and severity: `name`, `severity`, and `variants`: contender to
        `balanced_error`, `flips` (images decided otherwise than clean by the same contender), and `unlike_reference` (images
        decided otherwise than by the reference on the same corrupted image; None without one).
        `summary`: contender to `mean_error` (over corruptions and severities), `increase` (that less its clean error), and with
        a reference `difference` (of the mean error from the reference's), `mce`, `relative_mce`: intervals over whole groups.

    Raises:
        InputError: no labels, an embedding task, no such modality, or no images.
        ImageError, ParityError: as `answers.collect`.
    """
    task, labels = contenders[0].task, images.labels
    plan(modality, len(images), task, labels is not None)
    assert labels is not None
    chosen = drawn(labels, min(limit, len(images)), seed)
    cells = [CLEAN, *cells_of(modality)]
    worse = _Corrupted(images, chosen, cells, modality, seed, contenders[-1].preprocess.window16)
    answers = collect(worse, contenders, reference=reference, embeddings=False, bar=bar)
    names = [each.contender.name for each in answers]
    decided = np.stack([_by_cell(each, len(chosen)) for each in answers])  # [V, S, N] or [V, S, N, K]
    truth = labels[chosen]
    errors = Errors(decided, truth, task)
    found = errors(np.arange(len(chosen)))
    changed = _differ(decided, decided[:, :1])
    base = None if reference is None else names.index(reference.name)
    unlike = None if base is None else _differ(decided, decided[base : base + 1])

    def variants(cell: int) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "balanced_error": float(found[number, cell]),
                "flips": int(changed[number, cell]),
                "unlike_reference": None if unlike is None else int(unlike[number, cell]),
            }
            for number, name in enumerate(names)
        }

    def summed(rows: Array) -> dict[tuple[str, str], float]:
        return {
            (names[number], what): value for number, what, value in _summary(errors(rows), len(cells) // len(SEVERITIES), base)
        }

    intervals = bootstrap_intervals(summed, np.asarray(groups)[chosen], draws=draws, seed=seed)
    return {
        "modality": modality,
        "images": len(chosen),
        "seed": seed,
        "clean": {name: {"balanced_error": float(found[number, 0])} for number, name in enumerate(names)},
        "corruptions": [
            {"name": name, "severity": severity, "variants": variants(cell)}
            for cell, (name, severity) in enumerate(cells)
            if cell
        ],
        "summary": {
            name: {what: each._asdict() for (whose, what), each in intervals.items() if whose == name} for name in names
        },
    }


def plan(modality: str, count: int, task: Task, labelled: bool) -> str:
    """What `robustness` will do with so many images, as a line. Raises `InputError` where it cannot."""
    if modality not in MODALITIES:
        raise InputError(f"there is no modality {modality!r}", expected=", ".join(MODALITIES))
    if task.kind == "embedding":
        raise InputError("an embedding decides nothing, so there is no robustness to measure", do="leave --robustness out")
    if not labelled:
        raise InputError("robustness is measured with labels, and the data have none", do="leave --robustness out")
    used, kinds = min(count, IMAGES), len(MODALITIES[modality])
    answers = used * (kinds * len(SEVERITIES) + 1)
    return (
        f"robustness: {used} of {count:,} images, {kinds} corruptions of {modality} at {len(SEVERITIES)} severities: "
        f"{answers:,} answers of each model"
    )


def compared(own: Sequence[Contender], outside: Sequence[Contender]) -> list[Contender]:
    """Who answers for corrupted images: those from outside and the bundle's first of each precision. Parity holds the engines
    of one precision together already."""
    first = {contender.precision: contender for contender in reversed(own)}
    return [*outside, *(contender for contender in own if first[contender.precision] is contender)]


def cells_of(modality: str) -> list[Cell]:
    """Every corruption at every severity, mild ones first."""
    return [(name, severity) for name in MODALITIES[modality] for severity in SEVERITIES]


def drawn(labels: Array, count: int, seed: int) -> Array:
    """Which images are used: `count` positions, ascending, int64, a pure function of `seed`.

    As many of each class as there can be, for balanced error weighs each class the same; where several labels hold at once,
    any.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    if labels.ndim == 2:
        return np.sort(order[:count])
    turn = np.empty(len(labels), np.int64)  # the how-many-eth of its class an image is
    for value in np.unique(labels):
        mine = order[labels[order] == value]
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:count])


class Errors:
    """The balanced error of many sets of decisions on any draw of the images; 1 - `balanced_accuracy` of `scores.Scores`.

    Args:
        decided: `[V, S, N]` classes, or `[V, S, N, K]` of 0 and 1. labels: `[N]` or `[N, K]`.
    """

    def __init__(self, decided: Array, labels: Array, task: Task) -> None:
        self._kind = task.kind
        if task.kind == "multilabel":
            holds = labels.astype(bool)
            member, right = np.concatenate([holds, ~holds], axis=1), np.tile(decided == holds, 2)
        else:
            member, right = labels[:, None] == np.arange(len(task.labels)), (decided == labels)[..., None]
        self._member = member.astype(np.float64)
        self._right = np.ascontiguousarray((right & member).swapaxes(2, 3), np.float32)  # [V, S, K, N]

    def __call__(self, rows: Array) -> Array:
        """float64 `[V, S]`, 0 to 1; NaN where these images do not define it."""
        times = np.bincount(rows, minlength=len(self._member)).astype(np.float64)
        right, of = self._right @ times.astype(np.float32), times @ self._member
        recall = np.divide(right, of, out=np.full(right.shape, np.nan), where=of > 0, dtype=np.float64)
        if self._kind == "multiclass":
            recall = recall[..., of > 0]
        elif self._kind == "multilabel":
            yes, no = np.split(recall, 2, axis=2)
            recall = ((yes + no) / 2)[..., ((of[: yes.shape[2]] > 0) & (of[yes.shape[2] :] > 0))]
        return np.asarray(1 - recall.mean(axis=2)) if recall.shape[2] else np.full(right.shape[:2], np.nan)


class _Corrupted:
    """Every image once for every cell, all of one image one after the other, so that it is read once. An `answers.Images`."""

    labels = None
    patients = None

    def __init__(
        self, images: Images, chosen: Array, cells: Sequence[Cell], modality: str, seed: int, window: tuple[float, float]
    ) -> None:
        self._images, self._chosen, self._cells = images, chosen, cells
        self._modality, self._seed, self._window = modality, seed, window
        self.rows = [row for index in chosen for row in [images.rows[int(index)]] * len(cells)]
        self._read: tuple[int, Array] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, index: int) -> Array:
        which, cell = divmod(index, len(self._cells))
        image = int(self._chosen[which])
        if self._read is None or self._read[0] != image:
            self._read = (image, self._images.pixels(image))
        pixels, (name, severity) = self._read[1], self._cells[cell]
        if (name, severity) == CLEAN:
            return pixels
        return corrupt(pixels, name, severity, modality=self._modality, seed=self._seed, index=image, window=self._window)


def _by_cell(answers: Answers, count: int) -> Array:
    """Decisions `[S, N]` or `[S, N, K]` of answers that come image by image."""
    assert answers.decided is not None
    return np.asarray(answers.decided.reshape(count, -1, *answers.decided.shape[1:]).swapaxes(0, 1))


def _differ(one: Array, other: Array) -> Array:
    """How many images are decided differently, `[V, S]`; of several labels any may differ."""
    differs = one != other
    return np.asarray((differs.any(axis=3) if differs.ndim == 4 else differs).sum(axis=2))


def _summary(errors: Array, kinds: int, base: int | None) -> Iterator[tuple[int, str, float]]:
    """Position of a contender, name of a number and the number, of errors `[V, S]`, the clean one first."""
    clean = errors[:, :1]
    each = errors[:, 1:].reshape(len(errors), kinds, -1)
    mean = each.mean(axis=(1, 2))
    for number, own in enumerate(each):
        yield number, "mean_error", float(mean[number])
        yield number, "increase", float(mean[number] - clean[number, 0])
        if base is not None and number != base:
            yield number, "difference", float(mean[number] - mean[base])
        if base is not None:
            yield number, "mce", _ratio(own, each[base])
            yield number, "relative_mce", _ratio(own - clean[number], each[base] - clean[base])


def _ratio(one: Array, other: Array) -> float:
    """The mean over rows of sum / sum, of the rows where the lower sum is above 0 by more than round-off; NaN if none is."""
    above, below = one.sum(axis=1), other.sum(axis=1)
    there = below > 1e-9
    return float((above[there] / below[there]).mean()) if there.any() else math.nan

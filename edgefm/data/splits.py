"""Who is in train, val, calibrate and test: given, or cut by patient. Not the choice of images for one training epoch.

A patient is on one side only. Where no patients are known, identical files count as one patient and every other image
is its own. The cut is a pure function of the seed and of who is in the data, not of their order.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from ..errors import InputError

SPLITS = ("train", "val", "calibrate", "test")


def check_patients(patients: Sequence[str], splits: np.ndarray, where: Sequence[str]) -> None:
    """Raise `InputError` naming the patients that are in more than one split, and where.

    Args:
        patients: one id per image. splits: unicode `[N]`. where: what to call each image, such as "row 7".
    """
    first: dict[str, int] = {}
    torn: dict[str, int] = {}
    for index, patient in enumerate(patients):
        other = first.setdefault(patient, index)
        if splits[other] != splits[index]:
            torn.setdefault(patient, index)
    if torn:
        patient, index = next(iter(torn.items()))
        other = first[patient]
        more = f", and so are {len(torn) - 1} other patients" if len(torn) > 1 else ""
        raise InputError(
            f"patient '{patient}' is in {splits[other]} ({where[other]}) and in {splits[index]} ({where[index]}){more}",
            expected="each patient in one split",
            do="put all images of a patient into one split, or remove the split column and let EdgeFM cut it",
        )


def cut(patients: Sequence[str], strata: Sequence[Hashable], shares: dict[str, float], *, seed: int, what: str) -> np.ndarray:
    """Deal patients out to splits, stratum by stratum, in an order drawn from `seed`.

    Each patient goes where the most images are missing; what rounding leaves over is carried to the next stratum.
    A split that stayed empty gets one patient of the split that has most.

    Args:
        patients: one id per image. strata: one class (or set of labels) per image.
        shares: split name to its share of the images; shares sum to 1 and those of 0 stay empty.
        what: how to call the data in an error.

    Returns:
        unicode `[N]`.

    Raises:
        InputError: too few patients to give each split one.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, patient in enumerate(patients):
        members[patient].append(index)
    wanted = [split for split, share in shares.items() if share > 0]
    if len(members) < len(wanted):
        count = (
            "1 patient" if len(members) == 1 else f"{len(members)} patients (images with no patient column count as one each)"
        )
        raise InputError(
            f"{what} has {count}, too few for {', '.join(wanted)}",
            expected=f"at least {len(wanted)}",
            do="add images of other patients",
        )
    frequency = Counter(strata)
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for patient, indexes in members.items():
        groups[min((strata[i] for i in indexes), key=lambda s: (frequency[s], str(s)))].append(patient)
    result = np.empty(len(patients), dtype="<U9")
    missing = dict.fromkeys(wanted, 0.0)
    for stratum in sorted(groups, key=lambda s: (frequency[s], str(s))):
        total = sum(len(members[patient]) for patient in groups[stratum])
        for split in wanted:
            missing[split] += shares[split] * total
        for patient in sorted(groups[stratum], key=lambda p: _draw(seed, p)):
            split = max(wanted, key=lambda s: missing[s])
            missing[split] -= len(members[patient])
            result[members[patient]] = split
    for split in wanted:
        if not (result == split).any():
            donor = Counter(str(result[indexes[0]]) for indexes in members.values()).most_common(1)[0][0]
            given = [patient for patient, indexes in members.items() if result[indexes[0]] == donor]
            result[members[max(given, key=lambda p: _draw(seed, p))]] = split
    return result


def _draw(seed: int, patient: str) -> bytes:
    return hashlib.sha256(f"{seed}:{patient}".encode("utf-8", "surrogateescape")).digest()

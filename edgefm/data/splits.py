"""Who is in train, val, calibrate and test: given, or cut by patient. Not the choice of images for one training epoch.

A patient is on one side only. Where no patients are known, identical files count as one patient and every other image
is its own. The order of the data never matters. With `MANY` patients or more, a patient's split is a pure function of seed,
shares and the patient's id: no other patient and no label moves anybody. With fewer, chance alone would leave classes out, so
each class is cut by itself: a patient that goes or a label that is corrected moves the few who stand nearest to a border.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from ..errors import InputError

SPLITS = ("train", "val", "calibrate", "test")
MANY = 300  # patients, of the whole data set, whatever part of it is cut


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


def cut(
    patients: Sequence[str],
    strata: Sequence[Hashable],
    shares: Mapping[str, float],
    *,
    seed: int,
    many: bool,
    what: str,
    part: str = "",
    called: Sequence[str] | None = None,
) -> np.ndarray:
    """Each patient's split, by the hash of seed, part and patient as a number from 0 to 1.

    With many patients the number itself is held against the shares, one after the other: they are shares of patients. With
    few, those of one stratum stand in the order of their numbers, each as long as it has images, and the row is cut: they are
    shares of images. The stratum of a patient is the set of its images' strata. Where its row begins is drawn by its name, so
    that many small strata together come to the shares, too.

    A split that stayed empty gets one patient of the split that has most.

    Args:
        patients: one id per image. strata: one class (or set of labels) per image, equal ones of equal `str`.
        shares: split name to its share; shares sum to 1 and those of 0 stay empty.
        many: whether the whole data set has `MANY` patients.
        what: how to call the data in an error.
        part: the split that is cut, "" for everything: a part is not cut by the numbers that made it.
        called: what is hashed of an image's patient instead of the id, equal for all images of one.

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
    names = patients if called is None else called
    place = {patient: _draw(seed, part, names[indexes[0]]) for patient, indexes in members.items()}
    at = place if many else _in_strata(members, strata, place, lambda name: _draw(seed, part, name))
    result = np.empty(len(patients), dtype="<U9")
    for patient, indexes in members.items():
        result[indexes] = _side(at[patient], wanted, shares)
    for split in wanted:
        if not (result == split).any():
            donor = Counter(str(result[indexes[0]]) for indexes in members.values()).most_common(1)[0][0]
            given = [patient for patient, indexes in members.items() if result[indexes[0]] == donor]
            result[members[max(given, key=lambda p: (place[p], p))]] = split
    return result


def _draw(seed: int, part: str, name: str) -> float:
    """From 0 up to, but not, 1; each number as likely."""
    digest = hashlib.sha256(f"{part}:{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _in_strata(
    members: Mapping[str, list[int]], strata: Sequence[Hashable], place: Mapping[str, float], draw: Callable[[str], float]
) -> dict[str, float]:
    """Where each patient stands in the row of its stratum, 0 to 1."""
    rows: dict[str, list[str]] = defaultdict(list)
    for patient, indexes in members.items():
        rows[" ".join(sorted({str(strata[i]) for i in indexes}))].append(patient)
    at = {}
    for name, row in rows.items():
        start, before, total = draw(f"stratum {name}"), 0, sum(len(members[patient]) for patient in row)
        for patient in sorted(row, key=lambda p: (place[p], p)):
            at[patient] = (before + start * len(members[patient])) / total
            before += len(members[patient])
    return at


def _side(at: float, wanted: Sequence[str], shares: Mapping[str, float]) -> str:
    border = 0.0
    for split in wanted[:-1]:
        border += shares[split]
        if at < border:
            return split
    return wanted[-1]

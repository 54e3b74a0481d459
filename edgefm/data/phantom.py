"""`phantom:NAME`: generated data sets for demonstrations and tests, with patients, scanners and labels.

Not the drawing of one picture (`radiograph.py`), and nobody's picture: every pixel is computed from (seed, image).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .listing import Listing
from .radiograph import SCANNERS, VERSION, radiograph

LABELS = ("clear", "opacity")
DEFAULTS = {"n": 800, "seed": 0, "size": 128}
_LIMITS = {"n": (1, 1_000_000), "seed": (0, 2**31 - 1), "size": (16, 4096)}


@dataclass(frozen=True)
class Phantoms:
    """Radiographs drawn when asked for."""

    seed: int
    size: int
    cases: tuple[Case, ...]

    def pixels(self, key: int) -> np.ndarray:
        """uint8 or uint16 `[size, size]`, depending on the scanner."""
        case = self.cases[key]
        return radiograph(
            self.seed, key, self.size, self.size, contrast=case.contrast, scanner=case.scanner, patient=case.patient
        )

    def digest(self, key: int) -> bytes:
        """SHA-256 of what determines the picture."""
        return hashlib.sha256(f"radiograph {VERSION} {self.seed} {key} {self.size} {self.cases[key]}".encode()).digest()

    def copies(self) -> dict[int, int]:
        """None: no two pictures are the same."""
        return {}


@dataclass(frozen=True)
class Case:
    """What decides one picture besides its noise."""

    patient: int
    scanner: str
    opacity: bool
    contrast: float


def phantom(
    name: str = "opacity", n: int = DEFAULTS["n"], seed: int = DEFAULTS["seed"], size: int = DEFAULTS["size"]
) -> Dataset:
    """The data set `phantom:NAME?n=...&seed=...&size=...`, cut by patient with the default shares.

    Args:
        name: "opacity": chest radiographs, `clear` or `opacity`.
        n: images. seed: of everything in it. size: side, pixels.

    Raises:
        InputError: unknown name, or a number out of range.
    """
    from .sources import load_data

    return load_data(f"phantom:{name}?n={n}&seed={seed}&size={size}")


def read_phantom(text: str) -> Listing:
    """The listing of `phantom:NAME` or `phantom:NAME?n=800&seed=0&size=128`. Raises `InputError`."""
    name, _, query = text.removeprefix("phantom:").partition("?")
    options = dict(DEFAULTS)
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in DEFAULTS or not value.isascii() or not value.isdigit():
            raise InputError(f"{text} has the option {key}={value}", expected="whole numbers for n, seed and size")
        options[key] = int(value)
    return _listing(name, options)


def _listing(name: str, options: dict[str, int]) -> Listing:
    if name != "opacity":
        raise InputError(f"there is no phantom '{name}'", expected="phantom:opacity")
    for key, value in options.items():
        low, high = _LIMITS[key]
        if not low <= value <= high:
            raise InputError(f"phantom:{name} with {key}={value}", expected=f"{low} to {high}")
    n, seed, size = options["n"], options["seed"], options["size"]
    cases = tuple(_cases(n, seed))
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return Listing(
        name=f"phantom:{name}?{query}",
        store=Phantoms(seed, size, cases),
        names=tuple(f"opacity-{index:05d}" for index in range(n)),
        rows=(None,) * n,
        cells=tuple((LABELS[case.opacity],) for case in cases),
        patients=tuple(f"P{case.patient:05d}" for case in cases),
        groups={"scanner": tuple(case.scanner for case in cases)},
    )


def _cases(n: int, seed: int) -> list[Case]:
    """Patients of one to three images each; an image's label and contrast are drawn anew, its scanner is the patient's."""
    rng = np.random.default_rng([seed, 0])
    cases: list[Case] = []
    patient = 0
    while len(cases) < n:
        scanner = str(rng.choice(list(SCANNERS), p=[0.5, 0.3, 0.2]))
        for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
            opacity = bool(rng.random() < 0.5)
            cases.append(Case(patient, scanner, opacity, _contrast(opacity, float(rng.standard_normal()))))
        patient += 1
    return cases[:n]


def _contrast(opacity: bool, normal: float) -> float:
    """Contrast of the spot: clear 0.06 +- 0.10, opacity 0.34 +- 0.10 (d' = 2.8, so AUC 0.976 at best)."""
    return max(0.0, (0.34 if opacity else 0.06) + 0.10 * normal)

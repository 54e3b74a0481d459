"""Randomness as a pure function of integers: the same keys give the same numbers, in any order, on any machine.

Not a generator: there is no state to save, so a resumed run and an uninterrupted one draw the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def bits(*keys: int | np.ndarray) -> np.ndarray:
    """64 random bits for every combination of the keys, which broadcast against each other.

    Each key is mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood 2014, figure 19).

    Args:
        keys: integers or integer arrays; negative ones count modulo 2^64.

    Returns:
        uint64, of the keys' common shape.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is what is wanted
        z: Any = np.uint64(0)
        for key in keys:
            z = (z ^ _unsigned(key)) + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return np.asarray(z)


def uniform(*keys: int | np.ndarray) -> np.ndarray:
    """float64 in [0, 1) for every combination of the keys: the upper 53 bits."""
    return (bits(*keys) >> np.uint64(11)) * 2.0**-53


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch shows its images: a permutation of 0 .. count - 1, int64, of (seed, epoch) only."""
    return np.argsort(bits(seed, epoch, np.arange(count)), kind="stable")


def torch_seed(seed: int, step: int, piece: int) -> int:
    """The seed of torch's own randomness (dropout) in one piece of a step of training, 0 to 2^63 - 1."""
    return int(bits(seed, step, piece)) >> 1


def _unsigned(key: int | np.ndarray) -> np.ndarray | np.uint64:
    return key.astype(np.uint64) if isinstance(key, np.ndarray) else np.uint64(key % 2**64)

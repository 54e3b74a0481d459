"""Outliers moved from activations into weights where a LayerNorm stands before a linear layer, without any data.

SmoothQuant (Xiao et al. 2022): a row's int8 scale is set by its largest channel, so channels that are always large cost all the
others their digits. Y = X W = (X / s) (s W) with one s per channel; X / s costs nothing where X is a LayerNorm's output, whose
gamma and beta take the division. There |X_j| is known without an image: x̂ has variance 1, so X_j is about |gamma_j| x̂ + beta_j.

    s_j = (3 |gamma_j| + |beta_j|)^a / max_n |W_nj|^(1 - a),  a = 1/2
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .native_vit import Vit

STRENGTH = 0.5
PAIRS = (("norm1", "qkv"), ("norm2", "fc1"))


def smoothed(vit: Vit) -> Vit:
    """The same function, its norms and the weights behind them scaled channel by channel."""
    norms, linears = dict(vit.norms), dict(vit.linears)
    for index in range(vit.architecture["depth"]):
        for norm, linear in PAIRS:
            (gamma, beta), (weight, bias) = norms[f"layers.{index}.{norm}"], linears[f"layers.{index}.{linear}"]
            scale = _scale(gamma, beta, weight)
            norms[f"layers.{index}.{norm}"] = gamma / scale, beta / scale
            linears[f"layers.{index}.{linear}"] = weight * scale, bias
    return dataclasses.replace(vit, norms=norms, linears=linears)


def _scale(gamma: np.ndarray, beta: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """s, float32 `[K]`, its geometric mean 1; 1 for channels that are always 0, or that nothing reads."""
    inputs, weights = 3 * np.abs(gamma.astype(np.float64)) + np.abs(beta), np.abs(weight).max(axis=0).astype(np.float64)
    used = (inputs > 0) & (weights > 0)
    scale = np.ones(len(gamma))
    if used.any():
        found = inputs[used] ** STRENGTH / weights[used] ** (1 - STRENGTH)
        scale[used] = found / np.exp(np.log(found).mean())
    return scale.astype(np.float32)

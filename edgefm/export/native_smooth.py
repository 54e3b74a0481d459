"""Outliers moved from activations into weights, in front of each of a layer's four linear layers, without any data.

SmoothQuant (Xiao et al. 2022): a row's int8 scale is set by its largest channel, so channels that are always large cost all the
others their digits. Y = X W = (X / s) (s W) with one s per channel, and X / s costs nothing where what makes X takes the
division:

    norm1 -> qkv, norm2 -> fc1    gamma and beta are divided
    values -> proj                the rows of qkv that make values: attention only averages them
    hidden -> fc2                 SwiGLU: the rows of fc1 that make values; GELU: 1 / s behind it, `hidden` of the format

How large a channel is is known without an image. x^ has variance 1, so a LayerNorm's X_j is about |gamma_j| x^ + beta_j:

    s_j = (3 |gamma_j| + |beta_j|)^a / max_n |W_nj|^(1 - a),  a = 1/2

A row w of the layer behind it makes about X_j = |w . beta + b| + 3 |w gamma|, if channels were independent. They are not, so
this says too little to balance all channels by it (tried: norms with outliers then cost ten times the error), but enough to
find those that stand out:

    s_j = (X_j / median X)^a  where X_j is more than 4 medians, else 1
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .native_pack import COLUMNS
from .native_vit import Vit

STRENGTH, OUTLIER = 0.5, 4.0
Array = np.ndarray


def smoothed(vit: Vit) -> Vit:
    """The same function, its norms and weights scaled channel by channel; with `layers.I.hidden` among its rows for GELU."""
    norms, linears, rows = dict(vit.norms), dict(vit.linears), dict(vit.rows)
    attention = vit.architecture["heads"] * vit.architecture["head_width"]
    gated = vit.architecture["activation"] == "swiglu"
    for index in range(vit.architecture["depth"]):
        at = f"layers.{index}"
        qkv, fc1 = linears[f"{at}.qkv"], linears[f"{at}.fc1"]
        values = np.arange(2 * attention, 3 * attention)
        qkv, linears[f"{at}.proj"], _ = _rows(qkv, norms[f"{at}.norm1"], linears[f"{at}.proj"], values)
        hidden = np.arange(len(fc1[0]))
        if gated:  # blocks of gates and of values in turn
            hidden = hidden.reshape(-1, 2, COLUMNS)[:, 1].ravel()
            fc1, linears[f"{at}.fc2"], _ = _rows(fc1, norms[f"{at}.norm2"], linears[f"{at}.fc2"], hidden)
        else:
            _, linears[f"{at}.fc2"], scale = _rows(fc1, norms[f"{at}.norm2"], linears[f"{at}.fc2"], hidden)
            rows[f"{at}.hidden"] = 1 / scale
        norms[f"{at}.norm1"], linears[f"{at}.qkv"] = _norm(norms[f"{at}.norm1"], qkv)
        norms[f"{at}.norm2"], linears[f"{at}.fc1"] = _norm(norms[f"{at}.norm2"], fc1)
    return dataclasses.replace(vit, norms=norms, linears=linears, rows=rows)


def _norm(norm: tuple[Array, Array], linear: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """A norm and the layer behind it; s has the geometric mean 1, and is 1 for channels that are always 0 or never read."""
    (gamma, beta), (weight, bias) = norm, linear
    inputs, weights = 3 * np.abs(gamma.astype(np.float64)) + np.abs(beta), np.abs(weight).max(axis=0).astype(np.float64)
    used = (inputs > 0) & (weights > 0)
    scale = np.ones(len(gamma), np.float32)
    if used.any():
        found = inputs[used] ** STRENGTH / weights[used] ** (1 - STRENGTH)
        scale[used] = found / np.exp(np.log(found).mean())
    return (gamma / scale, beta / scale), (weight * scale, bias)


def _rows(
    linear: tuple[Array, Array], norm: tuple[Array, Array], behind: tuple[Array, Array], chosen: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
    """Some rows of a layer, after `norm`, and the layer that reads what they make. And s, float32 `[rows]`."""
    (weight, bias), (gamma, beta) = linear, norm
    rows = weight[chosen].astype(np.float64)
    made = np.abs(rows @ beta + bias[chosen]) + 3 * np.linalg.norm(rows * gamma, axis=1)
    usual = np.median(made[made > 0]) if (made > 0).any() else 1.0
    scale = np.where(made > OUTLIER * usual, (made / usual) ** STRENGTH, 1.0).astype(np.float32)
    weight, bias = weight.copy(), bias.copy()
    weight[chosen] /= scale[:, None]
    bias[chosen] /= scale
    return (weight, bias), (behind[0] * scale, behind[1]), scale

"""EdgeFM's own engine: vision transformers in C++, their weights read in place in the mapped bundle.

Not a converter: the files are what `export` wrote (docs/native-format.md), and the arithmetic is `csrc/vit_encoder.cpp`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefm import __version__, _native

from ...bundle import Bundle
from ...errors import BundleError, InputError
from ...spec.manifest import Variant
from . import Running, encoder_of


class Native:
    """One variant with a team of threads of its own; callers from several threads take turns.

    Attributes:
        grid: patches per side.
        class_token: whether there is one, and so a heat map.
    """

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int, precision: Running, batch: int = 1) -> None:
        if precision != variant.precision:
            raise InputError(f"{variant.name} cannot run in {precision} on EdgeFM's own engine", expected=variant.precision)
        graph = encoder_of(bundle, variant)
        if len(graph.files) != 2:
            raise BundleError(f"{variant.name} has {len(graph.files)} files", expected="a description and its weights")
        description, weights = (bundle.view(file) for file in graph.files)
        try:
            self._encoder = _native.Encoder(bytes(description), weights, threads=threads, images=batch)
        except ValueError as error:
            raise BundleError(f"EdgeFM {__version__} cannot load {variant.name} ({error})", do="upgrade EdgeFM") from error
        except RuntimeError as error:
            raise InputError(f"{variant.name}: {error}", do="use fewer threads, or allow this process more") from error
        self.precision = precision
        self.grid, self.class_token = self._encoder.grid, self._encoder.class_token
        made = {"logits": self._encoder.classes, "embedding": self._encoder.embedding}
        self._outputs = {out.name: out.shape[1] for out in graph.outputs}
        if any(made[name] != width for name, width in self._outputs.items()):
            raise BundleError(f"{variant.name} answers {made}", expected=f"{self._outputs}, as the manifest says")
        spec = bundle.preprocess
        if (self._encoder.channels, self._encoder.size) != (spec.channels, spec.size):
            found = [self._encoder.channels, self._encoder.size]
            raise BundleError(f"{variant.name} takes {found} channels and pixels", expected=f"{[spec.channels, spec.size]}")

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run prepared images, float32 `[N, C, S, S]`, any N. Returns float32 "logits" `[N, K]` and "embedding" `[N, D]`.

        Raises:
            InputError: this process is a fork of the one that loaded the variant with several threads.
        """
        logits, embedding, _ = self._run(batch)
        found = {"logits": logits, "embedding": embedding}
        return {name: found[name] for name in self._outputs}

    def heat(self, batch: np.ndarray) -> np.ndarray:
        """What the class token attends to in the last layer, mean over its heads: float32 `[N, grid, grid]`.

        A row's values are softmax probabilities; with those of class token and registers, which are left out, they add up to 1.

        Args:
            batch: float32 `[N, C, S, S]`, any N.

        Raises:
            InputError: the model has no class token, a value of the map is not finite, or as above.
        """
        if not self.class_token:
            raise InputError("this model has no class token, whose attention could be shown", do="leave --explain out")
        found: np.ndarray = self._run(batch, heat=True)[2]
        if not np.isfinite(found).all():
            raise InputError("the heat map's values are not finite", expected="finite numbers", do="do not use this answer")
        return found

    def _run(self, batch: np.ndarray, heat: bool = False) -> Any:
        try:
            return self._encoder.run(batch, heat=heat)
        except RuntimeError as error:
            raise InputError(f"the engine does not run: {error}", do="open the session after the fork, in the child") from error

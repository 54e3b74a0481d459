"""A teacher that is loaded when it is asked, and let go once nothing more will be asked of it.

Not the keeping of its answers (`cache.py`) and not what is known of it without loading it (`known.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..models import LoadedModel, Outputs
from ..models.attention import AttentionEncoder
from ..models.loaded import Attended
from ..spec.recipe import AugmentRecipe
from ..train.images import Images
from ..train.precision import Precision, choose_precision, to_device
from ..train.predict import predict


class Teacher:
    """A model in eval mode. Nothing else may hold its module, or letting it go frees nothing.

    Args:
        model: as `load_model` gives it. tap: the node that it was cut at. device: where a torch model runs.
        window16: takes the place of the model's own.
        card: where what is known of it is kept, if it can be.
        load: makes the model; `model` is what is known of it then, and its module is not used.

    Attributes:
        about: what is known of the model, without its weights.
        known: whether that was known without loading it.
        precision: of its answers to training images.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        device: torch.device,
        tap: str | None = None,
        window16: tuple[float, float] | None = None,
        card: Path | None = None,
        load: Callable[[], LoadedModel] | None = None,
    ) -> None:
        self.window16 = window16
        self.about = self._about(model)
        self.tap, self.card, self.known = tap, card, load is not None
        self.device = device if model.kind == "torch" else torch.device("cpu")  # frozen graphs run in their own engine
        self.precision = choose_precision(model.module, self.device, training=False)
        self._load = load
        self._module: nn.Module | None = model.module.eval() if load is None else None

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on beside the images, as JSON can hold it."""
        about = self.about
        return {
            "teacher": about.sha256,
            "structure": about.structure,
            "tap": self.tap,
            "preprocess": msgspec.to_builtins(about.preprocess),
        }

    @property
    def here(self) -> bool:
        """Whether it can still be asked."""
        return self._module is not None or self._load is not None

    def ask(
        self,
        images: Images,
        indexes: np.ndarray,
        *,
        precision: Precision,
        view: tuple[int, int, AugmentRecipe] | None = None,
        tokens: bool = False,
        attention: Collection[str] | None = (),
    ) -> Iterator[tuple[np.ndarray, Outputs]]:
        """Its answers, batch by batch; see `train.predict.predict`. tokens: with the grid of features, where it has one.
        attention: what of its attention layers to say as well, see `AttentionEncoder`; None for all.

        Raises:
            InputError: it answers with numbers that are not finite; names the image. It cannot be loaded, or is not what was
                known of it.
        """
        self._have()
        assert self._module is not None
        if self.about.kind == "torch":
            to_device(self._module, self.device)
        if hasattr(self._module, "tokens"):
            self._module.tokens = tokens  # type: ignore[assignment]
        plain = attention is not None and not attention
        asked = self._module if plain else AttentionEncoder(self._module, attention)
        spec = self.about.preprocess
        for chosen, outputs in predict(asked, images, indexes, spec, device=self.device, precision=precision, view=view):
            noted = outputs.attention if isinstance(outputs, Attended) else {}
            for each in (*outputs, *noted.values()):
                if each is not None and not (finite := torch.isfinite(each.flatten(1)).all(dim=1)).all():
                    name = images.dataset.names[int(chosen[int(torch.nonzero(~finite)[0])])]
                    raise InputError(
                        f"{self.about.name} answers {name} with numbers that are not finite", do="check the model's weights"
                    )
            yield chosen, outputs

    def let_go(self) -> None:
        """Free its memory. It cannot be asked any more."""
        self._module = self._load = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _have(self) -> None:
        """Load it, if that was not done yet."""
        if self._module is not None or self._load is None:
            return
        model = self._load()
        if replace(self._about(model), module=self.about.module) != self.about:
            raise InputError(f"{self.about.name} is not the teacher that {self.card} describes", do="delete that file")
        self._module, self._load = model.module.eval(), None

    def _about(self, model: LoadedModel) -> LoadedModel:
        preprocess = model.preprocess
        if self.window16 is not None:
            preprocess = msgspec.structs.replace(preprocess, window16=self.window16)
        return replace(model, module=nn.Identity(), preprocess=preprocess)

"""The nodes of a model whose features can be distilled, by name, and a model cut at one of them.

Not the matching of teacher and student features (that is `distill/`'s).
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import InputError
from ..spec.task import make_task
from .loaded import LoadedModel, Outputs
from .pooling import grid, pool, poolable
from .probe import base_of
from .teachers import GRAPHS, load_model


class Tap(NamedTuple):
    """A node. `shape` starts with the batch, -1 where it is open: `[N, D]`, `[N, T, D]`, `[N, D, H, W]` or `[N, H, W, D]`."""

    name: str
    kind: str
    shape: tuple[int, ...]


def list_taps(source: str | Path | nn.Module, *, trust_remote_code: bool = False) -> list[Tap]:
    """The nodes of MODEL whose features can be distilled, in the order of the computation.

    Of a torch model: its stages or blocks, found by one forward pass of an empty image. Of a frozen graph: its tensors.

    Raises:
        InputError: as `load_model`.
    """
    if isinstance(source, (str, Path)) and Path(source).suffix in GRAPHS and Path(source).is_file():
        return _graph_taps(Path(source))
    loaded = load_model(source, trust_remote_code=trust_remote_code)
    if loaded.kind == "frozen":
        raise InputError(
            f"{source} is a classifier on a frozen graph", do="ask that graph itself; edgefm.json in there names it"
        )
    return _torch_taps(loaded)


def _graph_taps(path: Path) -> list[Tap]:
    from ..bundle import open_bundle
    from .graph import Graph

    if path.suffix != ".efm":
        return [Tap(node.name, node.kind, node.shape) for node in Graph(path).taps()]
    with open_bundle(path) as bundle:
        return [Tap(node.name, node.kind, node.shape) for node in Graph(path, bundle).taps()]


def _torch_taps(loaded: LoadedModel) -> list[Tap]:
    shapes: dict[str, tuple[int, ...]] = {}
    stages = _stages(inner_of(loaded.module))

    def remember(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[name] = tuple(_tensor(output).shape)

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in stages.items()]
    try:
        side = loaded.preprocess.size
        with torch.no_grad():
            loaded.module(torch.zeros(1, loaded.preprocess.channels, side, side))
    finally:
        for handle in handles:
            handle.remove()
    return [Tap(name, type(stages[name]).__name__, (-1, *shape[1:])) for name, shape in shapes.items() if poolable(shape)]


def inner_of(module: nn.Module) -> nn.Module:
    """The other library's model inside one of our encoders, whose names users know."""
    module = base_of(module)
    for name in ("model", "body", "trunk"):
        inner = getattr(module, name, None)
        if isinstance(inner, nn.Module):
            return inner
    return module


def _stages(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost members of lists and sequences that have parts of their own: a transformer's blocks, a convnet's stages."""
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, name: str) -> None:
        for key, child in module.named_children():
            path = f"{name}.{key}" if name else key
            if isinstance(module, (nn.ModuleList, nn.Sequential)) and any(True for _ in child.children()):
                found[path] = child
            else:
                walk(child, path)

    walk(model, "")
    return found


def _tensor(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


class TappedEncoder(nn.Module):
    """A model whose embedding is the pooled output of one of its parts; it has no logits."""

    tokens: bool = False  # see `encoder.py`

    def __init__(self, encoder: nn.Module, part: nn.Module, prefix: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.part = part
        self.prefix = prefix

    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to embedding `[N, D]`."""
        seen: list[torch.Tensor] = []
        handle = self.part.register_forward_hook(lambda _module, _inputs, output: seen.append(_tensor(output)))
        try:
            self.encoder(x)
        finally:
            handle.remove()
        return Outputs(None, pool(seen[0], self.prefix), grid(seen[0], self.prefix) if self.tokens else None)


def tap_module(loaded: LoadedModel, tap: str) -> LoadedModel:
    """`loaded` with the features of the part called `tap` as its embedding, the mean over plane or patch tokens.

    Raises:
        InputError: there is no such part, with the nearest names.
    """
    inner = inner_of(loaded.module)
    parts = dict(inner.named_modules())
    if not tap or tap not in parts:
        stages = list(_stages(inner))
        near = difflib.get_close_matches(tap, stages, n=3) or stages[-3:]
        raise InputError(
            f"{loaded.name} has no node {tap!r}",
            expected=f"one of {', '.join(near)}",
            do="list all with: edgefm inspect MODEL --taps",
        )
    prefix = int(getattr(base_of(loaded.module), "prefix", 0) or getattr(inner, "num_prefix_tokens", 0))
    module = TappedEncoder(loaded.module, parts[tap], prefix)
    module.training = loaded.module.training
    return replace(loaded, module=module, task=make_task("embedding"))

"""A bundle as a teacher: `.efm`, run by the runtime it was made for.

Not the device's choice of a variant: a teacher runs in fp32 where the bundle has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from msgspec import UNSET
from msgspec.structs import replace
from torch import nn

from ..bundle import open_bundle
from ..errors import InputError
from ..spec.task import make_task
from .loaded import LoadedModel, Outputs

if TYPE_CHECKING:
    from ..runtime.session import Session


class BundleModule(nn.Module):
    """A session that answers `Outputs`. Without parameters; tensors go through the CPU."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`, on the device of `x`."""
        found = self.session.run_prepared(np.ascontiguousarray(x.detach().cpu().numpy(), np.float32))
        tensors = {name: torch.from_numpy(value.copy()).to(x.device) for name, value in found.items()}
        return Outputs(tensors.get("logits"), tensors["embedding"])


def load_bundle(path: Path, *, tap: str | None = None, licence: str | None = None) -> LoadedModel:
    """Load a bundle as a frozen teacher; with `tap`, the features of a node of its `openvino-fp32` variant.

    Raises:
        BundleError: not a good bundle, or one that a gate refused.
        InputError: no such node.
    """
    with open_bundle(path) as bundle:
        manifest, preprocess, identity = bundle.manifest, bundle.preprocess, bundle.id
        if tap is not None:
            from .frozen import FrozenGraph
            from .graph import Graph

            graph = Graph(path, bundle)
            module: nn.Module = FrozenGraph(graph, None, graph.node(tap).output)
    if tap is None:
        from ..runtime.session import Session

        names = [variant.name for variant in manifest.variants]
        chosen = next((name for name in ("openvino-fp32", "onnx-fp32") if name in names), names[0])
        module = BundleModule(Session(path, variant=chosen))
    elif manifest.refused is not None:
        raise InputError(f"{path} is marked as refused: {manifest.refused}", do="use another teacher")
    return LoadedModel(
        module=module.eval(),
        preprocess=preprocess,
        task=replace(manifest.task, conformal=UNSET) if tap is None else make_task("embedding"),
        name=manifest.name,
        licence=licence or next((ancestor.licence for ancestor in manifest.lineage if ancestor.role != "data"), "unknown"),
        sha256=identity,
        kind="frozen",
        ancestors=manifest.lineage,
    )

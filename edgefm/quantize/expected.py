"""What an int8 graph itself makes of the bundle's golden inputs, so that a device can hold int8 to int8.

Not the fp32 outputs (`export/golden.py`): int8 differs from them by what the gate allowed on real images, and on generated
pictures, which no image calibrated, by much more. A MobileNet that changes 1 of 237 decisions is off by 0.17 (cosine) on one.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import onnx
from msgspec.structs import replace

from ..export.draft import Draft
from ..export.golden import npy
from .execute import execute


def with_expected(draft: Draft, graph: onnx.ModelProto, prepare: Callable[[np.ndarray], np.ndarray]) -> Draft:
    """The draft whose golden inputs have int8 outputs, too: "int8.logits" and "int8.embedding", of the graph as it is written.

    Nothing is fused, so they are neither engine's own: each engine may round what it fuses otherwise, within
    `runtime/golden.py`.

    Args:
        prepare: pixels to float32 `[C, S, S]`.
    """
    if not draft.manifest.golden:
        return draft
    pixels = [np.load(io.BytesIO(draft.entries[golden.pixels]), allow_pickle=False) for golden in draft.manifest.golden]
    found = execute(graph, np.stack([prepare(each) for each in pixels]))
    listed, entries = [], dict(draft.entries)
    for index, golden in enumerate(draft.manifest.golden):
        members = {f"int8.{name}": f"golden/{golden.name}.int8.{name}.npy" for name in found if name in golden.outputs}
        entries.update({member: npy(found[name.removeprefix("int8.")][index]) for name, member in members.items()})
        listed.append(replace(golden, outputs={**golden.outputs, **members}))
    return Draft(manifest=replace(draft.manifest, golden=tuple(listed)), preprocess=draft.preprocess, entries=entries)

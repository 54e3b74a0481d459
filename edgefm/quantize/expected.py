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
from ..export.native import execute_native
from .execute import execute

NATIVE = "native-int8"


def with_expected(draft: Draft, graph: onnx.ModelProto | None, prepare: Callable[[np.ndarray], np.ndarray]) -> Draft:
    """The draft whose golden inputs have int8 outputs, too: "int8.logits" and "int8.embedding", of the graph as it is written.

    Nothing is fused, so they are neither engine's own: each engine may round what it fuses otherwise, within
    `runtime/golden.py`. The native engine has arithmetic of its own, and so "native-int8.logits" and "native-int8.embedding",
    what it answers on this machine: there is no graph that says what it should.

    Args:
        graph: None where no variant runs it. prepare: pixels to float32 `[C, S, S]`.
    """
    if not draft.manifest.golden:
        return draft
    variants = [variant.name for variant in draft.manifest.variants if variant.precision == "int8"]
    pixels = [np.load(io.BytesIO(draft.entries[golden.pixels]), allow_pickle=False) for golden in draft.manifest.golden]
    images = np.stack([prepare(each) for each in pixels])
    found: dict[str, np.ndarray] = {}
    if graph is not None and any(name != NATIVE for name in variants):
        found |= {f"int8.{name}": rows for name, rows in execute(graph, images).items()}
    if NATIVE in variants:
        files = (draft.entries[f"variants/{NATIVE}/encoder.{kind}"] for kind in ("json", "bin"))
        found |= {f"{NATIVE}.{name}": rows for name, rows in execute_native(*files, images).items()}
    listed, entries = [], dict(draft.entries)
    for index, golden in enumerate(draft.manifest.golden):
        wanted = [name for name in found if name.partition(".")[2] in golden.outputs]
        members = {name: f"golden/{golden.name}.{name}.npy" for name in wanted}
        entries.update({member: npy(found[name][index]) for name, member in members.items()})
        listed.append(replace(golden, outputs={**golden.outputs, **members}))
    return Draft(manifest=replace(draft.manifest, golden=tuple(listed)), preprocess=draft.preprocess, entries=entries)

"""The verb `export`: a model as an fp32 bundle, every engine held to the model before a byte is written.

Not quantization: `quantize` starts from the draft that is made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from msgspec.structs import replace

from ..errors import InputError, ParityError
from ..models import LoadedModel, load_model
from ..partial import check_output
from ..runtime.engines import load_engine
from ..runtime.preprocess import Preprocessor
from ..spec.manifest import Precision, Variant
from ..spec.recipe import Recipe
from ..verify.parity import LIMIT, Expected, Finding, check, findings, first_failure
from .draft import Draft, new_manifest, new_variant, with_recipe, with_variants
from .golden import golden, golden_entries
from .locate import locate
from .native import native_entries
from .native_vit import read_vit
from .onnx import export_onnx, onnx_entries
from .openvino import openvino_entries
from .preprocess_graph import build_preprocess_graph

Engine = Literal["openvino", "onnx", "native"]
Report = Callable[[str], None]
GRAPH_ENGINES: tuple[Engine, ...] = ("openvino", "onnx")  # they run the ONNX graph, whatever it holds
ENGINES: tuple[Engine, ...] = (*GRAPH_ENGINES, "native")


def export(
    model: Any,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    report: Report = print,
) -> Path:
    """Write a model as an fp32 bundle for all engines that can run it.

    Args:
        model: any form of MODEL, or a `LoadedModel`.
        out: the .efm file to write, at the end and at once.
        recipe: what a run directory was made with; the bundle carries it.
        licence: the model's licence, where its source states none.
        trust_remote_code: run Python code that comes with the model.
        force: replace `out` if it exists.
        report: takes one sentence at a time.

    Returns:
        `out`.

    Raises:
        InputError: `out` cannot be written, or the model cannot be loaded or exported.
        ParityError: an engine does not answer as the model does.
    """
    out = Path(out)
    check_output(out, force, ".efm")
    loaded = load(model, licence=licence, trust_remote_code=trust_remote_code)
    proto = export_onnx(loaded)
    engines, why = usable_engines(loaded, ENGINES)
    if why:
        report(f"left out: {why}")
    draft = held_draft(loaded, proto, golden(loaded), out, engines=engines, report=report)
    if recipe is not None:
        draft = with_recipe(draft, recipe)
    identity = draft.write(out, force=force)
    report(f"{out} is written, {out.stat().st_size / 1e6:.1f} MB, id {identity[:12]}")
    return out


def load(model: Any, *, licence: str | None, trust_remote_code: bool) -> LoadedModel:
    """Any form of MODEL as a `LoadedModel`. Raises `InputError`."""
    if isinstance(model, LoadedModel):
        return model
    return load_model(model, licence=licence, trust_remote_code=trust_remote_code)


def usable_engines(model: LoadedModel, wanted: Sequence[Engine]) -> tuple[tuple[Engine, ...], str]:
    """Those of the engines that can run this model, and why the native one cannot, as a clause; "" where it can.

    Raises:
        InputError: no other engine is wanted than the native one, and it cannot.
    """
    if "native" not in wanted:
        return tuple(wanted), ""
    others = tuple(engine for engine in wanted if engine != "native")
    try:
        load_engine("native")
        read_vit(model)
    except InputError as error:
        if not others:
            raise
        return others, error.found + (f"; expected {error.expected}" if error.expected else "")
    return tuple(wanted), ""


def held_draft(
    model: LoadedModel,
    proto: onnx.ModelProto,
    pictures: Sequence[Expected],
    out: Path,
    *,
    engines: Sequence[Engine] = GRAPH_ENGINES,
    report: Report,
) -> Draft:
    """The fp32 bundle of a model, its variants held to the model.

    Args:
        proto: the model's ONNX graph. pictures: golden inputs with the model's outputs.
        out: beside it a trial copy is written, and removed.

    Raises:
        ParityError: names the variant, the stage, and the node where the difference starts.
    """
    draft = build(model, proto, pictures, engines)
    _check_preprocess_graph(draft, pictures)
    prepare = Preprocessor(model.preprocess)
    held = []
    with draft.tried(out) as trial:
        for variant in draft.manifest.variants:
            found = findings(prepare, trial.predictor(variant, len(pictures)), pictures, model.task)
            failure = first_failure(found)
            graph = variant.engine != "native" and _in_encoder(failure)
            node = locate(model, proto, _picture(pictures, failure), variant.engine) if graph else ""
            check(found, variant.name, node)
            parity = found[-1].difference
            held.append(replace(variant, parity=_rounded(parity)))
            report(
                f"{variant.name}: as the model, within {parity:.1e} (at most {LIMIT:g}) on {len(pictures)} generated pictures"
            )
    return with_variants(draft, tuple(held), {})


def build(model: LoadedModel, proto: onnx.ModelProto, pictures: Sequence[Expected], engines: Sequence[Engine]) -> Draft:
    """The fp32 bundle of a model, in memory, nothing proved yet."""
    listed, entries = golden_entries(pictures)
    entries["preprocess.onnx"] = build_preprocess_graph(model.preprocess).SerializeToString(deterministic=True)
    variants: list[Variant] = []
    for engine in engines:
        name = f"{engine}-fp32"
        made = entries_of(engine, model, proto, "fp32")
        entries.update(made)
        variants.append(new_variant(name, model, proto, tuple(made)))
    manifest = replace(new_manifest(model, tuple(variants)), golden=listed)
    return Draft(manifest=manifest, preprocess=model.preprocess, entries=entries)


def entries_of(engine: Engine, model: LoadedModel, graph: onnx.ModelProto | None, precision: Precision) -> dict[str, bytes]:
    """The files of an engine's variant by their names in the archive.

    Args:
        graph: what ONNX Runtime and OpenVINO run, at this precision. The native engine reads the model itself.
    """
    prefix = f"variants/{engine}-{precision}"
    if engine == "native":
        return native_entries(model, precision, prefix)
    assert graph is not None
    return onnx_entries(graph, prefix) if engine == "onnx" else openvino_entries(graph, prefix)


def _check_preprocess_graph(draft: Draft, pictures: Sequence[Expected]) -> None:
    """Hold `preprocess.onnx` to the prepared tensors."""
    session = onnxruntime.InferenceSession(draft.entries["preprocess.onnx"], providers=["CPUExecutionProvider"])
    for picture in pictures:
        (prepared,) = session.run(None, graph_inputs(picture.pixels))
        off = float(np.abs(prepared[0] - picture.prepared).max())
        if not off <= LIMIT:
            raise ParityError(
                f"preprocess.onnx differs from the preprocessing by {off:.2g} for the picture {picture.name}: stage preprocess",
                expected=f"at most {LIMIT:g}",
            )


def graph_inputs(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What `preprocess.onnx` takes: `pixels` uint16 `[H, W, C]` and `bits`, 8 or 16.

    Args:
        pixels: uint8 or uint16, `[H, W]` or `[H, W, C]`.
    """
    height, width = pixels.shape[:2]
    bits = np.array(8 * pixels.dtype.itemsize, np.int64)
    return {"pixels": pixels.reshape(height, width, -1).astype(np.uint16), "bits": bits}


def _in_encoder(failure: Finding | None) -> bool:
    return failure is not None and failure.stage == "encoder"


def _picture(pictures: Sequence[Expected], failure: Finding | None) -> np.ndarray:
    return next(picture.prepared for picture in pictures if failure and picture.name == failure.picture)[None]


def _rounded(value: float) -> float:
    """Up to two digits: the last bits of a difference are no part of what is claimed."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.1e}")

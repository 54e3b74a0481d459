"""A bundle in memory, not written yet: engines load its variants from here, so parity is proved on the bytes to be written.

Not a file: `Draft.write` makes one, at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar, cast

import onnx
from msgspec.structs import replace

from .. import __version__
from ..bundle import Bundle, write_bundle
from ..models import LoadedModel
from ..runtime.cpu import usable_threads
from ..runtime.engines import Engine, Running, load_engine
from ..spec.manifest import Ancestor, Graph, Manifest, Tensor, Variant
from ..spec.preprocess import Preprocess
from ..verify.parity import Array, Predictor
from .card import card, licences

LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "timm", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What an open bundle offers to an engine, before there is a file.

    Attributes:
        manifest: without `entries`. preprocess: the input contract.
        entries: archive name to content.
        id: none yet, so that no engine caches anything of it.
    """

    manifest: Manifest
    preprocess: Preprocess
    entries: Mapping[str, bytes]
    id: ClassVar[str] = ""
    path: ClassVar[Path] = Path("the new bundle")

    def view(self, name: str) -> memoryview:
        """The bytes of a member, unsigned 8-bit `[size]`: a writable copy, because some engines insist on that."""
        return memoryview(bytearray(self.entries[name]))

    def engine(self, variant: Variant, *, precision: Running | None = None, batch: int = 1) -> Engine:
        """A variant of it, loaded by the runtime's own class. Raises as `Engine.__init__`."""
        precision = precision or variant.precision
        bundle = cast(Bundle, self)
        return load_engine(variant.engine)(bundle, variant, threads=usable_threads(), precision=precision, batch=batch)

    def predictor(self, variant: Variant, batch: int) -> Predictor:
        """A variant as a function: single images through a graph of batch 1, others through one of `batch`."""
        engines = {1: self.engine(variant), batch: self.engine(variant, batch=batch)}

        def predict(prepared: Array) -> Mapping[str, Array]:
            return engines[1 if len(prepared) == 1 else batch](prepared)

        return predict

    def write(self, out: Path, *, force: bool) -> str:
        """Write the bundle with its card and licences; the bundle id. Raises as `write_bundle`."""
        own = {"card.md": card(self.manifest, self.preprocess), "licences/ANCESTORS.md": licences(self.manifest)}
        entries = {**self.entries, **{name: text.encode() for name, text in own.items()}}
        return write_bundle(out, self.manifest, self.preprocess, entries, force=force)


def new_manifest(model: LoadedModel, variants: tuple[Variant, ...]) -> Manifest:
    """The manifest of a model without data: its task, its lineage, and the versions of what builds it."""
    own = Ancestor(role="model", name=model.name, licence=model.licence, sha256=model.sha256)
    return Manifest(
        name=Path(model.name).name,
        edgefm=__version__,
        task=model.task,
        variants=variants,
        lineage=(own, *model.ancestors),
        versions=versions(LIBRARIES),
    )


def new_variant(name: str, model: LoadedModel, proto: onnx.ModelProto, files: tuple[str, ...]) -> Variant:
    """A variant of the encoder, with the tensors that the ONNX graph has. `name` is `<engine>-<precision>`."""
    engine, _, precision = name.partition("-")
    graph = Graph(files=files, inputs=_tensors(proto.graph.input), outputs=_tensors(proto.graph.output))
    return Variant(name=name, engine=engine, precision=precision, graphs={"encoder": graph})  # type: ignore[arg-type]


def with_variants(draft: Draft, variants: tuple[Variant, ...], entries: Mapping[str, bytes]) -> Draft:
    """The draft with these variants instead of its own, and more entries."""
    return Draft(
        manifest=replace(draft.manifest, variants=variants),
        preprocess=draft.preprocess,
        entries={**draft.entries, **entries},
    )


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Library to installed version, without those that are not installed."""
    found = {}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _tensors(values: object) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name=value.name, shape=tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim))
        for value in values  # type: ignore[attr-defined]
    )

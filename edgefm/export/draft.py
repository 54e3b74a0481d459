"""A bundle that is not finished: its parts, and a trial copy on disk that engines load as they would load the real one.

Not the finished file: `Draft.write` makes that, at the very end and at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import onnx
from msgspec import to_builtins
from msgspec.structs import replace

from .. import __version__
from ..bundle import Bundle, open_bundle, write_bundle
from ..models import LoadedModel
from ..partial import working_folder
from ..runtime.cpu import usable_threads
from ..runtime.engines import Engine, Running, load_engine
from ..spec.manifest import Ancestor, Graph, Manifest, Tensor, Variant
from ..spec.preprocess import Preprocess
from ..spec.recipe import Recipe
from ..verify.parity import Array, Predictor
from .card import card, licences
from .monai import monai_metadata

LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "timm", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What goes into a bundle.

    Attributes:
        manifest: without `entries`. preprocess: the input contract.
        entries: archive name to content, without card, metadata and licences, which are made of the manifest.
    """

    manifest: Manifest
    preprocess: Preprocess
    entries: Mapping[str, bytes]

    def write(self, out: Path, *, force: bool) -> str:
        """Write the bundle; its id. Raises as `write_bundle`."""
        own = {"card.md": card(self.manifest, self.preprocess), "licences/ANCESTORS.md": licences(self.manifest)}
        entries = {**self.entries, **{name: text.encode() for name, text in own.items()}}
        entries["metadata.json"] = monai_metadata(self.manifest, self.preprocess)
        return write_bundle(out, self.manifest, self.preprocess, entries, force=force)

    @contextmanager
    def tried(self, out: Path) -> Iterator[Trial]:
        """The bundle as it is now, written into `OUT.partial` and opened; removed when the block ends, whatever happens.

        What a killed process left there is removed first.

        Raises:
            InputError: it cannot be written, or a living process writes `out`.
        """
        with working_folder(out, force=True) as folder:
            try:
                self.write(folder / "trial.efm", force=False)
                with open_bundle(folder / "trial.efm") as bundle:
                    bundle.id = ""  # so that no engine caches what it compiles of a trial
                    yield Trial(bundle)
            finally:
                shutil.rmtree(folder)


@dataclass(frozen=True)
class Trial:
    """An open trial copy, and its variants as the runtime runs them."""

    bundle: Bundle

    def engine(self, variant: Variant, *, precision: Running | None = None, batch: int = 1) -> Engine:
        """A variant, loaded by the runtime's own class. Raises as `Engine.__init__`."""
        precision = precision or variant.precision
        return load_engine(variant.engine)(self.bundle, variant, threads=usable_threads(), precision=precision, batch=batch)

    def predictor(self, variant: Variant, batch: int) -> Predictor:
        """A variant as a function: single images through a graph of batch 1, others through one of `batch`."""
        engines = {1: self.engine(variant), batch: self.engine(variant, batch=batch)}

        def predict(prepared: Array) -> Mapping[str, Array]:
            return engines[1 if len(prepared) == 1 else batch](prepared)

        return predict


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


def with_recipe(draft: Draft, recipe: Recipe) -> Draft:
    """The draft with the recipe that its model was made with, so that others read and cut the same data alike."""
    manifest = replace(draft.manifest, recipe=to_builtins(recipe))
    return Draft(manifest=manifest, preprocess=draft.preprocess, entries=draft.entries)


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

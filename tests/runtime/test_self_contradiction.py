"""Bundles whose every hash is right and whose parts contradict one another: said in one line, never a crash."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.bundle import open_bundle, write_bundle
from edgefm.errors import BundleError, InputError
from edgefm.runtime.session import Session
from edgefm.spec.manifest import Graph, Manifest, Tensor
from edgefm.spec.preprocess import Preprocess

from .conftest import MakeBundle, npy

VARIANTS = ["onnx-fp32", "openvino-fp32"]
Forge = Callable[..., Path]


@pytest.fixture
def forge(make_bundle: MakeBundle, tmp_path: Path, cache: Path) -> Forge:
    """A good bundle with its manifest, its preprocessing or one member replaced, and all hashes made anew."""

    def made(manifest: Any = None, preprocess: Any = None, member: tuple[str, bytes] | None = None) -> Path:
        out = tmp_path / "forged.efm"
        with open_bundle(make_bundle("binary")) as bundle:
            kept = [name for name in bundle.manifest.entries if name not in ("labels.json", "preprocess.json")]
            entries: dict[str, bytes | memoryview] = {name: bundle.view(name) for name in kept}
            entries |= dict([member] if member else [])
            listed, spec = bundle.manifest, bundle.preprocess
            write_bundle(
                out, manifest(listed) if manifest else listed, preprocess(spec) if preprocess else spec, entries, force=True
            )
        return out

    return made


def with_graph(change: Callable[[Graph], dict[str, Graph]]) -> Callable[[Manifest], Manifest]:
    def changed(manifest: Manifest) -> Manifest:
        variants = (replace(variant, graphs=change(variant.graphs["encoder"])) for variant in manifest.variants)
        return replace(manifest, variants=tuple(variants))

    return changed


def outputs(*tensors: tuple[str, tuple[int, ...]]) -> Callable[[Manifest], Manifest]:
    made = tuple(Tensor(name=name, shape=shape) for name, shape in tensors)
    return with_graph(lambda graph: {"encoder": replace(graph, outputs=made)})


def inputs(*shapes: tuple[int, ...]) -> Callable[[Manifest], Manifest]:
    made = tuple(Tensor(name="images", shape=shape) for shape in shapes)
    return with_graph(lambda graph: {"encoder": replace(graph, inputs=made)})


EMBEDDING = ("embedding", (-1, 24))
WRONG = {
    "an output that nobody knows": (outputs(("nope", (-1, 2)), EMBEDDING), "answers .*nope"),
    "more logits than labels": (outputs(("logits", (-1, 9)), EMBEDDING), "binary task needs"),
    "a negative width": (outputs(("logits", (-1, 2)), ("embedding", (-1, -24))), r"shape \[-1, D\]"),
    "another width than the graph has": (outputs(("logits", (-1, 2)), ("embedding", (-1, 25))), "as the manifest says"),
    "an output twice": (outputs(EMBEDDING, EMBEDDING, ("logits", (-1, 2))), "answers"),
    "no logits": (outputs(EMBEDDING), "binary task needs"),
    "no input": (inputs(), "one image tensor"),
    "another input size": (inputs((-1, 3, 99, 99)), r"one image tensor \[-1, 3, 16, 16\]"),
    "no encoder": (with_graph(lambda graph: {"decoder": graph}), "no graph called encoder"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_manifest_that_contradicts_itself_is_a_bundle_error(forge: Forge, wrong: str, variant: str) -> None:
    manifest, match = WRONG[wrong]
    path = forge(manifest=manifest)
    with pytest.raises(BundleError, match=match), Session(path, variant=variant) as session:
        session.predict(np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match=r"no variant of .* can run here"):
        Session(path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_for_other_tensors_than_the_preprocessing_makes_is_a_bundle_error(forge: Forge, variant: str) -> None:
    def larger(spec: Preprocess) -> Preprocess:
        return replace(spec, size=20, resize_to=20)

    with pytest.raises(BundleError, match=r"expected one image tensor \[-1, 3, 20, 20\]"):
        Session(forge(preprocess=larger), variant=variant)
    # and where the manifest goes along with it, so that only the graph itself knows better
    path = forge(preprocess=larger, manifest=inputs((-1, 3, 20, 20)))
    if variant == "onnx-fp32":
        with pytest.raises(BundleError, match="cannot run onnx-fp32"), Session(path, variant=variant) as session:
            session.predict(np.zeros((5, 5), np.uint8))


def test_an_engine_that_fails_while_it_runs_leaves_the_choice_to_the_others(forge: Forge) -> None:
    def misnamed(manifest: Manifest) -> Manifest:
        bad = with_graph(lambda graph: {"encoder": replace(graph, inputs=(replace(graph.inputs[0], name="nope"),))})(manifest)
        return replace(manifest, variants=(manifest.variants[0], bad.variants[1]))

    with Session(forge(manifest=misnamed)) as session:
        assert session.variant == "openvino-fp32"
        assert "without onnx-fp32: ONNX Runtime" in session.choice


def test_a_graph_that_takes_its_weights_from_a_file_of_this_machine_is_not_loaded(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import load_model_from_string

    with open_bundle(forge()) as bundle:
        good = bytes(bundle.view("variants/onnx-fp32/encoder.onnx"))
        (tmp_path / "stranger.weights").write_bytes(bundle.view("variants/onnx-fp32/encoder.weights"))
    monkeypatch.chdir(tmp_path)
    for place in ("stranger.weights", f"../{tmp_path.name}/stranger.weights", str(tmp_path / "stranger.weights")):
        model = load_model_from_string(good)
        for tensor in model.graph.initializer:
            for pair in tensor.external_data:
                pair.value = place if pair.key == "location" else pair.value
        # with no weights of its own listed, so that the engine has nothing in memory to compare the name with
        alone = with_graph(lambda graph: {"encoder": replace(graph, files=graph.files[:1])})
        path = forge(manifest=alone, member=("variants/onnx-fp32/encoder.onnx", model.SerializeToString()))
        with pytest.raises(BundleError, match="cannot load onnx-fp32"):
            Session(path, variant="onnx-fp32")


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "match"),
    [
        (("golden/grey8.npy", b"no array"), r"golden/grey8\.npy is no array of numbers"),
        (("golden/grey8.npy", b""), r"golden/grey8\.npy is no array of numbers"),
        (("golden/grey8.npy", pickled()), r"golden/grey8\.npy is no array of numbers"),
        (("golden/grey8.npy", npy(np.zeros((3, 3), np.float32))), "the pixels are float32"),
        (("golden/grey8-logits.npy", npy(np.zeros(7, np.float32))), r"has the shape \[7\]; expected \[2\]"),
        (("golden/grey8-embedding.npy", npy(np.zeros(7, np.float32))), r"has the shape \[7\]; expected \[24\]"),
    ],
)
def test_a_golden_input_that_cannot_be_compared_leaves_no_variant_to_trust(
    forge: Forge, member: tuple[str, bytes], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        Session(forge(member=member))

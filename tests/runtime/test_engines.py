"""One variant on one engine: precision read back, static batches, nothing trusted that was not made here."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgefm.bundle import Bundle, open_bundle
from edgefm.errors import BundleError, InputError, MissingExtra
from edgefm.runtime.cpu import runs_bf16
from edgefm.runtime.engines import ENGINES, installed, load_engine, version

from .conftest import MakeBundle, reference

GRAPHS = ("openvino", "onnx")  # the native engine's own tests: engines/test_native.py
IMAGES = np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def bundle(make_bundle: MakeBundle, cache: Path) -> Iterator[Bundle]:
    with open_bundle(make_bundle("multiclass")) as opened:
        yield opened


def load(bundle: Bundle, name: str, **options: Any) -> Any:
    variant = next(variant for variant in bundle.manifest.variants if variant.engine == name)
    return load_engine(name)(bundle, variant, **{"threads": 1, "precision": "fp32", **options})


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 2, 7, 16])
def test_any_number_of_images_through_any_static_batch(bundle: Bundle, name: str, batch: int) -> None:
    engine = load(bundle, name, batch=batch)
    for count in (0, 1, 6, 7):
        outputs = engine(IMAGES[:count])
        for output, expected in reference(3, IMAGES[:count]).items():
            np.testing.assert_allclose(outputs[output], expected, atol=1e-4)
            assert outputs[output].dtype == np.float32


@pytest.mark.parametrize("name", GRAPHS)
def test_an_engine_outlives_the_bundle_that_it_came_from(make_bundle: MakeBundle, cache: Path, name: str) -> None:
    with open_bundle(make_bundle("multiclass")) as opened:
        engine = load(opened, name)
    del opened
    gc.collect()
    np.testing.assert_allclose(engine(IMAGES)["logits"], reference(3, IMAGES)["logits"], atol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_cannot_be_loaded_is_a_bundle_error(bundle: Bundle, name: str) -> None:
    variant = next(variant for variant in bundle.manifest.variants if variant.engine == name)
    files = ("labels.json", *variant.graphs["encoder"].files[1:])
    broken = msgspec.structs.replace(
        variant, graphs={"encoder": msgspec.structs.replace(variant.graphs["encoder"], files=files)}
    )
    with pytest.raises(BundleError, match=f"cannot load {variant.name}"):
        load_engine(name)(bundle, broken, threads=1, precision="fp32")


@pytest.mark.parametrize(("name", "precision"), [("onnx", "bf16"), ("onnx", "int8"), ("openvino", "int8")])
def test_a_precision_that_the_variant_has_not_is_refused(bundle: Bundle, name: str, precision: str) -> None:
    with pytest.raises(InputError, match=f"cannot run in {precision}"):
        load(bundle, name, precision=precision)


def test_openvino_runs_fp32_in_f32_also_where_bf16_is_its_default(bundle: Bundle) -> None:
    engine = load(bundle, "openvino")
    assert engine.precision == "fp32"
    np.testing.assert_allclose(engine(IMAGES)["embedding"], reference(3, IMAGES)["embedding"], atol=1e-5)


def test_openvino_runs_bf16_only_when_asked(bundle: Bundle) -> None:
    if not runs_bf16():
        with pytest.raises(InputError, match="cannot run in bf16: this processor has none"):
            load(bundle, "openvino", precision="bf16")
        return
    off = np.abs(load(bundle, "openvino", precision="bf16")(IMAGES)["embedding"] - reference(3, IMAGES)["embedding"]).max()
    assert 1e-4 < off < 0.05


def test_a_precision_that_openvino_changes_is_noticed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda self, name: openvino.Type.bf16, raising=False)
    with pytest.raises(InputError, match="OpenVINO runs openvino-fp32 in bf16; expected fp32"):
        load(bundle, "openvino")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GRAPHS:
        source = ENGINES[name]
        assert installed(name)
        assert version(name).startswith(f"{source.library}-")
        with monkeypatch.context() as without:
            without.setitem(sys.modules, source.library, None)
            assert not installed(name)
            with pytest.raises(MissingExtra, match=rf"edgefm\[{source.extra}\]"):
                load_engine(name)


def test_an_engine_of_a_later_edgefm_is_named() -> None:
    with pytest.raises(InputError, match="no engine 'quantum'; expected one of openvino, onnx, native"):
        load_engine("quantum")


def test_openvino_telemetry_is_off() -> None:
    load_engine("openvino")
    assert sys.modules["openvino_telemetry"] is None

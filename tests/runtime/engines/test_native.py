"""EdgeFM's own engine as the runtime uses it: chosen, held to golden inputs, capped, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("edgefm._native")
pytest.importorskip("timm")

import edgefm
from edgefm.bundle import open_bundle
from edgefm.errors import BundleError, InputError, ParityError
from edgefm.export.draft import Draft, new_manifest, new_variant
from edgefm.export.golden import golden, golden_entries, reference
from edgefm.export.native import native_entries
from edgefm.export.onnx import export_onnx
from edgefm.quantize.expected import with_expected
from edgefm.runtime import engines
from edgefm.runtime.explain import over
from edgefm.runtime.instructions import SETS
from edgefm.runtime.preprocess import prepare
from edgefm.runtime.select import candidates
from edgefm.verify.capped import Capped
from tests.native.vits import images, make, nmse


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of native variants by kind of model."""
    folder, found = tmp_path_factory.mktemp("native"), {}
    for kind in ("class token", "no class token, mean, fc_norm"):
        model = make(kind)
        proto = export_onnx(model)
        listed, entries = golden_entries(golden(model))
        variants = []
        for precision in ("fp32", "int8"):
            name = f"native-{precision}"
            made = native_entries(model, precision, f"variants/{name}")  # type: ignore[arg-type]
            entries.update(made)
            variants.append(new_variant(name, model, proto, tuple(made)))
        manifest = edgefm_replace(new_manifest(model, tuple(variants)), golden=listed)
        draft = Draft(manifest=manifest, preprocess=model.preprocess, entries=entries)
        found[kind] = folder / f"{kind.replace(' ', '-').replace(',', '')}.efm"
        with_expected(draft, None, lambda pixels, spec=model.preprocess: prepare(pixels, spec)).write(found[kind], force=True)
    return found


def edgefm_replace(struct: Any, **changes: Any) -> Any:
    from msgspec.structs import replace

    return replace(struct, **changes)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("variant", ["native-fp32", "native-int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_answers_as_torch(written: dict[str, Path], variant: str, batch: int) -> None:
    model = make("class token")
    prepared = images(model, 5)
    with open_bundle(written["class token"]) as bundle:
        chosen = next(each for each in bundle.manifest.variants if each.name == variant)
        engine = engines.load_engine("native")(bundle, chosen, threads=2, precision=chosen.precision, batch=batch)
        found = engine(prepared)
    for name, expected in reference(model, prepared).items():  # the bundle is closed, its map is still in use
        assert nmse(found[name], expected) <= (1e-10 if variant == "native-fp32" else 3e-3)


class Broken:
    """An encoder of the C++ module in a process that has no threads for it, or whose heat map is no number."""

    grid, class_token, classes, embedding, channels, size = 4, True, 3, 96, 3, 64
    heat: np.ndarray | None = None

    def __init__(self, *_: Any, threads: int, images: int) -> None:
        if threads > 2:
            raise RuntimeError("cannot start 3 threads")

    def run(self, batch: np.ndarray, *, heat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.heat is None:
            raise RuntimeError("it was made by the process that this one was forked from")
        return np.zeros((1, 3)), np.zeros((1, 96)), self.heat


def test_threads_that_are_not_there_and_a_heat_map_of_no_numbers_are_errors_with_a_way_out(
    written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgefm._native.Encoder", Broken)
    native, prepared = engines.load_engine("native"), np.zeros((1, 3, 64, 64), np.float32)
    with open_bundle(written["class token"]) as bundle:
        variant = bundle.manifest.variants[0]
        with pytest.raises(InputError, match=r"cannot start 3 threads.*fewer threads"):
            native(bundle, variant, threads=3, precision=variant.precision)
        engine = native(bundle, variant, threads=2, precision=variant.precision)
    for ask in (engine, engine.heat):  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=r"forked from.*in the child"):
            ask(prepared)
    for bad, right in ((np.nan, False), (np.inf, False), (0.5, True)):
        monkeypatch.setattr(Broken, "heat", np.full((1, 4, 4), bad, np.float32))
        if right:
            assert engine.heat(prepared).shape == (1, 4, 4)  # type: ignore[attr-defined]
        else:
            with pytest.raises(InputError, match="heat map's values are not finite"):
                engine.heat(prepared)  # type: ignore[attr-defined]


def test_a_session_chooses_between_both_and_remembers(written: dict[str, Path], picture: Path) -> None:
    with edgefm.Session(written["class token"]) as session:
        assert session.variant in ("native-fp32", "native-int8")
        first = session.predict(picture)
    with edgefm.Session(written["class token"], variant=first.variant) as again:
        assert again.predict(picture).probabilities == first.probabilities


def test_native_int8_is_held_to_its_own_golden_outputs(
    written: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nobody has checked it before
    with open_bundle(written["class token"]) as bundle:
        assert {"native-int8.logits", "native-int8.embedding"} <= bundle.manifest.golden[0].outputs.keys()
        assert not any(name.startswith("int8.") for name in bundle.manifest.golden[0].outputs)
    native = engines.load_engine("native")
    answer = native.__call__
    monkeypatch.setattr(native, "__call__", lambda self, batch: {k: 0.5 * v[:, ::-1] for k, v in answer(self, batch).items()})
    with pytest.raises(ParityError, match="native-int8 does not compute here"):
        edgefm.Session(written["class token"], variant="native-int8")


def test_capped_it_runs_older_kernels_with_the_same_answer(
    written: dict[str, Path], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, edgefm.Answer] = {}
    for cap in ("", "scalar", "sse41", "avx2"):
        monkeypatch.setenv("EDGEFM_ISA", cap)
        with edgefm.Session(written["class token"], variant="native-int8") as session:
            found[cap] = session.predict(picture)
    for each in found.values():
        assert np.array_equal(each.embedding, found[""].embedding)
        assert each.probabilities == found[""].probabilities


def test_verify_caps_it_through_a_process_of_its_own(written: dict[str, Path]) -> None:
    capped = Capped(written["class token"], "native-int8", SETS["sse41"])
    try:
        assert capped.ready() == ""
        with open_bundle(written["class token"]) as bundle:
            candidate = next(each for each in candidates(bundle.manifest)[0] if each.name == "native-int8")
            prepared = images(make("class token"), 1)
            assert np.array_equal(capped(prepared)["logits"], candidate.load(bundle, 1)(prepared)["logits"])
    finally:
        capped.close()


def test_without_the_module_the_variant_is_left_out_with_a_way_to_get_it(
    written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines.ENGINES, "native", engines.ENGINES["native"]._replace(library="edgefm._no_such_module"))
    with open_bundle(written["class token"]) as bundle:
        assert candidates(bundle.manifest)[1]["native-int8"] == "EdgeFM's own engine was not built here"
    with pytest.raises(InputError, match="edgefm doctor"):
        edgefm.Session(written["class token"], variant="native-int8")
    with pytest.raises(InputError, match="no variant of"):
        edgefm.Session(written["class token"])


@pytest.mark.parametrize("damage", ["shape", "fields", "weights"])
def test_files_that_contradict_the_bundle_are_refused(written: dict[str, Path], damage: str) -> None:
    with open_bundle(written["class token"]) as bundle, open_bundle(written["no class token, mean, fc_norm"]) as other:
        variant = bundle.manifest.variants[1]
        graph = variant.graphs["encoder"]
        files = {"weights": graph.files[:1], "fields": graph.files[::-1], "shape": graph.files}[damage]
        changed = edgefm_replace(variant, graphs={"encoder": edgefm_replace(graph, files=files)})
        source = bundle
        if damage == "shape":  # a model of other logits under this manifest
            out = tuple(
                edgefm_replace(each, shape=(-1, each.shape[1] + 1)) for each in graph.outputs if each.name == "embedding"
            )
            logits = tuple(each for each in graph.outputs if each.name == "logits")
            changed = edgefm_replace(variant, graphs={"encoder": edgefm_replace(graph, outputs=(*logits, *out))})
        with pytest.raises(BundleError):
            engines.load_engine("native")(source, changed, threads=1, precision="int8")
        assert other.manifest.variants


def test_it_cannot_run_in_another_precision(written: dict[str, Path]) -> None:
    with open_bundle(written["class token"]) as bundle, pytest.raises(InputError, match="cannot run in bf16"):
        engines.load_engine("native")(bundle, bundle.manifest.variants[0], threads=1, precision="bf16")


def test_explain_writes_what_the_model_saw_with_its_attention(written: dict[str, Path], picture: Path, tmp_path: Path) -> None:
    twice = tmp_path / "below" / "picture.png"
    twice.parent.mkdir()
    twice.write_bytes(picture.read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    out = tmp_path / "heat"
    answers = list(edgefm.run(written["class token"], (str(picture), str(twice), str(broken)), explain=str(out)))
    assert [answer.error is None for answer in answers] == [True, True, False]
    assert answers[0].variant == "native-int8"
    assert sorted(path.name for path in out.iterdir()) == ["picture-2.png", "picture.png"]
    assert Image.open(out / "picture.png").size == (64, 64)
    with pytest.raises(InputError, match="is not empty"):
        edgefm.run(written["class token"], (str(picture),), explain=str(out))


def test_a_heat_map_that_is_not_finite_is_an_error_of_its_image_alone(
    written: dict[str, Path], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, seen = engines.load_engine("native"), []
    heat = native.heat  # type: ignore[attr-defined]

    def broken(self: Any, batch: np.ndarray) -> np.ndarray:
        seen.append(heat(self, batch))
        if len(seen) == 1:
            seen[0][0, 1, 2] = np.nan
        found: np.ndarray = seen[-1]
        return found

    monkeypatch.setattr(native, "heat", broken)
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    for path in (first, second):
        path.write_bytes(picture.read_bytes())
    out = tmp_path / "heat"
    answers = list(edgefm.run(written["class token"], (str(first), str(second)), explain=str(out)))
    assert answers[0].error is not None
    assert "first.png: the model's attention is not finite" in answers[0].error
    assert answers[0].label is None
    assert answers[1].error is None
    assert [path.name for path in out.iterdir()] == ["second.png"]


def test_explain_says_why_it_cannot(written: dict[str, Path], picture: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class token"):
        edgefm.run(written["no class token, mean, fc_norm"], (str(picture),), explain=str(tmp_path / "heat"))
    with pytest.raises(InputError, match="none of the variants"):
        edgefm.run(root / "tests" / "fixtures" / "format1.efm", (str(picture),), explain=str(tmp_path / "heat"))


def test_the_warmest_colour_lies_where_the_attention_is() -> None:
    spec = make("class token").preprocess
    heat = np.zeros((4, 4), np.float32)
    heat[1, 3] = 0.5
    picture = over(np.zeros((3, 64, 64), np.float32), heat, spec)
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    changed = np.abs(picture.astype(int) - 128).sum(axis=2)
    assert 16 <= np.unravel_index(changed.argmax(), changed.shape)[0] < 32
    assert np.unravel_index(changed.argmax(), changed.shape)[1] >= 48
    assert changed[48:, :16].max() <= 3  # far away the picture is as it was
    assert (
        over(np.zeros((1, 64, 64), np.float32), 0 * heat, edgefm_replace(spec, channels=1, mean=(0.5,), std=(0.5,))) == 128
    ).all()

"""The device's choice: what was asked for, what can run, what answers rightly, what is fastest, what is remembered."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefm.errors import InputError, MissingExtra
from edgefm.runtime import cpu, select
from edgefm.runtime.session import Session

from .conftest import BLACK, FOUR, MakeBundle, Timed


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("variant", FOUR)
def test_the_variant_asked_for_runs_and_nothing_is_timed(
    make_bundle: MakeBundle, variant: str, timed: Callable[..., Timed]
) -> None:
    seen = timed()
    with Session(make_bundle(variants=FOUR), variant=variant) as session:
        assert (session.variant, session.choice) == (variant, f"{variant}: asked for")
        assert session.predict(BLACK).variant == variant
    assert seen == []


@pytest.mark.usefixtures("cache")
def test_the_environment_asks_and_the_argument_overrules_it(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFM_VARIANT", "onnx-fp32")
    assert Session(make_bundle()).choice == "onnx-fp32: asked for by EDGEFM_VARIANT"
    assert Session(make_bundle(), variant="openvino-fp32").variant == "openvino-fp32"
    monkeypatch.setenv("EDGEFM_VARIANT", "fast")
    with pytest.raises(InputError, match="'fast'; expected one of openvino-fp32, onnx-fp32"):
        Session(make_bundle())


@pytest.mark.parametrize("name", ["", "onnx", "onnx-int8", "OPENVINO-FP32", "openvino-bf16 "])
def test_an_unknown_variant_is_refused_with_the_names(make_bundle: MakeBundle, name: str) -> None:
    with pytest.raises(InputError, match=r"no variant .*; expected one of openvino-fp32, onnx-fp32\."):
        Session(make_bundle(), variant=name)


@pytest.mark.usefixtures("cache")
def test_the_fastest_is_chosen_and_the_sentence_says_why(make_bundle: MakeBundle, timed: Callable[..., Timed]) -> None:
    seen = timed(openvino_fp32=9, onnx_fp32=8, openvino_int8=3.25, onnx_int8=30)
    with Session(make_bundle(variants=FOUR), threads=2) as session:
        assert session.variant == "openvino-int8"
        assert session.predict(BLACK).variant == "openvino-int8"
        assert session.choice == (
            "openvino-int8: the fastest here with 2 threads (openvino-int8 3.25 ms, onnx-fp32 8 ms, openvino-fp32 9 ms, "
            "onnx-int8 30 ms; timed now, and remembered); without openvino-bf16: bf16 was not tried when the bundle was built"
        )
    assert len(seen) == 4


@pytest.mark.usefixtures("cache")
def test_the_clock_is_real(make_bundle: MakeBundle) -> None:
    with Session(make_bundle()) as session:
        times = [float(value) for value in re.findall(r"([\d.e-]+) ms", session.choice)]
    assert len(times) == 2
    assert all(0 < value < 1000 for value in times)


def test_a_choice_is_remembered_per_bundle_threads_machine_and_engine_versions(
    make_bundle: MakeBundle, cache: Path, timed: Callable[..., Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = timed(openvino_fp32=1, onnx_fp32=2)
    first, second = Session(make_bundle(), threads=1), Session(make_bundle(), threads=1)
    assert (first.variant, second.variant) == ("openvino-fp32", "openvino-fp32")
    assert "timed now" in first.choice
    assert "without openvino-bf16" in first.choice
    assert second.choice == (
        "openvino-fp32: the fastest here with 1 thread (openvino-fp32 1 ms, onnx-fp32 2 ms; timed earlier)"
    )
    assert len(seen) == 2
    assert len(list((cache / "edgefm" / "choices").iterdir())) == 1
    Session(make_bundle(), threads=2)
    assert len(seen) == 4
    Session(make_bundle("multiclass"), threads=1)
    assert len(seen) == 6
    monkeypatch.setattr(select, "machine_id", lambda: "another")
    Session(make_bundle(), threads=1)
    assert len(seen) == 8
    monkeypatch.setattr(select, "version", lambda engine: f"{engine}-99")
    Session(make_bundle(), threads=1)
    assert len(seen) == 10


def test_an_engine_that_disappears_or_comes_back_is_noticed(
    make_bundle: MakeBundle, cache: Path, timed: Callable[..., Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = timed(openvino_fp32=1, onnx_fp32=2)
    assert Session(make_bundle()).variant == "openvino-fp32"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "openvino", None)
        with Session(make_bundle()) as session:
            assert session.variant == "onnx-fp32"
            assert (
                "onnx-fp32: the only one that can run here; without openvino-fp32: OpenVINO is not installed" in session.choice
            )
    assert "timed earlier" in Session(make_bundle()).choice
    assert len(seen) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[]", b'{"winner": 3}', b"[" * 100_000, "other"])
def test_a_corrupt_memory_is_measured_anew(
    make_bundle: MakeBundle, cache: Path, timed: Callable[..., Timed], content: bytes | str
) -> None:
    seen = timed(openvino_fp32=1, onnx_fp32=2)
    Session(make_bundle())
    (memory,) = (cache / "edgefm" / "choices").iterdir()
    memory.write_bytes(memory.read_bytes().replace(b"openvino", b"tflite") if isinstance(content, str) else content)
    assert Session(make_bundle()).variant == "openvino-fp32"
    assert len(seen) == 4
    assert "timed earlier" in Session(make_bundle()).choice


def test_without_a_writable_cache_it_measures_each_time_and_says_so(
    make_bundle: MakeBundle, tmp_path: Path, timed: Callable[..., Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = timed(openvino_fp32=1, onnx_fp32=2)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert "timed now; there is no writable cache to remember it" in Session(make_bundle()).choice
    assert len(seen) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_read(make_bundle: MakeBundle, cache: Path) -> None:
    Session(make_bundle())
    for folder in (cache, *cache.rglob("*")):
        folder.chmod(0o500 if folder.is_dir() else 0o400)
    assert Session(make_bundle()).predict(BLACK).label is not None
    for folder in (cache, *cache.rglob("*")):
        folder.chmod(0o700)


@pytest.mark.usefixtures("cache")
def test_bf16_takes_part_only_where_its_gate_passed_and_the_processor_has_it(
    make_bundle: MakeBundle, timed: Callable[..., Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    for state, reason in ((None, "was not tried"), (False, "did not pass")):
        with pytest.raises(InputError, match=reason):
            Session(make_bundle(bf16=state), variant="openvino-bf16")
    monkeypatch.setattr(cpu, "cpu_features", lambda: {"avx2": True})
    with pytest.raises(InputError, match="this processor has no bf16"):
        Session(make_bundle(bf16=True), variant="openvino-bf16")
    seen = timed(openvino_fp32=2, onnx_fp32=3)
    with Session(make_bundle(bf16=True)) as session:
        assert session.variant == "openvino-fp32"
        assert "without openvino-bf16: this processor has no bf16" in session.choice
    assert "openvino_bf16" not in seen


@pytest.mark.usefixtures("cache")
def test_bf16_is_chosen_where_it_is_fastest(make_bundle: MakeBundle, timed: Callable[..., Timed]) -> None:
    if not cpu.runs_bf16():
        pytest.skip("this processor has no bf16")
    timed(openvino_fp32=2, onnx_fp32=3, openvino_bf16=1)
    with Session(make_bundle(bf16=True)) as session:
        assert session.predict(BLACK).variant == "openvino-bf16"


@pytest.mark.parametrize(("engine", "extra"), [("openvino", "openvino"), ("onnxruntime", "onnx")])
def test_asking_for_an_engine_that_is_not_installed_names_the_extra(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, engine: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingExtra, match=re.escape(f"pip install 'edgefm[{extra}]'")):
        Session(make_bundle(), variant=f"{extra}-fp32")


def test_without_any_engine_the_remedy_is_named(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError) as found:
        Session(make_bundle())
    assert "openvino-fp32 (OpenVINO is not installed)" in str(found.value)
    assert "onnx-fp32 (ONNX Runtime is not installed)" in str(found.value)
    assert "pip install 'edgefm[openvino]' or pip install 'edgefm[onnx]'" in str(found.value)

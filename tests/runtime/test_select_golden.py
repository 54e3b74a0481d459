"""A variant is held to the bundle's golden inputs before it answers: asked for, chosen, or the only one; and once is enough."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefm.errors import InputError, ParityError
from edgefm.runtime import select
from edgefm.runtime.session import Session

from .conftest import BLACK, FOUR, MakeBundle, Timed


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who was held to the golden inputs, in order."""
    seen: list[str] = []
    check = select.check_golden

    def counted(engine: Any, bundle: Any, precision: Any, **options: int) -> np.ndarray:
        seen.append(f"{type(engine).__name__} {precision}")
        return check(engine, bundle, precision, **options)

    monkeypatch.setattr(select, "check_golden", counted)
    return seen


@pytest.mark.parametrize("variant", FOUR)
def test_a_variant_asked_for_that_computes_wrongly_here_is_refused_each_time_and_says_what_to_do(
    make_bundle: MakeBundle, cache: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    bundle = make_bundle("multiclass", variants=FOUR, wrong=(variant,))
    title = "OpenVINO" if variant.startswith("openvino") else "ONNX Runtime"
    for _ in range(2):
        with pytest.raises(
            ParityError,
            match=rf"{variant} does not compute here what .*\.efm says: logits off by .*; expected at most 0\.\d+\. "
            rf"Leave the variant out, so that this machine chooses one that does, or reinstall {title}\.",
        ):
            Session(bundle, variant=variant)
    monkeypatch.setenv("EDGEFM_VARIANT", variant)
    with pytest.raises(ParityError, match=r"Unset EDGEFM_VARIANT, so that"):
        Session(bundle)
    assert not list((cache / "edgefm" / "checked").iterdir())


@pytest.mark.usefixtures("cache")
def test_a_variant_that_computes_wrongly_here_is_left_out_with_the_reason(
    make_bundle: MakeBundle, timed: Callable[..., Timed]
) -> None:
    seen = timed(openvino_fp32=1, onnx_fp32=2)
    with Session(make_bundle("multiclass", wrong=("openvino-fp32",))) as session:
        assert session.variant == "onnx-fp32"
        assert re.search(
            r"without .*openvino-fp32: logits off by \d\S* for the golden input \w+; expected at most 0.001", session.choice
        )
    assert seen == ["onnx_fp32"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("wrong", [("openvino-fp32", "onnx-fp32")])
def test_no_variant_that_answers_rightly_is_an_error(make_bundle: MakeBundle, wrong: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"no variant .* can run here: .*openvino-fp32 \(logits off by"):
        Session(make_bundle(wrong=wrong))


def test_a_variant_asked_for_is_checked_once_per_bundle_machine_and_engine_version(
    make_bundle: MakeBundle, cache: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(number: int, path: Path, variant: str, threads: int = 1) -> None:
        for _ in range(2):
            with Session(path, variant=variant, threads=threads) as session:
                assert session.predict(BLACK).label is not None
        assert len(checks) == number

    asked(1, make_bundle(), "onnx-fp32")
    asked(1, make_bundle(), "onnx-fp32", threads=2)
    asked(2, make_bundle(), "openvino-fp32")
    asked(3, make_bundle("multiclass"), "onnx-fp32")
    assert len(list((cache / "edgefm" / "checked").iterdir())) == 3
    with monkeypatch.context() as patch:
        patch.setattr(select, "machine_id", lambda: "another")
        asked(4, make_bundle(), "onnx-fp32")
    monkeypatch.setattr(select, "version", lambda engine: f"{engine}-99")
    asked(5, make_bundle(), "onnx-fp32")


def test_without_a_writable_cache_a_variant_asked_for_is_checked_each_time(
    make_bundle: MakeBundle, tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for number in (1, 2, 3):
        Session(make_bundle(), variant="onnx-fp32").close()
        assert len(checks) == number


@pytest.mark.usefixtures("cache")
def test_an_only_variant_is_checked_once_too_and_not_timed(
    make_bundle: MakeBundle, timed: Callable[..., Timed], checks: list[str]
) -> None:
    seen = timed(onnx_fp32=1)
    with pytest.raises(InputError, match=r"can run here: onnx-fp32 \(logits off by"):
        Session(make_bundle(variants=("onnx-fp32",), wrong=("onnx-fp32",)))
    good = make_bundle(variants=("onnx-fp32",))
    checks.clear()
    for _ in range(2):
        with Session(good) as session:
            assert session.choice == "onnx-fp32: the only one that can run here"
    assert checks == ["OnnxRuntime fp32"]
    assert not seen


@pytest.mark.usefixtures("cache")
def test_an_int8_variant_may_differ_a_little_and_not_grossly(make_bundle: MakeBundle, timed: Callable[..., Timed]) -> None:
    timed(onnx_int8=1, openvino_int8=2)
    variants = ("onnx-int8", "openvino-int8")
    assert Session(make_bundle("embedding", variants)).variant == "onnx-int8"
    assert Session(make_bundle("binary", variants, wrong=("onnx-int8",))).variant == "openvino-int8"


@pytest.mark.usefixtures("cache")
def test_a_bundle_without_golden_inputs_is_timed_unchecked(make_bundle: MakeBundle, timed: Callable[..., Timed]) -> None:
    seen = timed(openvino_fp32=2, onnx_fp32=1)
    assert Session(make_bundle(golden=False)).variant == "onnx-fp32"
    assert len(seen) == 2

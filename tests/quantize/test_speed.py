"""Which way to run the model is the fastest here is one sentence, and never a claim about another machine."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.quantize.speed import fastest, speeds


def test_int8_that_is_fastest_is_named_with_all_others() -> None:
    said = fastest({"openvino-fp32": 2.0, "openvino-int8": 0.914, "openvino-bf16": 1.1}, accurate=True)
    first = "fastest here: openvino-int8 takes 0.914 ms an image (openvino-bf16 1.1, openvino-fp32 2)"
    assert said == f"{first}; each device times them for itself"


@pytest.mark.parametrize(
    ("accurate", "said"), [(True, "int8 is accurate but slower here"), (False, "int8 is slower here, too")]
)
def test_int8_that_is_slower_is_said_and_bf16_counts(accurate: bool, said: str) -> None:
    times = {"openvino-fp32": 0.99, "openvino-bf16": 0.7, "openvino-int8": 0.97, "onnx-int8": 3.55}
    assert fastest(times, accurate=accurate) == (
        f"{said}: openvino-int8 takes 0.97 ms an image, openvino-bf16 0.7; each device times them for itself"
    )


@pytest.mark.parametrize(("int8", "word"), [(8.68, "no faster"), (9.1, "no faster"), (9.2, "slower")])
def test_a_hair_is_not_called_slower(int8: float, word: str) -> None:
    said = fastest({"openvino-bf16": 8.67, "openvino-int8": int8}, accurate=True)
    assert said.startswith(f"int8 is accurate but {word} here: openvino-int8 takes {int8:g} ms an image")


def test_nothing_is_said_where_there_is_nothing_to_compare() -> None:
    assert fastest({"onnx-int8": 1.0}, accurate=True) == fastest({"onnx-fp32": 1.0}, accurate=True) == ""


def test_every_way_runs_equally_often_on_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefm.bench.latency.PAUSE", 0)
    seen: list[str] = []
    found = speeds({name: lambda x, name=name: seen.append(name) or {} for name in "ab"}, np.zeros((1, 1, 2, 2)))  # type: ignore[misc]
    assert seen.count("a") == seen.count("b")
    assert found["a"].n == found["b"].n >= 20
    assert 0 <= found["a"].p50 <= found["a"].p95

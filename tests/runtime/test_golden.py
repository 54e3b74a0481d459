"""An engine against a bundle's golden outputs: what is right, off, or no number. Who is asked when: test_select_golden.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.bundle import Bundle, open_bundle
from edgefm.errors import BundleError, ParityError
from edgefm.export.golden import npy
from edgefm.runtime.golden import EXACT, check_golden

from .conftest import MakeBundle, golden_pixels, reference

Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Right:
    """The model itself, by numpy, with its outputs changed; keeps what it was asked."""

    precision = "fp32"

    def __init__(self, outputs: int, change: Change = lambda outputs: outputs) -> None:
        self.outputs, self.change, self.asked = outputs, change, list[np.ndarray]()

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.asked.append(batch)
        return self.change(reference(self.outputs, batch))


@pytest.fixture
def opened(make_bundle: MakeBundle) -> Iterator[Callable[..., Bundle]]:
    bundles = []

    def open_(*words: object, **options: object) -> Bundle:
        bundles.append(open_bundle(make_bundle(*words, **options)))
        return bundles[-1]

    yield open_
    for bundle in bundles:
        bundle.close()


def with_logits(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda outputs: {**outputs, "logits": change(outputs["logits"])}


def with_embedding(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda outputs: {**outputs, "embedding": change(outputs["embedding"])}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["fp32", "int8", "bf16"])
@pytest.mark.parametrize("name", ["logits", "embedding"])
def test_what_is_no_number_is_never_within(opened: Callable[..., Bundle], bad: float, precision: str, name: str) -> None:
    engine = Right(3, lambda outputs: {**outputs, name: np.full_like(outputs[name], bad)})
    with pytest.raises(ParityError, match=rf"{name} off by nan for the golden input grey8"):
        check_golden(engine, opened("multiclass"), precision)


@pytest.mark.parametrize("values", [np.full(3, np.nan, np.float32), np.array([0, 1, np.inf], np.float32), np.zeros(3)])
def test_expected_values_that_are_no_finite_floats_are_a_bad_bundle(
    opened: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, values: np.ndarray
) -> None:
    bundle = opened("multiclass")
    member, view = bundle.manifest.golden[0].outputs["logits"], bundle.view
    monkeypatch.setattr(bundle, "view", lambda name: memoryview(npy(values)) if name == member else view(name))
    with pytest.raises(BundleError, match="values that are not finite"):
        check_golden(Right(3), bundle, "fp32")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "embedding"])
def test_the_right_answers_pass_in_every_precision_and_the_last_tensor_comes_back(
    opened: Callable[..., Bundle], kind: str
) -> None:
    bundle = opened(kind)
    for precision in ("fp32", "bf16", "int8"):
        engine = Right(len(bundle.manifest.task.labels))
        tensor = check_golden(engine, bundle, precision)
        assert tensor.dtype == np.float32
        assert tensor.shape == (1, 3, 16, 16)
        assert len(engine.asked) == 1 + len(golden_pixels())
        assert not engine.asked[0].any()  # once on zeros, so that what an engine does once is done
        np.testing.assert_array_equal(engine.asked[-1], tensor)


def test_fewer_are_asked_where_a_start_must_be_quick(opened: Callable[..., Bundle]) -> None:
    engine = Right(3)
    check_golden(engine, opened("multiclass"), "fp32", most=1)
    assert len(engine.asked) == 2  # zeros and the first


def test_probabilities_decide_and_not_logits(opened: Callable[..., Bundle]) -> None:
    check_golden(Right(3, with_logits(lambda logits: logits + 1e3)), opened("multiclass"), "fp32")  # softmax does not see it
    with pytest.raises(ParityError, match=r"logits off by .* expected at most 0\.001"):
        check_golden(Right(3, with_logits(lambda logits: logits * 1.5)), opened("multiclass"), "fp32")


def test_an_embedding_is_held_in_units_of_its_spread_in_fp32(opened: Callable[..., Bundle]) -> None:
    bundle = opened("embedding")
    for factor, passes in ((0.5, True), (3.0, False)):

        def shifted(embedding: np.ndarray, factor: float = factor) -> np.ndarray:
            moved = embedding.copy()
            moved[0, 0] += factor * EXACT * embedding.std()
            return moved

        engine = Right(0, with_embedding(shifted))
        if passes:
            check_golden(engine, bundle, "fp32")
        else:
            with pytest.raises(ParityError, match="embedding off by"):
                check_golden(engine, bundle, "fp32")


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_int8_and_bf16_may_differ_by_what_a_gate_allows_and_not_by_broken_arithmetic(
    opened: Callable[..., Bundle], precision: str
) -> None:
    bundle = opened("embedding")
    noise = np.random.default_rng(0).normal(size=24).astype(np.float32)
    check_golden(Right(0, with_embedding(lambda e: e + 0.1 * e.std() * noise)), bundle, precision)
    with pytest.raises(ParityError, match=r"embedding off by .*; expected at most 0\.1"):
        check_golden(Right(0, with_embedding(lambda e: -e)), bundle, precision)
    with pytest.raises(ParityError, match=r"logits off by .*; expected at most 0\.25"):
        check_golden(Right(3, with_logits(lambda logits: logits[:, ::-1])), opened("multiclass"), precision)


def test_int8_is_held_to_what_int8_itself_answers_where_the_bundle_says_so(
    opened: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = opened("multiclass")
    listed = [
        replace(golden, outputs=golden.outputs | {f"int8.{name}": golden.outputs[name] for name in ("logits", "embedding")})
        for golden in bundle.manifest.golden
    ]
    monkeypatch.setattr(bundle, "manifest", replace(bundle.manifest, golden=tuple(listed)))
    noise = np.random.default_rng(0).normal(size=24).astype(np.float32)

    def aside(share: float) -> Right:
        """An embedding with this much of its length in a direction of its own."""
        return Right(3, with_embedding(lambda e: e + share * np.linalg.norm(e) / np.linalg.norm(noise) * noise))

    check_golden(aside(0.05), bundle, "int8")
    check_golden(aside(0.4), bundle, "bf16")
    with pytest.raises(ParityError, match=r"embedding off by .*; expected at most 0\.01"):
        check_golden(aside(0.4), bundle, "int8")
    with pytest.raises(ParityError, match=r"logits off by .*; expected at most 0\.05"):
        check_golden(Right(3, with_logits(lambda logits: logits[:, ::-1])), bundle, "int8")


def test_the_first_input_that_is_off_is_named(opened: Callable[..., Bundle]) -> None:
    bundle = opened("multiclass")
    names = [golden.name for golden in bundle.manifest.golden]
    engine = Right(3)
    engine.change = with_logits(lambda logits: logits * (-1 if len(engine.asked) == 3 else 1))
    with pytest.raises(ParityError, match=f"for the golden input {names[1]};"):
        check_golden(engine, bundle, "fp32")


def test_a_bundle_without_golden_inputs_gives_zeros(opened: Callable[..., Bundle], tmp_path: Path) -> None:
    engine = Right(3)
    assert not check_golden(engine, opened("multiclass", golden=False), "fp32").any()
    assert len(engine.asked) == 1

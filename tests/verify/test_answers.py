"""Every image is read once, prepared as each model wants it, and an answer that is no number stops everything."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from edgefm.errors import ImageError, InputError, ParityError
from edgefm.spec.preprocess import Preprocess
from edgefm.verify.answers import collect
from edgefm.verify.contenders import Contender

from .people import Greys, answered, contender


def test_no_images_is_an_error() -> None:
    with pytest.raises(InputError, match="no images"):
        answered(Greys([]), contender("one"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("output", ["logits", "embedding"])
def test_an_answer_that_is_not_finite_names_the_model_and_the_row(output: str, value: float) -> None:
    good = contender("onnx-fp32")

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        found = dict(good.predict(batch))
        if batch.max() > 0.9:
            found[output] = found[output] * value
        return found

    bad = Contender(name="openvino-int8", precision="int8", task=good.task, preprocess=good.preprocess, predict=predict)
    with pytest.raises(ParityError, match=f"openvino-int8 gives {output} that are not finite numbers for the image of row 4"):
        answered(Greys([10, 20, 250]), good, bad)


def test_an_image_that_cannot_be_read_is_not_passed_over() -> None:
    images = Greys([1, 2])
    images.pixels = lambda index: (_ for _ in ()).throw(ImageError("row 3 of x: broken"))  # type: ignore[method-assign]
    with pytest.raises(ImageError, match="row 3"):
        answered(images, contender("one"))


def test_a_reference_without_the_embedding_that_is_asked_for_is_an_error() -> None:
    blind = contender("blind")
    bare = Contender(
        name="blind", precision="fp32", task=blind.task, preprocess=blind.preprocess,
        predict=lambda batch: {"logits": blind.predict(batch)["logits"]},
    )  # fmt: skip
    with pytest.raises(InputError, match="blind gives no embedding"):
        answered(Greys([1]), bare, embeddings=True)


def test_each_image_is_read_once_and_prepared_as_each_model_wants_it() -> None:
    images = Greys([0, 128, 255])
    halved = Preprocess(channels=1, size=2, resize_to=2, mean=(0.0,), std=(2.0,))

    def two_by_two(batch: np.ndarray) -> dict[str, np.ndarray]:
        assert batch.shape == (1, 1, 2, 2)
        level = batch.mean(axis=(1, 2, 3))
        return {"logits": np.stack([-level, level], axis=1)}

    plain = contender("plain")
    other = Contender(name="other", precision="fp32", task=plain.task, preprocess=halved, predict=two_by_two)
    one, two = answered(images, plain, other)
    assert images.read == [1, 1, 1]
    assert one.probabilities is not None
    assert two.probabilities is not None
    assert one.probabilities[:, 1] == pytest.approx([0, 128 / 255, 1], abs=1e-5)
    assert two.probabilities[:, 1] == pytest.approx(1 / (1 + np.exp(-np.array([0, 128, 255]) / 255)), abs=1e-5)
    assert two.cosine is None  # it has no embedding


def test_answers_come_in_the_order_of_the_contenders_whoever_is_the_reference() -> None:
    first, second = contender("first"), contender("second", lambda level: 1 - level)
    found = collect(Greys([255, 0]), [first, second], reference=second, embeddings=False, bar=lambda share, left: None)
    assert [each.contender.name for each in found] == ["first", "second"]
    assert found[1].cosine == pytest.approx([1, 1])
    assert found[0].cosine == pytest.approx([1 / np.sqrt(2)] * 2)


def test_memory_does_not_grow_with_the_pixels_of_more_images() -> None:
    class Large(Greys):
        def pixels(self, index: int) -> np.ndarray:
            return np.full((500, 500), 7, np.uint8)

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        answered(Large([7] * count), contender("one"))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(42) - peak(2) < 40 * 500 * 500 / 10


def test_progress_ends_at_one() -> None:
    told: list[tuple[float, float]] = []
    one = contender("one")
    collect(Greys([1, 2, 3]), [one], reference=one, embeddings=False, bar=lambda share, left: told.append((share, left)))
    assert [share for share, _ in told] == pytest.approx([1 / 3, 2 / 3, 1])
    assert told[-1][1] == 0

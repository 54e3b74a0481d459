"""Parity names the stage where a difference starts, and lets nothing but round-off through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefm.errors import InputError, ParityError
from edgefm.spec.task import make_task
from edgefm.verify.parity import Expected, check, findings, first_failure, in_deviations

TASK = make_task("binary", ("normal", "ill"))
WEIGHTS = np.random.default_rng(0).normal(size=(3 * 4 * 4, 2)).astype(np.float32)


def prepare(pixels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(pixels.astype(np.float32) / 255, (3, 4, 4)).copy()


def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
    flat = batch.reshape(len(batch), -1)
    return {"logits": flat @ WEIGHTS, "embedding": flat}


def pictures() -> list[Expected]:
    random = np.random.default_rng(1)
    made = []
    for index in range(4):
        pixels = random.integers(0, 256, (4, 4), dtype=np.uint8)
        prepared = prepare(pixels)
        outputs = {name: rows[0] for name, rows in predict(prepared[None]).items()}
        made.append(Expected(name=f"picture{index}", pixels=pixels, prepared=prepared, outputs=outputs))
    return made


def test_an_engine_that_answers_alike_passes_every_stage() -> None:
    found = findings(prepare, predict, pictures(), TASK)
    assert [finding.stage for finding in found] == ["preprocess", *["encoder"] * 4, "postprocess"]
    assert first_failure(found) is None
    check(found, "engine")


def test_a_different_preprocessing_is_named_first() -> None:
    found = findings(lambda pixels: prepare(pixels) + np.float32(0.002), predict, pictures(), TASK)
    with pytest.raises(ParityError, match=r"stage preprocess, the prepared tensor, off by 0\.002"):
        check(found, "engine")


def test_a_different_encoder_is_named_with_its_picture() -> None:
    def wrong(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = predict(batch)
        logits = outputs["logits"].copy()
        logits[np.isclose(batch[:, 0, 0, 0], pictures()[2].prepared[0, 0, 0])] += 0.5
        return {**outputs, "logits": logits}

    with pytest.raises(ParityError, match=r"stage encoder, logits one by one.*picture2"):
        check(findings(prepare, wrong, pictures(), TASK), "engine")


def test_an_engine_that_is_only_right_for_single_images_is_found() -> None:
    def first_row(batch: np.ndarray) -> dict[str, np.ndarray]:
        return predict(np.repeat(batch[:1], len(batch), axis=0))

    with pytest.raises(ParityError, match="in a batch of 4"):
        check(findings(prepare, first_row, pictures(), TASK), "engine")


def test_an_engine_that_answers_one_row_per_batch_is_found() -> None:
    with pytest.raises(ParityError, match=r"in a batch of 4 have the shape \[1, 2\]; expected \[4, 2\]"):
        findings(prepare, lambda batch: predict(batch[:1]), pictures(), TASK)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_never_pass(value: float) -> None:
    def broken(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.full_like(rows, value) for name, rows in predict(batch).items()}

    found = findings(prepare, broken, pictures(), TASK)
    assert not any(finding.passed for finding in found if finding.stage != "preprocess")


def test_an_embedding_task_compares_the_embedding() -> None:
    def embed(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": predict(batch)["embedding"]}

    made = [replace(picture, outputs={"embedding": picture.outputs["embedding"]}) for picture in pictures()]
    found = findings(prepare, embed, made, make_task("embedding"))
    assert [finding.stage for finding in found] == ["preprocess", "encoder", "encoder", "postprocess"]
    check(found, "engine")


def test_answers_that_never_vary_are_compared_to_the_last_bit_of_float32() -> None:
    constant = np.full((5, 2), 3.0, np.float32)
    assert in_deviations(np.nextafter(constant, np.float32(9)), constant).max() == 0
    assert in_deviations(constant + np.float32(0.01), constant).max() > 1


def test_no_pictures_prove_nothing() -> None:
    with pytest.raises(InputError, match="no pictures"):
        findings(prepare, predict, [], TASK)

"""Images in, answers out: order, errors of single images, forms of input, refused and closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm.errors import BundleError, ImageError, InputError
from edgefm.runtime.decide import probabilities
from edgefm.runtime.session import Answer, Session

from .conftest import SPEC, TASKS, WIDTH, MakeBundle, golden_pixels, reference

ENGINES = ["onnx-fp32", "openvino-fp32"]


def same(a: Answer, b: Answer) -> bool:
    return a.label == b.label and a.probabilities == b.probabilities and np.array_equal(a.embedding, b.embedding)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ENGINES)
@pytest.mark.parametrize("kind", TASKS)
def test_every_task_on_every_engine_equals_plain_numpy(make_bundle: MakeBundle, kind: str, variant: str) -> None:
    task = TASKS[kind]
    with Session(make_bundle(kind), variant=variant) as session:
        assert session.variant == variant
        for pixels in golden_pixels().values():
            answer = session.predict(pixels)
            expected = reference(len(task.labels), session.prepare(pixels)[None])
            assert answer.embedding is not None
            assert answer.embedding.shape == (WIDTH,)
            np.testing.assert_allclose(answer.embedding, expected["embedding"][0], atol=2e-5)
            assert tuple(answer.probabilities) == task.labels
            if kind == "embedding":
                assert answer.label is None
                continue
            chances = probabilities(expected["logits"], task)[0]
            np.testing.assert_allclose(list(answer.probabilities.values()), chances, atol=1e-5)
            if kind == "multilabel":
                assert answer.label == tuple(label for label, p in zip(task.labels, chances) if p >= 0.5)
            else:
                assert answer.label == task.labels[chances.argmax()]


@pytest.mark.parametrize("variant", ENGINES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_a_list_is_answered_in_order_with_the_bits_of_single_images(
    make_bundle: MakeBundle, pictures: list[Path], variant: str, threads: int, count: int
) -> None:
    with Session(make_bundle(), variant=variant, threads=threads) as session:
        alone = [session.predict(path) for path in pictures]
        images = [pictures[i % 10] for i in range(count)]
        together = session.predict(images)
    assert [answer.source for answer in together] == [str(path) for path in images]
    assert all(same(answer, alone[i % 10]) for i, answer in enumerate(together))


@pytest.mark.parametrize("threads", [1, 2])
def test_broken_images_have_errors_and_the_others_are_answered(
    make_bundle: MakeBundle, pictures: list[Path], tmp_path: Path, threads: int
) -> None:
    (tmp_path / "cut.png").write_bytes(pictures[1].read_bytes()[:-200])
    (tmp_path / "text.png").write_text("no image")
    images = [
        tmp_path / "cut.png", pictures[0], tmp_path / "gone.png", tmp_path / "text.png", np.zeros((4, 4), np.float32),
        pictures[2], np.zeros((0, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8), None, 7, tmp_path, pictures[4],
    ]  # fmt: skip
    with Session(make_bundle(), variant="onnx-fp32", threads=threads) as session:
        answers = session.predict(images)  # type: ignore[arg-type]
    good = {1, 5, 11}
    assert [i for i, answer in enumerate(answers) if answer.error is None] == sorted(good)
    for number, answer in enumerate(answers):
        assert (answer.label is not None) == (number in good)
        assert (answer.probabilities != {}) == (number in good)
        assert (answer.embedding is not None) == (number in good)
        assert answer.variant == "onnx-fp32"
        assert answer.milliseconds >= 0
    assert "does not exist" in str(answers[2].error)
    assert "float32" in str(answers[4].error)
    assert answers[8].source == "image 8"


def test_a_single_broken_image_raises(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with Session(make_bundle(), variant="onnx-fp32") as session:
        with pytest.raises(ImageError, match="does not exist"):
            session.predict(tmp_path / "gone.png")
        with pytest.raises(ImageError, match=r"float64; expected uint8 .* or uint16"):
            session.predict(np.zeros((4, 4)))
        with pytest.raises(ImageError, match="a NoneType; expected a path, a Pillow image or an array"):
            session.predict(None)  # type: ignore[call-overload]
        assert session.predict(np.zeros((4, 4), np.uint8)).label is not None


def test_path_text_array_and_pillow_image_are_the_same_image(make_bundle: MakeBundle, pictures: list[Path]) -> None:
    with Session(make_bundle(), variant="onnx-fp32") as session:
        for path in pictures[:5]:
            with Image.open(path) as image:
                answers = session.predict([path, str(path), np.asarray(image), image])
            assert [answer.source for answer in answers] == [str(path), str(path), "array 2", "image 3"]
            assert all(same(answer, answers[0]) for answer in answers)


def test_a_pillow_image_is_turned_as_its_file_is(make_bundle: MakeBundle, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(tmp_path / "turned.png", exif=exif)
    with Session(make_bundle(), variant="onnx-fp32") as session, Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(session.prepare(image), session.prepare(tmp_path / "turned.png"))


def test_a_closed_pillow_image_is_an_image_error(make_bundle: MakeBundle, pictures: list[Path]) -> None:
    image = Image.open(pictures[1])
    image.close()
    with Session(make_bundle(), variant="onnx-fp32") as session, pytest.raises(ImageError, match="image 0 cannot be read"):
        session.predict(image)


def test_sixteen_bits_stay_sixteen_bits(make_bundle: MakeBundle, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 20), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    with Session(make_bundle(), variant="onnx-fp32") as session:
        from_array, from_file = session.predict(pixels), session.predict(tmp_path / "deep.png")
        assert same(from_array, from_file)
        assert not same(from_array, session.predict((pixels >> 8).astype(np.uint8)))


@pytest.mark.parametrize("variant", ENGINES)
def test_prepared_batches_of_any_size_answer_row_by_row(make_bundle: MakeBundle, variant: str) -> None:
    batch = np.random.default_rng(0).normal(size=(5, 3, 16, 16)).astype(np.float32)
    batch.flags.writeable = False
    with Session(make_bundle("multiclass"), variant=variant) as session:
        whole = session.run_prepared(batch)
        assert whole["logits"].shape == (5, 3)
        for row in range(5):
            for name, value in session.run_prepared(batch[row : row + 1]).items():
                np.testing.assert_array_equal(value[0], whole[name][row])
        np.testing.assert_array_equal(session.run_prepared(batch[::-2])["logits"], whole["logits"][::-2])
        assert session.run_prepared(batch[:0])["embedding"].shape == (0, WIDTH)


@pytest.mark.parametrize("variant", ENGINES)
def test_outputs_are_the_callers_own(make_bundle: MakeBundle, variant: str) -> None:
    with Session(make_bundle("embedding"), variant=variant) as session:
        first = session.predict(np.zeros((4, 4), np.uint8))
        assert first.embedding is not None
        before = first.embedding.copy()
        session.predict(np.full((4, 4), 255, np.uint8))
    np.testing.assert_array_equal(first.embedding, before)


def test_a_batch_of_another_shape_or_dtype_is_refused(make_bundle: MakeBundle) -> None:
    with Session(make_bundle(), variant="onnx-fp32") as session:
        for bad in (np.zeros((1, 3, 15, 16), np.float32), np.zeros((3, 16, 16), np.float32), np.zeros((1, 3, 16, 16))):
            with pytest.raises(InputError, match=r"expected float32 \['N', 3, 16, 16\]"):
                session.run_prepared(bad)


@pytest.mark.parametrize("variant", ENGINES)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_answer_that_is_no_number_is_an_error(make_bundle: MakeBundle, variant: str, threads: int) -> None:
    bright, white = np.full((8, 8, 3), 255, np.uint8), np.full((8, 8), 255, np.uint8)
    with Session(make_bundle(scale=1e38, golden=False), variant=variant, threads=threads) as session:
        assert not np.isfinite(session.run_prepared(session.prepare(bright)[None])["logits"]).all()
        with pytest.raises(ImageError, match="array 0: the model's logits are not finite"):
            session.predict(bright)
        answers = session.predict([bright, white])
    assert all(answer.label is None and "not finite" in str(answer.error) for answer in answers)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(make_bundle: MakeBundle, threads: int) -> None:
    with pytest.raises(InputError, match="expected at least 1"):
        Session(make_bundle(), threads=threads)


def test_a_refused_bundle_is_refused_unless_allowed(make_bundle: MakeBundle) -> None:
    path = make_bundle(refused="int8 loses 3 points of sensitivity")
    with pytest.raises(BundleError, match=r"refused: int8 loses 3 points of sensitivity\. .*--allow-refused"):
        Session(path)
    with Session(path, allow_refused=True, variant="onnx-fp32") as session:
        assert session.predict(np.zeros((4, 4), np.uint8)).label is not None


def test_a_closed_session_says_so(make_bundle: MakeBundle, pictures: list[Path]) -> None:
    session = Session(make_bundle(), variant="onnx-fp32")
    under_way = session.stream([pictures[1], pictures[2]])
    session.close()
    session.close()
    for call in (
        lambda: session.predict(pictures[0]), lambda: session.predict([]), lambda: session.stream([]),
        lambda: session.run_prepared(np.zeros((1, 3, 16, 16), np.float32)),
    ):  # fmt: skip
        with pytest.raises(InputError, match="is closed"):
            call()
    assert [answer.error for answer in under_way] == [None, None]


def test_a_bundle_that_is_none_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "x.efm").write_bytes(b"no bundle")
    for path in (tmp_path / "x.efm", tmp_path / "gone.efm", tmp_path):
        with pytest.raises(BundleError):
            Session(path)


def test_a_stream_takes_no_more_images_than_it_needs(make_bundle: MakeBundle, pictures: list[Path]) -> None:
    taken = 0

    def camera() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield pictures[taken % 10]

    with Session(make_bundle(), variant="onnx-fp32", threads=2) as session:
        stream = session.stream(camera())  # type: ignore[arg-type]
        for _ in range(5):
            assert next(stream).error is None
        assert taken <= 5 + 16
        stream.close()  # type: ignore[attr-defined]


def test_milliseconds_are_a_part_of_the_wall_time(make_bundle: MakeBundle) -> None:
    from time import perf_counter

    large = np.zeros((2000, 2000), np.uint8)
    with Session(make_bundle(), variant="onnx-fp32", threads=1) as session:
        start = perf_counter()
        answers = [session.predict(large), *session.predict([large] * 3)]
        wall = (perf_counter() - start) * 1e3
    times = [answer.milliseconds for answer in answers]
    assert min(times) > 0
    assert wall / 2 < sum(times) <= wall


def test_an_answer_becomes_plain_values(make_bundle: MakeBundle) -> None:
    import json

    with Session(make_bundle("multilabel"), variant="onnx-fp32") as session:
        record = session.predict(np.zeros((4, 4), np.uint8)).record()
    read = json.loads(json.dumps(record))
    names = ["source", "label", "probabilities", "set", "abstain", "embedding", "variant", "milliseconds", "error"]
    assert list(read) == names
    assert (read["set"], read["abstain"]) == (None, None)
    assert len(read["embedding"]) == WIDTH


def test_preparation_is_the_bundles_own(make_bundle: MakeBundle) -> None:
    with Session(make_bundle(), variant="onnx-fp32") as session:
        tensor = session.prepare(np.full((5, 5), 255, np.uint8))
    expected = (1 - np.array(SPEC.mean, np.float32)) / np.array(SPEC.std, np.float32)
    np.testing.assert_allclose(tensor, np.broadcast_to(expected[:, None, None], (3, 16, 16)), rtol=1e-6)

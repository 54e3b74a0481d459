"""The numpy oracle against Pillow, and every array that a user may hand over."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefm.errors import ImageError, InputError
from edgefm.runtime.preprocess import Preprocessor, check_pixels, corner, prepare, resized
from edgefm.spec.preprocess import Preprocess

from .preprocess_cases import CHANNELS, DTYPES, FLOAT_TOLERANCE, LARGE, SIZES, SPECS, by_pillow, picture


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_oracle_equals_pillow_in_float(spec, size, channels, dtype):
    pixels = picture(size, channels, dtype)
    prepared = prepare(pixels, spec)
    assert prepared.dtype == np.float32
    assert prepared.shape == (spec.channels, spec.size, spec.size)
    assert np.abs(prepared - by_pillow(pixels, spec)).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize(("channels", "dtype"), [(None, np.uint16), (3, np.uint8)])
@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_oracle_equals_pillow_on_large_images(spec, size, channels, dtype):
    pixels = picture(size, channels, dtype)
    assert np.abs(prepare(pixels, spec) - by_pillow(pixels, spec)).max() <= FLOAT_TOLERANCE


specs = st.builds(
    lambda size, more, resize, filter, channels: Preprocess(
        size=size,
        resize_to=size + more,
        resize=resize,
        filter=filter,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        window16=(100.25, 60000.0),
    ),
    st.integers(1, 24),
    st.integers(0, 9),
    st.sampled_from(["shorter", "squash"]),
    st.sampled_from(["bicubic", "bilinear"]),
    st.sampled_from([1, 3]),
)


@settings(max_examples=150, deadline=None)
@given(specs, st.integers(1, 50), st.integers(1, 50), st.sampled_from(CHANNELS), st.sampled_from(DTYPES), st.integers(0, 99))
def test_any_small_image_equals_pillow_in_float(spec, height, width, channels, dtype, seed):
    pixels = picture((height, width), channels, dtype, seed)
    expected = by_pillow(pixels, spec)
    assert np.abs(prepare(pixels, spec) - expected).max() <= FLOAT_TOLERANCE
    assert np.abs(Preprocessor(spec)(pixels) - expected).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize("backend", ["numpy", None])
def test_an_axis_that_keeps_its_length_is_left_exactly_as_it_is(backend):
    spec = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)
    pixels = picture((224, 224), 3, np.uint8)
    prepared = Preprocessor(spec, backend=backend)(pixels)
    assert (np.rint(prepared * 255) == pixels.transpose(2, 0, 1)).all()
    assert np.abs(prepared - pixels.transpose(2, 0, 1) / 255.0).max() <= 1.3e-7


def test_a_constant_image_stays_constant_at_any_size():
    spec = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)
    for size in SIZES:
        assert np.abs(prepare(np.full(size, 255, np.uint8), spec) - 1.0).max() <= 1e-6


def test_sizes_are_those_of_torchvision():
    spec = Preprocess(resize_to=256)
    assert resized(spec, 223, 225) == (256, 258)
    assert resized(spec, 3000, 8) == (96000, 256)
    assert [corner(m, 224) for m in (224, 225, 226, 227, 229, 231)] == [0, 0, 1, 2, 2, 4]


def test_alpha_is_dropped_and_grey_repeated():
    spec = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)
    colour = picture((50, 60), 4, np.uint8)
    assert (prepare(colour, spec) == prepare(colour[:, :, :3], spec)).all()
    grey = prepare(colour[:, :, 0], spec)
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()


REFUSED = {
    "floats": (np.zeros((4, 4)), "float64"),
    "signed": (np.zeros((4, 4), np.int16), "int16"),
    "32 bits": (np.zeros((4, 4), np.uint32), "uint32"),
    "booleans": (np.zeros((4, 4), bool), "bool"),
    "objects": (np.array([[None]]), "object"),
    "a vector": (np.zeros(4, np.uint8), r"\[4\]"),
    "a scalar": (np.array(3, np.uint8), r"\[\]"),
    "a batch": (np.zeros((2, 3, 4, 4), np.uint8), r"\[2, 3, 4, 4\]"),
    "channels first": (np.zeros((3, 40, 40), np.uint8), r"\[3, 40, 40\]"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
    "no rows": (np.zeros((0, 4), np.uint8), "empty"),
    "no columns": (np.zeros((4, 0, 3), np.uint16), "empty"),
    "a list": ([[1, 2]], "list"),
    "nothing": (None, "NoneType"),
    "huge": (np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**24 + 1, 2), (0, 0)), "16777217"),
}


@pytest.mark.parametrize(("pixels", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_other_arrays_are_refused_with_what_was_found(pixels, message):
    with pytest.raises(ImageError, match=message):
        check_pixels(pixels)
    with pytest.raises(ImageError, match=message):
        Preprocessor(Preprocess())(pixels)


def views(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays that hold other bytes in other orders, each to be read like its own contiguous copy."""
    return {
        "upside down": pixels[::-1],
        "mirrored": pixels[:, ::-1],
        "every second row": pixels[::2],
        "every third column": pixels[:, ::3],
        "a cut-out": pixels[3:40, 5:31],
        "transposed": np.moveaxis(pixels, 0, 1),
        "column-major": np.asfortranarray(pixels),
        "one channel of three": pixels[:, :, 1],
        "channels reversed": pixels[:, :, ::-1],
        "repeated rows": np.broadcast_to(pixels[:1], pixels.shape),
        "the other byte order": pixels.astype(pixels.dtype.newbyteorder()),
        "one row": pixels[5:6],
        "one column": pixels[:, 7:8],
        "read-only": np.frombuffer(pixels.tobytes(), pixels.dtype).reshape(pixels.shape),
        "unaligned": np.frombuffer(b"x" + pixels.tobytes(), np.uint8)[1:].view(pixels.dtype).reshape(pixels.shape),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["numpy", None])
@pytest.mark.parametrize("name", views(np.zeros((50, 50, 3), np.uint8)))
def test_arrays_in_any_memory_order_give_the_same_answer(name, backend, dtype):
    pixels = views(picture((50, 40), 3, dtype))[name]
    preprocessor = Preprocessor(Preprocess(size=16, resize_to=16), backend=backend)
    plain = np.array(pixels, dtype, order="C")
    assert (preprocessor(pixels) == preprocessor(plain)).all()


@pytest.mark.parametrize("backend", ["numpy", None])
def test_the_answer_is_written_into_out_and_nowhere_else(backend):
    batch = np.full((3, 3, 16, 16), 7.0, np.float32)
    preprocessor = Preprocessor(Preprocess(size=16, resize_to=20), backend=backend)
    pixels = picture((30, 50), 3, np.uint16)
    returned = preprocessor(pixels, out=batch[1])
    assert np.shares_memory(returned, batch)
    assert (batch[1] == preprocessor(pixels)).all()
    assert (batch[[0, 2]] == 7.0).all()


@pytest.mark.parametrize("backend", ["numpy", None])
def test_an_unfit_out_is_refused(backend):
    preprocessor = Preprocessor(Preprocess(size=16, resize_to=16), backend=backend)
    frozen = np.zeros((3, 16, 16), np.float32)
    frozen.flags.writeable = False
    unfit = [np.zeros((3, 16, 16)), np.zeros((1, 16, 16), np.float32), np.zeros((3, 16, 32), np.float32)[:, :, ::2], frozen]
    for out in unfit:
        with pytest.raises(InputError, match="out is"):
            preprocessor(picture((8, 8), None, np.uint8), out=out)


def test_threads_below_one_are_refused():
    with pytest.raises(InputError, match="threads is 0"):
        Preprocessor(Preprocess(), threads=0)


def test_without_the_native_module_numpy_does_the_work():
    code = (
        "import sys; sys.modules['edgefm._native'] = None\n"
        "import numpy as np\n"
        "from edgefm.errors import InputError\n"
        "from edgefm.runtime import cpu\n"
        "from edgefm.runtime.preprocess import Preprocessor\n"
        "from edgefm.spec.preprocess import Preprocess\n"
        "p = Preprocessor(Preprocess())\n"
        "assert p.backend == p.isa == 'numpy' and p(np.zeros((9, 9), np.uint8)).shape == (3, 224, 224)\n"
        "assert cpu.machine_id() == sys.argv[1]\n"
        "try: Preprocessor(Preprocess(), backend='native')\n"
        "except InputError as error: print(error)\n"
    )
    from edgefm.runtime.cpu import machine_id

    done = subprocess.run([sys.executable, "-c", code, machine_id()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "C++ module is not built" in done.stdout

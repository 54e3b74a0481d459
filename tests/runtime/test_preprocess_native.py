"""The C++ module against the oracle, on every instruction set of this machine; nothing handed to it may crash it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefm.errors import InputError
from edgefm.runtime.preprocess import Preprocessor, prepare
from edgefm.spec.preprocess import Preprocess

from .preprocess_cases import CHANNELS, DTYPES, LARGE, SIZES, SPECS, picture

native = pytest.importorskip("edgefm._native", reason="the C++ module is not built")

NATIVE_TOLERANCE = 1e-5
ORDER = ["scalar", "avx2", "avx512"]
HERE = ORDER[: ORDER.index(native.isa()) + 1]


@pytest.fixture(params=ORDER)
def isa(request, monkeypatch):
    """Caps the kernels; skipped where the processor has less."""
    monkeypatch.setenv("EDGEFM_ISA", request.param)
    if native.isa() != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_native_equals_the_oracle(isa, spec, channels, dtype):
    preprocessor = Preprocessor(spec, backend="native")
    assert preprocessor.isa == isa
    for size in SIZES:
        pixels = picture(size, channels, dtype)
        assert np.abs(preprocessor(pixels) - prepare(pixels, spec)).max() <= NATIVE_TOLERANCE, size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [None, 3])
def test_a_whole_radiograph_equals_the_oracle_with_the_same_bits_for_any_number_of_threads(isa, channels, dtype):
    spec = SPECS["crop and window"]
    pixels = picture(LARGE[1], channels, dtype)
    alone = Preprocessor(spec, backend="native")(pixels)
    assert np.abs(alone - prepare(pixels, spec)).max() <= NATIVE_TOLERANCE
    for threads in (2, 3, 7, 500):
        assert Preprocessor(spec, backend="native", threads=threads)(pixels).tobytes() == alone.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_every_instruction_set_gives_the_same_bits(spec, channels, dtype):
    for size in SIZES:
        pixels = picture(size, channels, dtype)
        out = {isa: np.empty((spec.channels, spec.size, spec.size), np.float32) for isa in HERE}
        for isa in HERE:
            native.preprocess(pixels, out=out[isa], isa=isa, **fields(spec))
        assert len({each.tobytes() for each in out.values()}) == 1, size


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(HERE),
    st.integers(1, 40),
    st.integers(0, 90),
    st.sampled_from(["shorter", "squash"]),
    st.sampled_from(["bicubic", "bilinear"]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(CHANNELS),
    st.sampled_from(DTYPES),
)
def test_native_equals_the_oracle_on_any_small_image(cap, size, more, resize, kind, height, width, channels, dtype):
    spec = Preprocess(size=size, resize_to=size + more, resize=resize, filter=kind)
    pixels = picture((height, width), channels, dtype)
    out = np.empty((3, size, size), np.float32)
    native.preprocess(pixels, out=out, isa=cap, **fields(spec))
    assert np.abs(out - prepare(pixels, spec)).max() <= NATIVE_TOLERANCE


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 9])
def test_whole_factors_put_pixels_on_pixels_and_every_crop_still_finds_its_neighbours(isa, factor):
    for more in range(3 * factor):
        spec = Preprocess(size=90 * factor - more, resize_to=90 * factor)
        pixels = picture((90, 90 + more), 3, np.uint8)
        expected = prepare(pixels, spec)
        for threads in (1, 3):
            found = Preprocessor(spec, backend="native", threads=threads)(pixels)
            assert np.abs(found - expected).max() <= NATIVE_TOLERANCE, (more, threads)


@pytest.mark.parametrize("size", [LARGE[0], (1, 5000), (5000, 1), (2, 200000), (70000, 3)])
def test_long_images_are_prepared_at_the_cost_of_their_centre(isa, size):
    pixels = picture(size, None, np.uint16)
    spec = Preprocess()
    assert np.abs(Preprocessor(spec, backend="native")(pixels) - prepare(pixels, spec)).max() <= NATIVE_TOLERANCE


def test_a_large_square_output_is_prepared(isa):
    spec = Preprocess(size=1500, resize_to=1600)
    pixels = picture((700, 900), 3, np.uint8)
    assert np.abs(Preprocessor(spec, threads=2)(pixels) - prepare(pixels, spec)).max() <= NATIVE_TOLERANCE


def test_eight_threads_at_once_get_the_same_bits(isa):
    preprocessor = Preprocessor(SPECS["crop and window"], threads=2)
    pictures = [picture((300 + 7 * i, 500), 3, np.uint16, i) for i in range(8)]
    expected = [preprocessor(pixels).tobytes() for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert [prepared.tobytes() for prepared in pool.map(preprocessor, pictures)] == expected


@pytest.mark.parametrize("started", [0, 2])
def test_a_thread_that_cannot_start_for_any_reason_is_done_without(root, tmp_path, started):
    compiler = shutil.which("g++")
    if compiler is None or not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ:
        pytest.skip("no g++ here to make threads fail, or another library is preloaded")
    (tmp_path / "fail.cpp").write_text(f"""
#include <dlfcn.h>
#include <new>
#define START _ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE
#define NAME(symbol) NAME_(symbol)
#define NAME_(symbol) #symbol
extern "C" void START(void* self, void* state, void (*depend)()) {{
    static int started = 0;
    if (started++ == {started}) throw std::bad_alloc();
    reinterpret_cast<void (*)(void*, void*, void (*)())>(dlsym(RTLD_NEXT, NAME(START)))(self, state, depend);
}}
""")
    shim = tmp_path / "fail.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "fail.cpp", "-ldl"], check=True)
    code = (
        "from edgefm.runtime.preprocess import Preprocessor\n"
        "from tests.runtime.preprocess_cases import LARGE, SPECS, picture\n"
        "import numpy as np\n"
        "pixels, spec = picture(LARGE[1], 3, np.uint8), SPECS['crop and window']\n"
        "alone, many = (Preprocessor(spec, backend='native', threads=n)(pixels) for n in (1, 4))\n"
        "print((alone == many).all())\n"
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "True\n"


def test_rows_are_read_where_they_lie():
    pixels = picture((400, 600), None, np.uint16)
    spec = Preprocess()
    out = np.empty((3, 224, 224), np.float32)
    for view in (pixels[::-1], pixels[::3], pixels[10:300, 20:501], np.broadcast_to(pixels[:1], pixels.shape)):
        assert not view.flags.c_contiguous
        native.preprocess(view, out=out, **fields(spec))
        assert np.abs(out - prepare(view, spec)).max() <= NATIVE_TOLERANCE


def test_a_cap_above_the_processor_takes_what_there_is(monkeypatch):
    monkeypatch.delenv("EDGEFM_ISA", raising=False)
    best = native.isa()
    monkeypatch.setenv("EDGEFM_ISA", "avx512")
    assert native.isa() == best
    monkeypatch.setenv("EDGEFM_ISA", "")
    assert native.isa() == best


def test_an_unknown_cap_is_an_error_that_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("EDGEFM_ISA", "sse9")
    with pytest.raises(
        InputError,
        match="unknown instruction set 'sse9'; expected scalar, sse41, avx2, avx_vnni, avx512, avx512_vnni or neon_dotprod",
    ):
        Preprocessor(Preprocess())


def fields(spec: Preprocess) -> dict[str, object]:
    """The spec as the native function takes it."""
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


IMAGE = np.zeros((9, 9), np.uint8)
BAD = {
    "channels": {"channels": 2},
    "no size": {"size": 0},
    "negative size": {"size": -5},
    "vast size": {"size": 2**31 - 1, "resize_to": 2**31 - 1},
    "resize below size": {"resize_to": 3},
    "resize beyond an int": {"resize_to": 2**40},
    "unknown resize": {"resize": "longer"},
    "unknown filter": {"filter": "nearest"},
    "empty window": {"window16": (5.0, 5.0)},
    "infinite window": {"window16": (0.0, float("inf"))},
    "NaN window": {"window16": (float("nan"), 5.0)},
    "short window": {"window16": (1.0,)},
    "short mean": {"mean": (0.5,)},
    "long std": {"std": (0.5,) * 4},
    "NaN mean": {"mean": (float("nan"),) * 3},
    "zero std": {"std": (0.0,) * 3},
    "float pixels": {"pixels": np.zeros((9, 9))},
    "swapped bytes": {"pixels": np.zeros((9, 9), ">u2")},
    "no pixels": {"pixels": np.zeros((0, 9), np.uint8)},
    "a vector": {"pixels": np.zeros(9, np.uint8)},
    "two channels": {"pixels": np.zeros((9, 9, 2), np.uint8)},
    "too many axes": {"pixels": np.zeros((1, 9, 9, 3), np.uint8)},
    "strided columns": {"pixels": np.zeros((9, 18), np.uint8)[:, ::2]},
    "strided channels": {"pixels": np.zeros((9, 9, 6), np.uint8)[:, :, ::2]},
    "too long": {"pixels": np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**40, 1), (0, 1))},
    "no array": {"pixels": [[1, 2]]},
    "float64 out": {"out": np.zeros((3, 16, 16))},
    "small out": {"out": np.zeros((3, 16, 15), np.float32)},
    "strided out": {"out": np.zeros((3, 16, 32), np.float32)[:, :, ::2]},
    "read-only out": {"out": np.broadcast_to(np.float32(0), (3, 16, 16))},
    "no threads": {"threads": 0},
    "negative threads": {"threads": -1},
    "unknown isa": {"isa": "avx1024"},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_bad_arguments_raise_and_never_crash(change):
    arguments = {"pixels": IMAGE, "out": np.zeros((3, 16, 16), np.float32), **fields(Preprocess(size=16, resize_to=16))}
    native.preprocess(**arguments)
    with pytest.raises((ValueError, TypeError)):
        native.preprocess(**{**arguments, **change})

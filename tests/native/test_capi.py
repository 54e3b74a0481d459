"""The C interface: answers as the model's by the rules of the runtime, the same bits however they are asked for."""

from __future__ import annotations

import ctypes
import io
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_size_t

import numpy as np
import pytest

import edgefm
from edgefm.bundle import open_bundle
from edgefm.runtime import decide

from .bundles import TASKS, pictures
from .capi import Outputs, image_of


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("variant", [b"native-int8", b"native-fp32"])
def test_every_output_is_the_models_by_the_rules_of_the_runtime(edgefm_c, bundles, name, variant):
    task = TASKS[name]
    session = edgefm_c.open(bundles[name], variant=variant)
    session.library.call("check", session.handle)  # logits and embedding, held to torch
    found = session.predict(*pictures())
    if name != "embedding":
        expected = decide.probabilities(found["logits"], task)
        assert np.abs(found["probabilities"] - expected).max() < 1e-6
        decided = decide.decisions(expected, task)
        rows = decided if name == "multilabel" else np.arange(len(task.labels)) == decided[:, None]
        assert np.array_equal(found["decisions"], rows)
    heat = found["heat"]
    assert heat.shape == (4, 4, 4)
    assert (heat > 0).all()
    assert (heat.sum(axis=(1, 2)) < 1).all(), "the class token's own share is left out"


def test_the_fp32_variant_answers_as_torch_from_the_same_pixels(edgefm_c, bundles):
    session = edgefm_c.open(bundles["binary"], variant=b"native-fp32")
    with open_bundle(bundles["binary"]) as bundle:
        for golden in bundle.manifest.golden:
            pixels, logits = (np.load(io.BytesIO(bundle.view(name))) for name in (golden.pixels, golden.outputs["logits"]))
            found = session.predict(pixels)
            assert np.abs(found["logits"][0] - logits).max() < 1e-3, golden.name


def test_a_description_says_what_the_bundle_says(edgefm_c, bundles):
    session = edgefm_c.open(bundles["binary"])
    about = session.about
    with open_bundle(bundles["binary"]) as bundle:
        assert about.id.decode() == bundle.id
    assert (about.name, about.variant, about.refused) == (b"class token", b"native-int8", None)
    assert [about.labels[k].decode() for k in range(about.labels_count)] == ["normal", "größer"]
    assert (about.task, about.thresholds[0], about.temperature) == (0, 0.4, 1.5)
    assert (about.channels, about.size, about.heat_side, about.embedding_size) == (3, 64, 4, 96)
    assert (about.window_low, about.window_high) == (0.0, 65535.0)
    session = edgefm_c.open(bundles["embedding"], variant=b"native-fp32")
    about = session.about
    assert (about.task, about.labels_count, bool(about.thresholds), about.variant) == (3, 0, False, b"native-fp32")


def test_path_memory_batch_threads_and_repetition_change_no_bit(edgefm_c, bundles):
    path = bundles["multiclass"]
    alone = [edgefm_c.open(path, threads=1).predict(picture) for picture in pictures()]
    data = path.read_bytes()
    sessions = [edgefm_c.open(path, threads=threads, images=images) for threads in (1, 2, 5) for images in (1, 3, 4)]
    sessions += [edgefm_c.open(data, threads=2), edgefm_c.open(data, offset=1), edgefm_c.open(data, offset=32)]
    for session in sessions:
        for _ in range(2):
            together = session.predict(*pictures())
            for output, rows in together.items():
                for row, one in zip(rows, alone, strict=True):
                    assert row.tobytes() == one[output][0].tobytes(), output


def test_only_what_is_wanted_is_written(edgefm_c, bundles):
    session = edgefm_c.open(bundles["binary"])
    everything = session.predict(*pictures())
    for name in everything:
        (only,) = session.predict(*pictures(), wanted=(name,)).values()
        assert only.tobytes() == everything[name].tobytes()
    assert session.predict(*pictures(), wanted=()) == {}
    edgefm_c.call("predict", session.handle, None, c_size_t(0), byref(Outputs()))


def test_rows_may_lie_apart_or_upside_down(edgefm_c, bundles):
    session = edgefm_c.open(bundles["binary"])
    whole = np.random.default_rng(0).integers(0, 65536, (200, 300, 3), dtype=np.uint16)
    for view in (whole[::-1], whole[::3], whole[10:150, 20:151], whole[::-2, 5:100]):
        packed = np.ascontiguousarray(view)
        expected = session.predict(packed)["logits"]
        assert session.predict(view)["logits"].tobytes() == expected.tobytes()
    image = image_of(packed)
    image.stride = 0
    logits = np.zeros(2, np.float32)
    outputs = Outputs(logits=logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    edgefm_c.call("predict", session.handle, byref(image), c_size_t(1), byref(outputs))
    assert logits.tobytes() == expected.tobytes()


def test_several_threads_on_one_session_and_on_several_get_the_same_bits(edgefm_c, bundles):
    shared, own = edgefm_c.open(bundles["binary"], threads=2), [edgefm_c.open(bundles["binary"], threads=1) for _ in range(4)]
    expected = [shared.predict(*pictures(seed)) for seed in range(4)]

    def work(number: int) -> bool:
        session = shared if number % 2 else own[number % 4]
        found = session.predict(*pictures(number % 4))
        return all(found[name].tobytes() == rows.tobytes() for name, rows in expected[number % 4].items())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_the_library_says_which_it_is(edgefm_c, root):
    header = (root / "csrc" / "include" / "edgefm.h").read_text()
    assert f'#define EDGEFM_VERSION "{edgefm.__version__}"' in header
    assert edgefm_c.functions.edgefm_version().decode() == edgefm.__version__
    assert f"#define EDGEFM_ABI {edgefm_c.functions.edgefm_abi()} " in header


def test_the_library_shows_nothing_but_its_interface_and_is_small(library, root):
    path = (library / "libedgefm.so").resolve()
    assert path.stat().st_size <= 1 << 20
    if shutil.which("nm") is None:
        pytest.skip("no nm here")
    lines = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout.splitlines()
    shown = {line.split()[2].partition("@")[0] for line in lines if line.split()[1] != "A"}
    header = (root / "csrc" / "include" / "edgefm.h").read_text()
    declared = {line.partition("(")[0].split()[-1].lstrip("*") for line in header.splitlines() if line.startswith("EDGEFM_API")}
    assert shown == declared
    assert len(shown) == 8

"""What the C interface refuses, each with its number and a sentence; structs of programs older and newer than it."""

from __future__ import annotations

import ctypes
import io
from ctypes import byref, c_size_t, c_void_p, sizeof
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from edgefm.bundle import open_bundle
from edgefm.export.golden import npy

from ..bundle.forge import forge, manifest_of
from ..bundle.make_format1 import FIXTURE
from . import capi
from .bundles import BINARY, MULTICLASS, TASKS, pictures, rewrite, write_native
from .capi import Description, Error, Failed, Image, Options, Outputs, image_of


def fails(status: int, work, match: str | None = None) -> None:
    with pytest.raises(Failed, match=match) as caught:
        work()
    assert caught.value.status == status


def test_what_is_no_bundle_has_a_number_and_a_reason(edgefm_c, bundles, tmp_path):
    damaged = bytearray(bundles["binary"].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    fails(capi.FILE, lambda: edgefm_c.open(tmp_path / "nowhere.efm"), r"nowhere\.efm does not exist")
    fails(capi.FILE, lambda: edgefm_c.open(tmp_path), "is a folder")
    fails(capi.BUNDLE, lambda: edgefm_c.open(b"x"), "no EdgeFM bundle")
    fails(capi.BUNDLE, lambda: edgefm_c.open(bytes(damaged)), "has been changed between the bytes")
    fails(capi.NEWER, lambda: edgefm_c.open(forge(manifest_of(format=2))), "upgrade EdgeFM")
    fails(capi.VARIANT, lambda: edgefm_c.open(FIXTURE), "it holds onnx-fp32, openvino-int8")
    fails(capi.VARIANT, lambda: edgefm_c.open(bundles["binary"], variant=b"openvino-int8"), "no variant openvino-int8")


def test_without_int8_fp32_runs(edgefm_c, tmp_path):
    write_native(tmp_path / "fp32.efm", "class token", BINARY, precisions=("fp32",))
    assert edgefm_c.open(tmp_path / "fp32.efm").about.variant == b"native-fp32"
    fails(capi.VARIANT, lambda: edgefm_c.open(tmp_path / "fp32.efm", variant=b"native-int8"))


def test_a_refused_bundle_is_opened_only_where_that_is_allowed(edgefm_c, tmp_path):
    write_native(tmp_path / "refused.efm", "class token", BINARY, refused="3 % of decisions flipped")
    fails(capi.REFUSED, lambda: edgefm_c.open(tmp_path / "refused.efm"), "marked as refused: 3 % of decisions flipped")
    session = edgefm_c.open(tmp_path / "refused.efm", allow_refused=1)
    assert session.about.refused == b"3 % of decisions flipped"
    assert session.predict(pictures()[0])["decisions"].sum() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "empty"),
        ({"height": -1}, "empty"),
        ({"width": 2**40}, "longer"),
        ({"height": 2**62}, "longer"),
        ({"channels": 2}, "channels"),
        ({"channels": 0, "stride": 0}, "channels"),
        ({"channels": 2**30, "stride": 0}, "channels"),
        ({"bits": 12}, "bits"),
        ({"bits": 0, "stride": 0}, "bits"),
        ({"stride": 29}, "overlap"),
        ({"stride": -29}, "overlap"),
        ({"stride": 2**60}, "too far apart"),
        ({"stride": -(2**63)}, "too far apart"),
    ],
    ids=str,
)
def test_pixels_that_cannot_be_prepared_are_refused(edgefm_c, bundles, change, reason):
    session = edgefm_c.open(bundles["binary"])
    picture = np.zeros((20, 30), np.uint8)
    images = (Image * 2)(image_of(picture), image_of(picture))
    for field, value in change.items():
        setattr(images[1], field, value)
    fails(
        capi.IMAGE,
        lambda: edgefm_c.call("predict", session.handle, images, c_size_t(2), byref(Outputs())),
        f"image 1: .*({reason})",
    )


def test_null_pointers_and_numbers_out_of_range_are_arguments(edgefm_c, bundles):
    session, handle, path = edgefm_c.open(bundles["binary"]), c_void_p(), str(bundles["binary"]).encode()
    picture = image_of(np.zeros((20, 30), np.uint8))
    one = c_size_t(1)
    for name, *arguments in (
        ("open", None, None, byref(handle)),
        ("open", path, None, None),
        ("open_memory", None, c_size_t(100), None, byref(handle)),
        ("open", path, byref(Options(threads=-1)), byref(handle)),
        ("open", path, byref(Options(threads=257)), byref(handle)),
        ("open", path, byref(Options(images=-1)), byref(handle)),
        ("open", path, byref(Options(images=4097)), byref(handle)),
        ("describe", None, byref(Description())),
        ("describe", session.handle, None),
        ("check", None),
        ("predict", None, byref(picture), one, byref(Outputs())),
        ("predict", session.handle, None, one, byref(Outputs())),
        ("predict", session.handle, byref(picture), one, None),
        ("predict", session.handle, byref(picture), c_size_t(2**63), byref(Outputs())),
        ("predict", session.handle, byref(Image(width=30, height=20, channels=1, bits=8)), one, byref(Outputs())),
    ):
        fails(capi.ARGUMENT, lambda name=name, arguments=arguments: edgefm_c.call(name, *arguments))
    edgefm_c.functions.edgefm_close(None)
    assert edgefm_c.functions.edgefm_open(b"/nowhere", None, byref(handle), None) == capi.FILE, "without an error struct"


def test_what_a_model_lacks_cannot_be_asked_for(edgefm_c, bundles, tmp_path):
    write_native(tmp_path / "mean.efm", "no class token, mean, fc_norm", MULTICLASS, precisions=("int8",))
    fails(
        capi.ARGUMENT, lambda: edgefm_c.open(tmp_path / "mean.efm").predict(pictures()[0], wanted=("heat",)), "no class token"
    )
    for name in ("logits", "probabilities", "decisions"):
        session = edgefm_c.open(bundles["embedding"])
        fails(capi.ARGUMENT, lambda name=name, session=session: session.predict(pictures()[0], wanted=(name,)), "embedding")


@pytest.mark.parametrize("kind", [Options, Description, Image, Outputs])
def test_a_struct_of_a_newer_program_is_taken_unless_it_wants_what_is_unknown(edgefm_c, bundles, kind):
    session = edgefm_c.open(bundles["binary"])

    def call(struct) -> None:
        handle, path = c_void_p(), str(bundles["binary"]).encode()
        if kind is Options:
            edgefm_c.call("open", path, byref(struct), byref(handle))
            edgefm_c.functions.edgefm_close(handle)
        elif kind is Description:
            edgefm_c.call("describe", session.handle, byref(struct))
        else:
            image, outputs = (struct, Outputs()) if kind is Image else (image_of(np.zeros((20, 30), np.uint8)), struct)
            edgefm_c.call("predict", session.handle, byref(image), c_size_t(1), byref(outputs))

    class Larger(ctypes.Structure):
        _fields_ = [("known", kind), ("more", ctypes.c_uint64)]

    larger = Larger(known=image_of(np.zeros((20, 30), np.uint8)) if kind is Image else kind())
    larger.known.struct_size = sizeof(Larger)
    call(larger)
    assert larger.more == 0
    larger.more = 1
    if kind is Description:
        call(larger)
        assert (larger.more, larger.known.struct_size) == (1, sizeof(Larger)), "what is unknown is left alone"
    else:
        fails(capi.ARGUMENT, lambda: call(larger), "use a newer one")
    for size in (0, 7, sizeof(kind) - 1, sizeof(kind) + 1, sizeof(kind) + 4, 2**63):
        larger.known.struct_size = size
        if not (kind is Description and size > sizeof(kind)):
            fails(capi.ARGUMENT, lambda: call(larger), "struct_size")


def test_images_of_a_newer_program_lie_further_apart(edgefm_c, bundles):
    session = edgefm_c.open(bundles["binary"])

    class Larger(ctypes.Structure):
        _fields_ = [("known", Image), ("more", ctypes.c_uint64)]

    first, second = pictures()[:2]
    images = (Larger * 2)(Larger(image_of(first)), Larger(image_of(second)))
    for image in images:
        image.known.struct_size = sizeof(Larger)
    logits = np.zeros((2, 2), np.float32)
    outputs = Outputs(logits=logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    edgefm_c.call("predict", session.handle, images, c_size_t(2), byref(outputs))
    assert logits.tobytes() == session.predict(first, second)["logits"].tobytes()


def test_an_error_struct_of_another_size_is_left_alone(edgefm_c):
    for size in (0, 8, sizeof(Error) - 1):
        error = Error(status=5)
        error.struct_size = size
        assert edgefm_c.functions.edgefm_describe(None, None, byref(error)) == capi.ARGUMENT
        assert (error.status, error.message) == (5, b"")


def test_a_long_message_is_cut_at_the_end_of_a_character(edgefm_c, tmp_path):
    for shift in range(3):
        with pytest.raises(Failed) as caught:
            edgefm_c.open(tmp_path / ("x" * shift + "/ö" * 400))
        assert 480 < len(caught.value.message.encode()) < 500


def test_a_path_that_is_no_text_is_named_as_far_as_it_goes(edgefm_c):
    error = Error()
    status = edgefm_c.functions.edgefm_open(b"/\x80" + b"\x80" * 700, None, byref(c_void_p()), byref(error))
    assert status == capi.FILE
    assert len(error.message) > 480


def test_an_unknown_word_is_cut_at_the_end_of_a_character(edgefm_c, bundles):
    with pytest.raises(Failed, match="no variant x") as caught:
        edgefm_c.open(bundles["binary"], variant=b"x" + "ö".encode() * 40)
    assert caught.value.message.count("ö") == 19


MEMBER = "variants/native-fp32/encoder.bin"


def with_weights(path: Path, source: Path, change) -> Path:
    """The bundle with its fp32 weights, unsigned 8-bit, changed in place."""
    with open_bundle(source) as bundle:
        weights = np.frombuffer(bundle.view(MEMBER), np.uint8).copy()
    change(weights)
    return rewrite(path, source, {MEMBER: weights.tobytes()})


def test_an_answer_that_is_not_finite_is_an_error(edgefm_c, bundles, tmp_path):
    def spoil(weights: np.ndarray) -> None:  # the head's bias is the last tensor
        weights[-64:-56].view(np.float32)[:] = np.nan, np.inf

    session = edgefm_c.open(with_weights(tmp_path / "nan.efm", bundles["binary"], spoil), variant=b"native-fp32")
    fails(capi.ANSWER, lambda: session.predict(pictures()[0]), "logits are not finite")
    fails(capi.ANSWER, lambda: session.predict(pictures()[0], wanted=()))


def test_a_heat_map_that_is_not_finite_is_an_error_where_nothing_else_is_wanted(edgefm_c, bundles, tmp_path):
    def spoil(weights: np.ndarray) -> None:  # the class token is the first tensor
        weights[:4].view(np.float32)[:] = np.nan

    session = edgefm_c.open(with_weights(tmp_path / "nan.efm", bundles["embedding"], spoil), variant=b"native-fp32")
    fails(capi.ANSWER, lambda: session.predict(pictures()[0], wanted=("heat",)), "heat map's values are not finite")
    fails(capi.ANSWER, lambda: session.predict(pictures()[0], wanted=("embedding",)), "embedding's values are not finite")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_temperature_that_makes_no_probabilities_makes_no_decision(edgefm_c, bundles, tmp_path, kind):
    task = structs.replace(TASKS[kind], temperature=1e-320)
    session = edgefm_c.open(rewrite(tmp_path / "cold.efm", bundles[kind], task=task))
    if kind == "multilabel":
        assert set(session.predict(pictures()[0])["probabilities"].ravel()) <= {0, 1}, "the sigmoid's limits"
        return
    for wanted in ((), ("logits",), ("decisions",)):
        fails(capi.ANSWER, lambda wanted=wanted: session.predict(pictures()[0], wanted=wanted), "probabilities are not finite")


@pytest.mark.parametrize(
    ("output", "variant"), [("logits", b"native-int8"), ("embedding", b"native-int8"), ("logits", b"native-fp32")]
)
def test_check_refuses_a_machine_that_computes_something_else(edgefm_c, bundles, tmp_path, output, variant):
    with open_bundle(bundles["binary"]) as bundle:
        golden = bundle.manifest.golden[3]
        member = golden.outputs[output]
        values = np.load(io.BytesIO(bundle.view(member)))
    rewrite(tmp_path / "other.efm", bundles["binary"], {member: npy(-values)})
    session = edgefm_c.open(tmp_path / "other.efm", variant=variant)
    reason = f"{output} off by .* for the golden input {golden.name}"
    fails(capi.GOLDEN, lambda: edgefm_c.call("check", session.handle), reason)
    for array in (np.zeros(7, np.float32), np.zeros(2, np.float64)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        rewrite(tmp_path / "other.efm", bundles["binary"], {member: buffer.getvalue()})
        session = edgefm_c.open(tmp_path / "other.efm", variant=variant)
        fails(capi.BUNDLE, lambda session=session: edgefm_c.call("check", session.handle))

"""edgefm_check: what a bundle's golden outputs hold the machine to, and what is no check at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.bundle import open_bundle
from edgefm.export.golden import npy

from . import capi
from .bundles import rewrite
from .capi import Failed


def check(edgefm_c, path: Path, variant: bytes = b"native-int8") -> int:
    """The status of edgefm_check."""
    session = edgefm_c.open(path, variant=variant)
    try:
        edgefm_c.call("check", session.handle)
    except Failed as failed:
        return failed.status
    return capi.OK


@pytest.fixture(scope="module")
def answers(edgefm_c, bundles) -> list[dict[str, np.ndarray]]:
    """What native int8 answers to the golden inputs of the binary bundle."""
    session = edgefm_c.open(bundles["binary"])
    with open_bundle(bundles["binary"]) as bundle:
        pixels = [np.load(io.BytesIO(bundle.view(golden.pixels))) for golden in bundle.manifest.golden]
    found = [session.predict(each) for each in pixels]
    return [{name: rows[name][0] for name in ("logits", "embedding")} for rows in found]


def with_outputs(path: Path, source: Path, outputs: dict[str, list[dict[str, np.ndarray]]]) -> Path:
    """The bundle with more outputs of its golden inputs, under these words."""
    with open_bundle(source) as bundle:
        listed, entries = [], {}
        for index, golden in enumerate(bundle.manifest.golden):
            more = {f"{word}.{name}": values for word, rows in outputs.items() for name, values in rows[index].items()}
            members = {name: f"golden/{golden.name}.{name}.npy" for name in more}
            entries.update({members[name]: npy(values) for name, values in more.items()})
            listed.append(replace(golden, outputs={**golden.outputs, **members}))
    return rewrite(path, source, entries, golden=tuple(listed))


def other(answers: list[dict[str, np.ndarray]], change) -> list[dict[str, np.ndarray]]:
    return [{name: change(values) for name, values in each.items()} for each in answers]


def test_native_int8_is_held_to_its_own_outputs_and_not_to_another_engines_graph(edgefm_c, bundles, answers, tmp_path):
    right, wrong = answers, other(answers, np.negative)
    for outputs, status in (
        ({"int8": wrong, "native-int8": right}, capi.OK),
        ({"int8": right, "native-int8": wrong}, capi.GOLDEN),
        ({"int8": wrong}, capi.OK),
        ({"native-int8": right}, capi.OK),
        ({"native-int8": wrong}, capi.GOLDEN),
        ({"native-fp32": wrong}, capi.OK),
    ):
        path = with_outputs(tmp_path / "both.efm", bundles["binary"], outputs)
        assert check(edgefm_c, path) == status, list(outputs)
        assert check(edgefm_c, path, b"native-fp32") == (capi.GOLDEN if "native-fp32" in outputs else capi.OK)


def test_own_outputs_are_held_closer_than_the_fp32_models(edgefm_c, bundles, answers, tmp_path):
    noise = np.random.default_rng(0).normal(size=96).astype(np.float32)

    def aside(embedding: np.ndarray) -> np.ndarray:  # a cosine of 0.95: between the two bounds
        across = noise - embedding * (noise @ embedding) / (embedding @ embedding)
        return embedding + across * 0.33 * np.linalg.norm(embedding) / np.linalg.norm(across)

    moved = [{"embedding": aside(each["embedding"])} for each in answers]
    assert check(edgefm_c, with_outputs(tmp_path / "own.efm", bundles["binary"], {"native-int8": moved})) == capi.GOLDEN
    with open_bundle(bundles["binary"]) as bundle:
        members = [golden.outputs["embedding"] for golden in bundle.manifest.golden]
    entries = {member: npy(each["embedding"]) for member, each in zip(members, moved, strict=True)}
    assert check(edgefm_c, rewrite(tmp_path / "model.efm", bundles["binary"], entries)) == capi.OK


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("output", ["logits", "embedding"])
@pytest.mark.parametrize("variant", [b"native-int8", b"native-fp32"])
def test_expected_values_that_are_not_finite_are_a_bad_bundle(edgefm_c, bundles, tmp_path, bad, at, output, variant):
    with open_bundle(bundles["binary"]) as bundle:
        member = bundle.manifest.golden[0].outputs[output]
        values = np.load(io.BytesIO(bundle.view(member)))
    values[at] = bad
    assert check(edgefm_c, rewrite(tmp_path / "bad.efm", bundles["binary"], {member: npy(values)}), variant) == capi.BUNDLE


def test_nothing_to_compare_with_is_no_success(edgefm_c, bundles, tmp_path):
    with open_bundle(bundles["embedding"]) as bundle:
        golden = bundle.manifest.golden
    assert check(edgefm_c, bundles["embedding"]) == capi.OK
    only_prepared = [replace(each, outputs={k: v for k, v in each.outputs.items() if k == "prepared"}) for each in golden]
    others = [replace(each, outputs={"int8.embedding": each.outputs["embedding"]}) for each in golden]
    for listed in ((), only_prepared, others):
        path = rewrite(tmp_path / "nothing.efm", bundles["embedding"], golden=tuple(listed))
        assert check(edgefm_c, path) == capi.GOLDEN
    one = [*only_prepared[:-1], golden[-1]]
    assert check(edgefm_c, rewrite(tmp_path / "one.efm", bundles["embedding"], golden=tuple(one))) == capi.OK


def array(shape: str, data: bytes = b"") -> bytes:
    """An .npy file that states any shape."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


@pytest.mark.parametrize(
    "shape",
    [
        "0, 9000000000000000000, 4", "9000000000000000000, 0, 4", "0, 1099511627776, 1099511627776", "0, 4611686018427387904",
        "4, 0, 9223372036854775807", "0, 0", "0,", "1, 2, 5", "1, 2, 1, 1",
    ],
)  # fmt: skip
def test_golden_pixels_of_any_stated_shape_are_refused_without_overflow(edgefm_c, bundles, tmp_path, shape):
    with open_bundle(bundles["binary"]) as bundle:
        member = bundle.manifest.golden[0].pixels
    data = bytes(10 if shape == "1, 2, 5" else 2 if shape == "1, 2, 1, 1" else 0)
    path = rewrite(tmp_path / "shape.efm", bundles["binary"], {member: array(shape, data)})
    assert check(edgefm_c, path) == capi.BUNDLE

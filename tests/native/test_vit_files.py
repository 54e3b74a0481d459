"""What the encoder refuses of its files: fields, tensors, offsets and codes that are not as docs/native-format.md has them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

_native = pytest.importorskip("edgefm._native")
pytest.importorskip("timm")

from edgefm.export.native_bounds import BOUNDS, out_of_bounds  # noqa: E402

from .vits import aligned, files, make  # noqa: E402


@pytest.fixture(scope="module")
def written() -> tuple[dict[str, Any], np.ndarray]:
    description, weights = files(make("registers, LayerScale"), "int8")
    return json.loads(description), weights


def opened(document: Any, weights: np.ndarray) -> Any:
    return _native.Encoder(json.dumps(document).encode(), weights, threads=1, images=1)


WRONG: dict[str, list[Any]] = {
    "activation": ["relu", 1, None],
    "channels": [0, 2, 5, -3, 3.0, True, 2**40],
    "class_token": [False, 1],
    "classes": [-1, 0, 17, 2**30],
    "depth": [0, 1, 3, 2**31],
    "eps": [0, -1e-6, 2, "1e-6", 1e-50, 1e300],
    "final_norm": ["none", ""],
    "head_width": [0, 8, 24, 33, 40, 256],
    "heads": [0, 1, 4, 10**6],
    "hidden": [0, 380, 10**9],
    "patch": [0, 7, 71, 10**9],
    "patch_precision": ["fp32", "int4"],
    "pooling": ["mean token", "class+mean"],
    "pre_norm": [True, 0],
    "precision": ["fp32", "int4"],
    "prefix": [0, 4, 6, -1],
    "projection": [96, -1],
    "qk_norm": [True],
    "size": [0, 13, 84, 10**6, 2**62],
    "width": [0, 95, 128, 2**31 - 1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_each_field_of_the_architecture_is_held_to_its_bounds(
    written: tuple[dict[str, Any], np.ndarray], field: str, value: Any
) -> None:
    document, weights = written
    opened(document, weights)
    assert document["architecture"].keys() == WRONG.keys()
    with pytest.raises(ValueError, match=r"\w"):
        opened({**document, "architecture": {**document["architecture"], field: value}}, weights)
    without = {key: each for key, each in document["architecture"].items() if key != field}
    for architecture in (without, {**without, "another": value}):
        with pytest.raises(ValueError, match=rf"{field}|fields"):
            opened({**document, "architecture": architecture}, weights)


@pytest.mark.parametrize("field", BOUNDS)
def test_the_exporter_knows_the_bounds_of_the_reader(written: tuple[dict[str, Any], np.ndarray], field: str) -> None:
    document, weights = written
    least, most = BOUNDS[field]
    for value in (least - 1, least, most, most + 1):
        architecture = {**document["architecture"], field: value}
        said = ""
        try:
            opened({**document, "architecture": architecture}, weights)
        except ValueError as error:
            said = str(error)
        outside = not least <= value <= most
        assert (said == f"encoder.json: {field} is {value}; expected {least} to {most}") == outside
        assert (out_of_bounds({field: value}) == (f"{field} is {value}", f"{least} to {most}")) == outside


@pytest.mark.parametrize("change", [{"format": 2}, {"format": 0}, {"more": 1}, {"tensors": {}}, {"architecture": []}])
def test_the_document_is_refused_as_a_whole(written: tuple[dict[str, Any], np.ndarray], change: dict[str, Any]) -> None:
    document, weights = written
    with pytest.raises(ValueError):
        opened({**document, **change}, weights)


@pytest.mark.parametrize("change", [
    {"offset": -64}, {"offset": 32}, {"offset": 2**62}, {"offset": 0.0}, {"shape": [1]}, {"shape": [2**62, 4]}, {"shape": 3},
    {"dtype": "float64"}, {"dtype": 1}, {"name": "layers.9.fc1.weight"}, {"more": 1},
])  # fmt: skip
def test_each_tensor_is_held_to_its_type_shape_and_place(
    written: tuple[dict[str, Any], np.ndarray], change: dict[str, Any]
) -> None:
    document, weights = written
    for index in range(len(document["tensors"])):
        tensors = [*document["tensors"]]
        tensors[index] = {**tensors[index], **change}
        with pytest.raises(ValueError):
            opened({**document, "tensors": tensors}, weights)


def test_a_missing_a_repeated_and_an_unknown_tensor_are_refused(written: tuple[dict[str, Any], np.ndarray]) -> None:
    document, weights = written
    tensors = document["tensors"]
    for index in range(len(tensors)):
        with pytest.raises(ValueError, match="is missing"):
            opened({**document, "tensors": tensors[:index] + tensors[index + 1 :]}, weights)
    with pytest.raises(ValueError, match="twice"):
        opened({**document, "tensors": [*tensors, tensors[0]]}, weights)
    with pytest.raises(ValueError, match="belongs to no layer"):
        opened({**document, "tensors": [*tensors, {**tensors[0], "name": "surplus"}]}, weights)


@pytest.mark.parametrize("first", ["", "x"])
def test_a_long_name_is_cut_between_characters(written: tuple[dict[str, Any], np.ndarray], first: str) -> None:
    document, weights = written
    name = first + "ä" * 50
    with pytest.raises(ValueError, match=rf'activation is "{first}ä{{{19 if first else 20}}}"; expected one of gelu'):
        opened({**document, "architecture": {**document["architecture"], "activation": name}}, weights)
    with pytest.raises(ValueError, match=rf"tensor {first}ä{{{39 if first else 40}}} belongs to no layer"):
        opened({**document, "tensors": [*document["tensors"], {**document["tensors"][0], "name": name}]}, weights)
    wrong = [{**document["tensors"][0], "dtype": name}, *document["tensors"][1:]]
    with pytest.raises(ValueError, match=rf" is {first}ä{{{19 if first else 20}}}; expected"):
        opened({**document, "tensors": wrong}, weights)


def test_tensors_that_share_bytes_are_refused(written: tuple[dict[str, Any], np.ndarray]) -> None:
    document, weights = written
    tensors = document["tensors"]
    for index in range(1, len(tensors)):
        moved = {**tensors[index], "offset": tensors[index]["offset"] - 64}  # into the end of the one before
        with pytest.raises(ValueError, match="shares bytes with"):
            opened({**document, "tensors": [*tensors[:index], moved, *tensors[index + 1 :]]}, weights)
    place = {each["name"]: each["offset"] for each in tensors}
    twice = [{**each, "offset": place[each["name"].replace("layers.1", "layers.0")]} for each in tensors]
    with pytest.raises(ValueError, match="shares bytes with"):
        opened({**document, "tensors": twice}, weights)


def parts(document: Any, weights: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A copy of the weights, and its tensors by their names."""
    copy, found = aligned(weights.tobytes()), {}
    for each in document["tensors"]:
        size = int(np.prod(each["shape"])) * np.dtype(each["dtype"]).itemsize
        found[each["name"]] = copy[each["offset"] : each["offset"] + size].view(each["dtype"]).reshape(each["shape"])
    return copy, found


def test_a_sum_that_is_not_that_of_its_codes_is_refused_in_every_layer(written: tuple[dict[str, Any], np.ndarray]) -> None:
    """Some processors compute with the sums and some do not: they would answer differently."""
    document, weights = written
    names = [each["name"].removesuffix(".sum") for each in document["tensors"] if each["name"].endswith(".sum")]
    assert len(names) == 1 + 4 * 2
    for name in names:
        for part, place in (("sum", (0,)), ("sum", (-1,)), ("weight", (0, 0, 0, 0)), ("weight", (-1, -1, -1, -1))):
            copy, found = parts(document, weights)
            value = int(found[f"{name}.{part}"][place])
            found[f"{name}.{part}"][place] = value - 1 if value > 0 else value + 1
            with pytest.raises(ValueError, match=rf"tensor {name}\.weight adds up to .* in column \d+; expected"):
                opened(document, copy)


@pytest.mark.parametrize(("kind", "name", "place", "value", "match"), [
    ("patches of 225 values", "layers.1.fc1", (3, 5, 7, 2), -128, "has a code of -128"),
    ("patches of 225 values", "patch", (0, -1, 15, 3), 1, "has codes behind its last input"),
    ("patches of 225 values", "patch", (-1, -1, 0, 1), -1, "has codes behind its last input"),
    ("a width that is no multiple of 16", "layers.0.proj", (-1, 0, 8, 0), 5, "has codes behind its last input"),
    ("a width that is no multiple of 16", "layers.1.fc2", (-1, -1, 15, 3), 5, "has codes behind its last input"),
])  # fmt: skip
def test_codes_that_no_writer_makes_are_refused_though_their_sum_is_right(
    kind: str, name: str, place: tuple[int, ...], value: int, match: str
) -> None:
    description, weights = files(make(kind), "int8")
    document = json.loads(description)
    copy, found = parts(document, weights)
    opened(document, copy)
    found[f"{name}.weight"][place] = value
    found[f"{name}.sum"][:] = found[f"{name}.weight"].sum(axis=(1, 3), dtype=np.int32).ravel()
    with pytest.raises(ValueError, match=rf"encoder.bin: tensor {name}\.weight {match}"):
        opened(document, copy)


def test_truncated_weights_are_refused_at_every_tensor(written: tuple[dict[str, Any], np.ndarray]) -> None:
    document, weights = written
    ends = sorted({each["offset"] for each in document["tensors"]} | {0, 1, len(weights) - 1})
    for end in ends:
        with pytest.raises(ValueError, match=r"begins at|64 bytes"):
            opened(document, aligned(weights[:end].tobytes()))


def test_weights_that_are_not_aligned_are_refused(written: tuple[dict[str, Any], np.ndarray]) -> None:
    document, weights = written
    shifted = aligned(b"\0" * 8 + weights.tobytes())[8:]
    with pytest.raises(ValueError, match="64 bytes"):
        opened(document, shifted)


def test_a_cut_description_is_refused_at_every_byte() -> None:
    description, weights = files(make("class token"), "int8")
    for end in (*range(0, len(description), 97), len(description) - 1):
        with pytest.raises(ValueError):
            _native.Encoder(description[:end], weights, threads=1, images=1)


def test_a_description_of_more_than_a_mebibyte_is_refused(written: tuple[dict[str, Any], np.ndarray]) -> None:
    document, weights = written
    text = json.dumps(document).encode()
    _native.Encoder(text + b" " * ((1 << 20) - len(text)), weights, threads=1, images=1)
    with pytest.raises(ValueError, match="1048577 bytes; expected at most 1048576"):
        _native.Encoder(text + b" " * ((1 << 20) + 1 - len(text)), weights, threads=1, images=1)

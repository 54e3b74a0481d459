"""Manifests, tasks and preprocessing that an attacker forges, every hash right: the C++ reader says what Python's says."""

from __future__ import annotations

import json

import msgspec
import pytest

from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Conformal, Task

from ..bundle.forge import MEMBERS, forge, manifest_of
from ..bundle.make_format1 import PREPROCESS
from .test_bundle import agree

TASKS = [
    (Task(kind="embedding"), True),
    (Task(kind="multiclass", labels=("a", "b", "c"), conformal=Conformal(coverage=0.9, quantile=0.25)), True),
    (Task(kind="multilabel", labels=('"\\/ \x80\u2028\U0001f600',), thresholds=(1.0,), temperature=3.0), True),
    *((Task(kind="multilabel", labels=(f"a{c}b",), thresholds=(1.0,)), False) for c in "\0\x01\t\n\x1f\x7f"),
]


@pytest.mark.parametrize(("task", "good"), TASKS, ids=lambda value: getattr(value, "kind", ""))
def test_tasks_are_judged_alike(probe, task, good):
    members = {**MEMBERS, "labels.json": msgspec.json.encode(task.labels)}
    assert agree(probe, forge(manifest_of(members, task=task), list(members.items()))) == good


def changed(change) -> bytes:
    """The manifest with a change made to its JSON, written canonically."""
    value = json.loads(manifest_of())
    change(value)
    return msgspec.json.encode(value, order="sorted")


CHANGES = {
    "an unknown field": lambda m: m.update(new=1),
    "an unknown field of the task": lambda m: m["task"].update(new=1),
    "an unknown field of a variant": lambda m: m["variants"][0].update(new=1),
    "an unknown field of a graph": lambda m: m["variants"][0]["graphs"]["encoder"].update(new=1),
    "an unknown field of a tensor": lambda m: m["variants"][0]["graphs"]["encoder"]["inputs"][0].update(new=1),
    "an unknown field of an entry": lambda m: m["entries"]["card.md"].update(new=1),
    "an unknown field of an ancestor": lambda m: m["lineage"][0].update(new=1),
    "an unknown field of a golden input": lambda m: m["golden"][0].update(new=1),
    "a name with a zero": lambda m: m.update(name="tiny\0"),
    "a name with a line break": lambda m: m.update(name="tiny\n"),
    "refused with a zero": lambda m: m.update(refused="\0why"),
    "refused with an escape": lambda m: m.update(refused="a\x1b[2Jb"),
    "no name": lambda m: m.pop("name"),
    "no edgefm": lambda m: m.pop("edgefm"),
    "no task": lambda m: m.pop("task"),
    "no format": lambda m: m.pop("format"),
    "format 0": lambda m: m.update(format=0),
    "format 2": lambda m: m.update(format=2),
    "format 1.0": lambda m: m.update(format=1.0),
    "format true": lambda m: m.update(format=True),
    "format text": lambda m: m.update(format="1"),
    "no variants": lambda m: m.pop("variants"),
    "empty variants": lambda m: m.update(variants=[]),
    "a variant twice": lambda m: m["variants"].append(m["variants"][0]),
    "a variant of another name": lambda m: m["variants"][0].update(name="onnx-int8"),
    "a variant of an unknown engine": lambda m: m["variants"][0].update(engine="tflite", name="tflite-fp32"),
    "a variant of an unknown precision": lambda m: m["variants"][0].update(precision="int4", name="onnx-int4"),
    "a variant without graphs": lambda m: m["variants"][0].update(graphs={}),
    "a graph without files": lambda m: m["variants"][0]["graphs"]["encoder"].update(files=[]),
    "a graph with an absent file": lambda m: m["variants"][0]["graphs"]["encoder"].update(files=["variants/onnx-fp32/none"]),
    "a graph with a golden file": lambda m: m["variants"][0]["graphs"]["encoder"].update(files=["golden/dot.npy"]),
    "a graph with another variant's file": lambda m: m["variants"][0]["graphs"]["encoder"].update(
        files=["variants/openvino-int8/encoder.xml"]
    ),
    "a float16 tensor": lambda m: m["variants"][0]["graphs"]["encoder"]["inputs"][0].update(dtype="float16"),
    "a tensor without dtype": lambda m: m["variants"][0]["graphs"]["encoder"]["inputs"][0].pop("dtype"),
    "a shape of a float": lambda m: m["variants"][0]["graphs"]["encoder"]["inputs"][0].update(shape=[1.5]),
    "a variant's accuracy as text": lambda m: m["variants"][0].update(accuracy={"auc": "high"}),
    "a variant's accuracy as an integer": lambda m: m["variants"][0].update(accuracy={"auc": 1}),
    "a variant's accuracy null": lambda m: m["variants"][0].update(accuracy=None),
    "flips null": lambda m: m["variants"][0].update(flips=None),
    "flips text": lambda m: m["variants"][0].update(flips="few"),
    "bf16 as a number": lambda m: m["variants"][0].update(bf16=1),
    "bf16 true": lambda m: m["variants"][0].update(bf16=True),
    "no optional fields": lambda m: [m.pop(key) for key in ("golden", "lineage", "recipe", "versions", "refused")],
    "golden null": lambda m: m.update(golden=None),
    "a golden input without a file": lambda m: m["golden"][0].update(pixels="golden/none.npy"),
    "a golden output in a variant": lambda m: m["golden"][0].update(outputs={"logits": "variants/onnx-fp32/encoder.onnx"}),
    "a golden input without outputs": lambda m: m["golden"][0].update(outputs={}),
    "an ancestor's unknown role": lambda m: m["lineage"][0].update(role="cousin"),
    "an ancestor without licence": lambda m: m["lineage"][0].pop("licence"),
    "an ancestor's short hash": lambda m: m["lineage"][0].update(sha256="0" * 63),
    "an ancestor's hash in capitals": lambda m: m["lineage"][0].update(sha256="A" * 64),
    "an ancestor's hash with a line break": lambda m: m["lineage"][0].update(sha256="0" * 64 + "\n"),
    "an ancestor's hash null": lambda m: m["lineage"][0].update(sha256=None),
    "a recipe of anything": lambda m: m.update(
        recipe={"a": [1, None, {"b": True}], "ü\0": 1e-9, "big": 2**62, "c": "\x01\t\x1f\x7f"}
    ),
    "a recipe that is a list": lambda m: m.update(recipe=[]),
    "versions of numbers": lambda m: m.update(versions={"onnx": 1}),
    "refused": lambda m: m.update(refused="too many flips"),
    "refused true": lambda m: m.update(refused=True),
    "the manifest lists itself": lambda m: m["entries"].update(
        {"manifest.json": {"size": 1, "crc32": 0, "chunks": ["0" * 64]}}
    ),
    "an absent entry": lambda m: m["entries"].update({"golden/no": {"size": 0, "crc32": 0, "chunks": []}}),
    "a missing entry": lambda m: m["entries"].pop("card.md"),
    "no entries": lambda m: m.pop("entries"),
    "an entry of another size": lambda m: m["entries"]["card.md"].update(size=8),
    "an entry of a negative size": lambda m: m["entries"]["card.md"].update(size=-1),
    "an entry of another checksum": lambda m: m["entries"]["card.md"].update(crc32=1),
    "an entry of a huge checksum": lambda m: m["entries"]["card.md"].update(crc32=2**32),
    "an entry without chunks": lambda m: m["entries"]["card.md"].update(chunks=[]),
    "an entry with a chunk too many": lambda m: m["entries"]["card.md"]["chunks"].append("0" * 64),
    "an entry with another hash": lambda m: m["entries"]["card.md"].update(chunks=["0" * 64]),
    "an entry with a hash that is none": lambda m: m["entries"]["card.md"].update(chunks=["x" * 64]),
    "an entry with a short hash": lambda m: m["entries"]["card.md"].update(chunks=["0"]),
    "three labels of two": lambda m: m["task"].update(labels=["a", "b", "c"]),
    "labels that repeat": lambda m: m["task"].update(labels=["a", "a"]),
    "other labels": lambda m: m["task"].update(labels=["a", "b"]),
    "no labels": lambda m: m["task"].pop("labels"),
    "an unknown task": lambda m: m["task"].update(kind="segmentation"),
    "no threshold": lambda m: m["task"].update(thresholds=[]),
    "a threshold above 1": lambda m: m["task"].update(thresholds=[1.5]),
    "a threshold of 1": lambda m: m["task"].update(thresholds=[1]),
    "two thresholds": lambda m: m["task"].update(thresholds=[0.5, 0.5]),
    "temperature 0": lambda m: m["task"].update(temperature=0.0),
    "temperature 2": lambda m: m["task"].update(temperature=2),
    "temperature text": lambda m: m["task"].update(temperature="1"),
    "no temperature": lambda m: m["task"].pop("temperature"),
    "conformal null": lambda m: m["task"].update(conformal=None),
    "conformal": lambda m: m["task"].update(conformal={"coverage": 0.9, "quantile": 1}),
    "conformal coverage 1": lambda m: m["task"].update(conformal={"coverage": 1.0, "quantile": 0.5}),
    "conformal without quantile": lambda m: m["task"].update(conformal={"coverage": 0.5}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_manifests_are_judged_alike(probe, change):
    agree(probe, forge(changed(change)))


def test_the_changes_are_not_all_refused_nor_all_taken(probe):
    taken = {name for name, change in CHANGES.items() if agree(probe, forge(changed(change)))}
    assert taken == {
        "a graph with another variant's file", "a tensor without dtype", "a variant without graphs",
        "a variant's accuracy as an integer", "flips null", "bf16 true", "no optional fields",
        "a golden input without outputs", "an ancestor without licence", "an ancestor's hash null", "a recipe of anything",
        "refused", "a threshold of 1", "temperature 2", "no temperature", "conformal",
    }  # fmt: skip


WRITINGS = {
    "a space": lambda text: text.replace(b":", b": ", 1),
    "a line break behind": lambda text: text + b"\n",
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "a duplicate key": lambda text: text.replace(b'"name":"tiny"', b'"name":"tiny","name":"tiny"'),
    "keys out of order": lambda text: text.replace(b'"seed":7', b'"seed":7,"a":1'),
    "a longer number": lambda text: text.replace(b"0.5", b"0.50"),
    "an exponent": lambda text: text.replace(b"0.001", b"1e-3"),
    "an escaped letter": lambda text: text.replace("größer".encode(), b"gr\\u00f6\xc3\x9fer"),
    "an escaped slash": lambda text: text.replace(b"variants/", b"variants\\/", 1),
    "half a surrogate pair": lambda text: text.replace(b'"tiny"', b'"\\ud800"'),
    "invalid UTF-8": lambda text: text.replace(b'"tiny"', b'"\xff"'),
    "minus zero": lambda text: text.replace(b'"seed":7', b'"seed":-0'),
    "too large a number": lambda text: text.replace(b'"seed":7', b'"seed":1e999'),
    "an array": lambda text: b"[" + text + b"]",
    "nothing": lambda text: b"",
    "half of it": lambda text: text[: len(text) // 2],
}


@pytest.mark.parametrize("write", WRITINGS.values(), ids=WRITINGS.keys())
def test_a_manifest_written_in_another_way_is_refused(probe, write):
    assert write(manifest_of()) != manifest_of()
    assert not agree(probe, forge(write(manifest_of())))


PREPARATIONS = {
    "colour": (Preprocess(), True),
    "squash, bilinear, window": (
        Preprocess(size=1, resize_to=8192, resize="squash", filter="bilinear", window16=(-5.5, 4095.0)),
        True,
    ),
    "a small std": (Preprocess(channels=1, mean=(-1e6,), std=(1e-6,)), True),
    "an integer for a float": ({"window16": [0, 65535.0]}, False),
    "an absent field": ({"window16": None}, False),
    "an unknown field": ({"new": 1}, False),
    "two channels": ({"channels": 2, "mean": [0.5, 0.5], "std": [0.5, 0.5]}, False),
    "size 0": ({"size": 0}, False),
    "size a float": ({"size": 8.0}, False),
    "size true": ({"size": True}, False),
    "a size above resize_to": ({"size": 9}, False),
    "a vast resize_to": ({"resize_to": 8193}, False),
    "unknown resize": ({"resize": "longer"}, False),
    "unknown filter": ({"filter": "nearest"}, False),
    "a short window": ({"window16": [0.0]}, False),
    "an empty window": ({"window16": [5.0, 5.0]}, False),
    "a vast window": ({"window16": [0.0, 1e7]}, False),
    "a long mean": ({"mean": [0.5, 0.5]}, False),
    "a vast mean": ({"mean": [1e7]}, False),
    "std 0": ({"std": [0.0]}, False),
    "std -1": ({"std": [-1.0]}, False),
    "std 1e-7": ({"std": [1e-7]}, False),
}


@pytest.mark.parametrize(("spec", "good"), PREPARATIONS.values(), ids=PREPARATIONS.keys())
def test_preprocessing_is_judged_alike(probe, spec, good):
    if isinstance(spec, dict):
        value = {**msgspec.to_builtins(PREPROCESS), **spec}
        spec = {key: each for key, each in value.items() if each is not None}
    members = {**MEMBERS, "preprocess.json": msgspec.json.encode(spec, order="sorted")}
    assert agree(probe, forge(manifest_of(members), list(members.items()))) == good


@pytest.mark.parametrize("write", [lambda text: text + b" ", lambda text: text[::-1], lambda text: b"", lambda text: b"null"])
def test_preprocessing_and_labels_written_in_another_way_are_refused(probe, write):
    for name in ("preprocess.json", "labels.json"):
        members = {**MEMBERS, name: write(MEMBERS[name])}
        assert not agree(probe, forge(manifest_of(members), list(members.items())))
        missing = {key: data for key, data in MEMBERS.items() if key != name}
        assert not agree(probe, forge(manifest_of(missing), list(missing.items())))

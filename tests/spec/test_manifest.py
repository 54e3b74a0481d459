"""A manifest's types and ranges: what no writer can say and no reader takes. In bundles: tests/bundle/test_manifest.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgefm.spec.manifest import FORMAT, Ancestor, Entry, Manifest, Variant
from edgefm.spec.task import make_task

ENTRY = {"size": 1, "crc32": 0, "chunks": ["0" * 64]}
VARIANT = {"name": "onnx-fp32", "engine": "onnx", "precision": "fp32", "graphs": {}}
MANIFEST: dict[str, Any] = {
    "name": "x",
    "edgefm": "0",
    "task": {"kind": "binary", "labels": ["a", "b"], "thresholds": [0.5]},
    "variants": [VARIANT],
}


@pytest.mark.parametrize(
    ("kind", "good", "change", "match"),
    [
        (Entry, ENTRY, {"size": -1}, ">= 0"),
        (Entry, ENTRY, {"crc32": 2**32}, "<= 4294967295"),
        (Entry, ENTRY, {"chunks": ["0" * 63]}, "regex"),
        (Entry, ENTRY, {"chunks": ["0" * 63 + "A"]}, "regex"),
        (Entry, ENTRY, {"chunks": ["0" * 64 + "\n"]}, "regex"),
        (Entry, ENTRY, {"more": 1}, "unknown field"),
        (Variant, VARIANT, {"engine": "tflite"}, "Invalid enum value"),
        (Variant, VARIANT, {"precision": "bf16"}, "Invalid enum value"),
        (Variant, VARIANT, {"bf16": "yes"}, "Expected `bool | null`"),
        (Ancestor, {"role": "teacher", "name": "x"}, {"role": "friend"}, "Invalid enum value"),
        (Ancestor, {"role": "teacher", "name": "x"}, {"sha256": "abc"}, "regex"),
        (Manifest, MANIFEST, {"format": 0}, ">= 1"),
        (Manifest, MANIFEST, {"task": {"kind": "binary", "labels": ["a"]}}, "cannot have 1 labels"),
        (Manifest, MANIFEST, {"entries": {"a": {}}}, "missing required field"),
        (Manifest, MANIFEST, {"signed": True}, "unknown field"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: Any, good: dict[str, Any], change: dict[str, Any], match: str) -> None:
    msgspec.convert(good, kind)
    with pytest.raises(msgspec.ValidationError, match=match):
        msgspec.convert(good | change, kind)
    with pytest.raises(msgspec.ValidationError, match=match):
        msgspec.json.decode(msgspec.json.encode(good | change), type=kind)


def test_a_manifest_without_what_may_be_unknown_is_of_this_format_and_refused_by_nobody() -> None:
    manifest = msgspec.convert(MANIFEST, Manifest)
    assert (manifest.format, manifest.refused, manifest.entries, manifest.golden) == (FORMAT, None, {}, ())
    assert manifest.variants[0].bf16 is None


def test_it_cannot_be_changed_afterwards() -> None:
    manifest = Manifest(name="x", edgefm="0", task=make_task("embedding"), variants=())
    with pytest.raises(AttributeError, match="immutable"):
        manifest.refused = "no"  # type: ignore[misc]

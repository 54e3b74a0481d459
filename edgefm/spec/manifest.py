"""`manifest.json` of a bundle: what is inside, where it comes from, how well it does, whether it may be used.

Not the archive: `bundle/` lays the bytes out and `docs/efm-format.md` says how.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .task import Line, Task

FORMAT = 1
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # `$` would let a line break pass
Engine = Literal["openvino", "onnx", "native"]
Precision = Literal["fp32", "int8"]


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One archive member: its length in bytes and the SHA-256 of each 1 MiB chunk (the last one shorter; none if empty).

    `crc32` is its ZIP checksum: it stands here so that the bundle id covers the archive's own headers too.
    """

    size: Annotated[int, Meta(ge=0)]
    crc32: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    chunks: tuple[Sha256, ...]


class Tensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A graph's input or output. A dimension of -1 is the batch."""

    name: str
    dtype: Literal["float32"] = "float32"
    shape: tuple[int, ...]


class Graph(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A named graph of a variant. `files` are archive names, the graph itself first, its weights after it."""

    files: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Variant(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One engine at one precision. Its name is `<engine>-<precision>`.

    Attributes:
        graphs: `encoder` today.
        accuracy: metric name to value on the `val` split, as measured when the bundle was built; empty if it had no data.
        flips: decisions that differ from the reference (the fp32 torch model) on `val`, as a share 0 to 1, or None.
        parity: largest |difference| of probabilities (embedding task: of the embedding in units of its std) to the
            torch model on the golden inputs, or None for a variant whose precision is not fp32.
        bf16: whether this fp32 variant passed the same gate when run in bf16, so that a device may choose it; None if
            the machine that built the bundle could not run bf16 or had no labelled data.
        evidence: p50 latency in milliseconds on the building machine and the like: never the device's choice.
    """

    name: str
    engine: Engine
    precision: Precision
    graphs: dict[str, Graph]
    accuracy: dict[str, float] = {}
    flips: float | None = None
    parity: float | None = None
    bf16: bool | None = None
    evidence: dict[str, float] = {}


class Golden(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A generated input with expected outputs, as `.npy` members: never anybody's picture.

    `pixels` is uint8 or uint16 `[H, W]` or `[H, W, C]`; `outputs` maps "prepared" (`[C, S, S]`), "logits" (`[K]`) and
    "embedding" (`[D]`) to float32 members, computed by the fp32 torch model; and where there is int8 "int8.logits" and
    "int8.embedding" to what the int8 graph answers, run as it is written, "native-int8.logits" and "native-int8.embedding" to
    what native int8 answered where the bundle was built.
    """

    name: str
    pixels: str
    outputs: dict[str, str]


class Ancestor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model or data set this one descends from. `licence` is an SPDX id, free text, or "unknown"."""

    role: Literal["teacher", "student", "model", "data"]
    name: str
    licence: str = "unknown"
    sha256: Sha256 | None = None


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest. Its canonical bytes are `msgspec.json.encode(manifest, order="sorted")`; their SHA-256 is the bundle id.

    Attributes:
        format: layout version; a reader refuses a higher one.
        name: short name of the model, for people.
        edgefm: version that wrote it.
        task: what it answers. `labels.json` repeats the labels for readers that want nothing else.
        variants: at least one.
        golden: inputs every engine is held to.
        lineage: ancestors, nearest first; their licences bind this model.
        recipe: the recipe as used, defaults filled in.
        versions: library name to version, of what built it.
        refused: why a gate said no, or None. `run`, `Session` and the C library refuse a bundle that carries a reason.
        entries: every archive member but `manifest.json`, `evidence/…` and `signatures/…`, by name.
    """

    format: Annotated[int, Meta(ge=1)] = FORMAT
    name: Line
    edgefm: str
    task: Task
    variants: tuple[Variant, ...]
    golden: tuple[Golden, ...] = ()
    lineage: tuple[Ancestor, ...] = ()
    recipe: dict[str, Any] = {}
    versions: dict[str, str] = {}
    refused: Line | None = None
    entries: dict[str, Entry] = {}

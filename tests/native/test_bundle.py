"""The C++ reader of bundles against Python's: the same verdict on the fixture, on every damage, on names and their order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgefm.bundle import open_bundle, write_bundle
from edgefm.bundle.check import check
from edgefm.errors import BundleError
from edgefm.spec.manifest import Golden, Variant

from ..bundle.forge import MEMBERS, forge, manifest_of
from ..bundle.make_format1 import FIXTURE, IDENTITY, MANIFEST, PREPROCESS, variant


def verdicts(probe, data: bytes) -> tuple[str | None, str | None]:
    """The bundle's id, or None for a refusal: by Python, by C++."""
    try:
        python = check(memoryview(data)).id
    except BundleError:
        python = None
    try:
        return python, probe.open_memory(data)
    except ValueError:
        return python, None


def agree(probe, data: bytes) -> bool:
    """Whether both take it; they must say the same."""
    python, native = verdicts(probe, data)
    assert python == native, (python, native)
    return native is not None


def test_the_fixture_opens_from_a_path_and_from_memory_wherever_it_lies(probe):
    assert probe.open(FIXTURE) == IDENTITY
    data = FIXTURE.read_bytes()
    for offset in (0, 1, 16, 63):
        assert probe.open_memory(data, offset=offset) == IDENTITY


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_byte_flipped_is_refused(probe, mask):
    whole = FIXTURE.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= mask
        with pytest.raises(ValueError):
            probe.open_memory(bytes(changed))


def test_a_bundle_cut_at_any_length_or_grown_is_refused(probe):
    whole = FIXTURE.read_bytes()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut short|no EdgeFM bundle"):
            probe.open_memory(whole[:length])
    for grown in (whole + b"\0", b"\0" + whole, whole + whole, bytes(64) + whole, whole[:64] + whole):
        assert not agree(probe, grown)


def test_damage_in_any_chunk_of_a_large_member_is_named_with_any_number_of_threads(probe, tmp_path):
    path = tmp_path / "large.efm"
    large = "variants/onnx-fp32/encoder.weights"
    entries = {name: b"x" for variant in MANIFEST.variants for graph in variant.graphs.values() for name in graph.files}
    golden = {"golden/dot.npy": b"", "golden/dot-logits.npy": b""}
    identity = write_bundle(path, MANIFEST, PREPROCESS, {**entries, **golden, large: os.urandom(9_000_001)})
    with open_bundle(path) as bundle:
        start = path.read_bytes().index(bundle.view(large))
    for threads in (1, 2, 3, 8, 500):
        assert probe.open(path, threads=threads) == identity
    for offset in (0, (1 << 20) - 1, 1 << 20, (5 << 20) + 17, 9_000_000):
        with open(path, "r+b") as file:
            before = os.pread(file.fileno(), 1, start + offset)
            os.pwrite(file.fileno(), bytes([before[0] ^ 4]), start + offset)
            for threads in (1, 3):
                with pytest.raises(ValueError, match=r"encoder\.weights has been changed between the bytes \d+ and \d+"):
                    probe.open(path, threads=threads)
            os.pwrite(file.fileno(), before, start + offset)
    assert probe.open(path) == identity


def test_what_is_no_file_is_refused_with_a_reason(probe, tmp_path):
    (tmp_path / "empty.efm").touch()
    os.mkfifo(tmp_path / "pipe.efm")
    for path, reason in (
        (tmp_path / "nowhere.efm", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.efm", "is empty"),
        (tmp_path / "pipe.efm", "is a device or a pipe"),
        (Path("/dev/null"), "is a device or a pipe"),
        (FIXTURE / "inside", "cannot be opened"),
    ):
        with pytest.raises(ValueError, match=reason):
            probe.open(path)


def test_a_newer_format_is_named(probe):
    data = bytearray(FIXTURE.read_bytes())
    data[47] = 2
    end = len(data) - 185
    data[end : end + 23] = b"EdgeFM bundle format 2\n"
    with pytest.raises(ValueError, match="it is a bundle of format 2; expected format 1"):
        probe.open_memory(bytes(data))
    with pytest.raises(ValueError, match="it is a bundle of format 7"):
        probe.open_memory(forge(manifest_of(format=7)))


GOOD_NAMES = [
    "card.md",
    "metadata.json",
    "golden/a/b.npy",
    "licences/x+y-z.txt",
    "variants/native-int8/a",
    "adapters/lung/a",
    "golden/a..b",
]
BAD_NAMES = [
    "other.txt", "golden", "golden/", "/golden/a", "golden//a", "golden/./a", "golden/../a", "golden/a.", "golden/.a",
    "golden/-a", "C:/a", "golden\\a", "golden/a b", "variants/native-int8", "variants/native-int4/a", "variants/torch-fp32/a",
    "adapters/a", "Golden/a", "golden/" + "a" * 249, "golden/a\0", "golden/a\n", "golden/c:a", "manifest.json/a",
]  # fmt: skip


@pytest.mark.parametrize("name", [*GOOD_NAMES, *BAD_NAMES], ids=ascii)
def test_names_are_judged_alike(probe, name):
    members = dict(sorted({**MEMBERS, name: b"x"}.items()))
    assert agree(probe, forge(manifest_of(members), list(members.items()))) == (name in GOOD_NAMES)


@pytest.mark.parametrize(
    "more",
    [
        ("golden/DOT.npy",),
        ("golden/dot.npy/a",),
        ("golden/Dot.NPY/a",),
        ("licences/A", "licences/a"),
        ("licences/a", "licences/A/b"),
    ],
    ids=str,
)
def test_names_that_a_case_blind_system_confuses_are_refused(probe, more):
    members = dict(sorted({**MEMBERS, **dict.fromkeys(more, b"x")}.items()))
    assert not agree(probe, forge(manifest_of(members), list(members.items())))


def test_order_and_appended_members_are_judged_alike(probe):
    items = list(MEMBERS.items())
    evidence, signature = ("evidence/b", b"1"), ("signatures/a", b"")
    assert agree(probe, forge(manifest_of(), items, [evidence, signature]))
    assert agree(probe, forge(manifest_of(), items, [signature, evidence]))
    assert not agree(probe, forge(manifest_of(), items, [evidence, evidence]))
    assert not agree(probe, forge(manifest_of(), [items[1], items[0], *items[2:]]))
    assert not agree(probe, forge(manifest_of(), [evidence, *items]))
    assert not agree(probe, forge(manifest_of(), items[1:]))
    assert not agree(probe, forge(manifest_of(), [*items, ("golden/zz", b"")]))
    assert not agree(probe, forge(manifest_of(), []))
    assert not agree(probe, forge(manifest_of({}), []))


def test_json_beyond_the_limit_is_refused_before_it_is_parsed(probe):
    members = {**MEMBERS, "labels.json": b" " * (1 << 24) + b"[]"}
    assert not agree(probe, forge(manifest_of(members), list(members.items())))
    with pytest.raises(ValueError, match=r"labels\.json takes more than 16777216 bytes"):
        probe.open_memory(forge(manifest_of(members), list(members.items())))


def test_a_manifest_of_many_members_opens_in_no_quadratic_time(probe):
    members = dict(sorted({**MEMBERS, **{f"golden/{i}/a.npy": b"" for i in range(4_000)}}.items()))
    golden = tuple(Golden(name="", pixels=f"golden/{i}/a.npy", outputs={}) for i in range(4_000))
    assert agree(probe, forge(manifest_of(members, golden=golden), list(members.items())))


def test_the_native_variants_are_known(probe):
    native: Variant = variant("native", "int8", "encoder.json", "encoder.bin")
    files = dict.fromkeys(native.graphs["encoder"].files, b"x")
    members = dict(sorted({**MEMBERS, **files}.items()))
    assert agree(probe, forge(manifest_of(members, variants=(*MANIFEST.variants, native)), list(members.items())))

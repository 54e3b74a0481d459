"""Archives that are made with care to slip something past the reader: each is refused, in one line that names the reason."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from .forge import MEMBERS, forge, manifest_of, refusal
from .make_format1 import FIXTURE

GOOD = FIXTURE.read_bytes()
COMMENT = 185


def with_names(*names: str) -> bytes:
    """A bundle that also lists and holds members of these names."""
    more = dict(sorted({**MEMBERS, **dict.fromkeys(names, b"x")}.items()))
    return forge(manifest_of(more), list(more.items()))


def patched(at: int, fields: str, *values: int) -> bytes:
    """The fixture with some little-endian fields written over."""
    data = bytearray(GOOD)
    struct.pack_into(fields, data, at, *values)
    return bytes(data)


def first_record() -> int:
    return GOOD.index(b"PK\1\2")


def end_record() -> int:
    return GOOD.index(b"PK\5\6")


def test_the_forger_makes_good_bundles_when_asked_to(tmp_path: Path) -> None:
    assert forge(manifest_of(), appended=[("evidence/report.json", b"{}")]) == GOOD


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../../etc/cron.d/x", "leads out of the bundle"),
        ("golden/../../x", "leads out of the bundle"),
        ("golden/..", "leads out of the bundle"),
        ("/etc/passwd", "is absolute"),
        ("C:/windows/x", "is absolute"),
        ("golden\\x", "has a backslash"),
        ("..\\x", "has a backslash"),
        ("golden/", "has no place"),
        ("golden//x", "has no place"),
        ("golden/./x", "has no place"),
        ("golden/.hidden", "has no place"),
        ("golden/x.", "has no place"),
        ("golden/x y", "has no place"),
        ("golden/x\x00.npy", "has no place"),
        ("golden/\x1b[2Jx", "has no place"),
        ("golden/x\n", "has no place"),
        ("golden/a:b", "has no place"),
        ("golden", "has no place"),
        ("", "has no place"),
        ("setup.py", "has no place"),
        ("Card.md", "has no place"),
        ("variants/encoder.onnx", "has no place"),
        ("variants/tensorrt-fp32/x", "has no place"),
        ("variants/onnx-fp16/x", "has no place"),
        ("adapters/x", "has no place"),
        ("golden/" + "x" * 249, "has 256 characters"),
    ],
)
def test_a_name_without_a_place_in_a_bundle_is_refused(name: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, with_names(name))


def test_names_that_a_case_blind_file_system_could_not_keep_apart_are_refused(tmp_path: Path) -> None:
    assert "comes twice" in refusal(tmp_path, with_names("golden/DOT.npy"))
    assert "a file and a folder" in refusal(tmp_path, with_names("golden/Dot.npy/x"))


def test_a_name_that_is_not_ascii_is_refused(tmp_path: Path) -> None:
    for raw in (b"card\xff.md"[:7], "cardé".encode()[:6] + b"d", b"c\xc3\xa4d.md"):
        assert "is not ASCII" in refusal(tmp_path, GOOD.replace(b"card.md", raw))


def test_a_duplicate_member_is_refused(tmp_path: Path) -> None:
    twice = [("card.md", b"# evil\n"), *MEMBERS.items()]
    assert "card.md comes twice" in refusal(tmp_path, forge(manifest_of(), twice))
    assert "card.md comes twice" in refusal(tmp_path, forge(manifest_of(), [*MEMBERS.items(), ("card.md", b"# tiny\n")]))
    assert "manifest.json comes twice" in refusal(tmp_path, forge(manifest_of(), [("manifest.json", b"{}"), *MEMBERS.items()]))
    assert "evidence/a comes twice" in refusal(
        tmp_path, forge(manifest_of(), appended=[("evidence/a", b"1"), ("evidence/a", b"2")])
    )


def test_members_out_of_order_are_refused(tmp_path: Path) -> None:
    assert "out of order" in refusal(tmp_path, forge(manifest_of(), list(reversed(MEMBERS.items()))))
    early = [("card.md", MEMBERS["card.md"]), ("evidence/a", b"1"), *list(MEMBERS.items())[1:]]
    assert "out of order" in refusal(tmp_path, forge(manifest_of(), early))


def test_a_member_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    more = sorted({**MEMBERS, "golden/extra.npy": b"x"}.items())
    assert "holds golden/extra.npy, which manifest.json does not list" in refusal(tmp_path, forge(manifest_of(), more))


def test_a_listed_member_that_is_absent_is_refused(tmp_path: Path) -> None:
    fewer = [(name, data) for name, data in MEMBERS.items() if name != "card.md"]
    assert "lists 'card.md', which is absent" in refusal(tmp_path, forge(manifest_of(), fewer))


def test_evidence_in_the_listing_is_refused(tmp_path: Path) -> None:
    listed = {**MEMBERS, "evidence/report.json": b"{}"}
    data = forge(manifest_of(listed), appended=[("evidence/report.json", b"{}")])
    assert "lists 'evidence/report.json', which is absent" in refusal(tmp_path, data)


def test_a_member_of_another_size_than_listed_is_refused(tmp_path: Path) -> None:
    assert "card.md is stated to have 7 bytes" in refusal(tmp_path, forge(manifest_of({**MEMBERS, "card.md": b"# evil!\n"})))


def test_a_manifest_that_lists_itself_is_refused(tmp_path: Path) -> None:
    assert "lists 'manifest.json', which" in refusal(tmp_path, forge(manifest_of({**MEMBERS, "manifest.json": b"{}"})))


@pytest.mark.parametrize("missing", ["labels.json", "preprocess.json"])
def test_a_bundle_without_labels_or_preprocessing_is_refused(missing: str, tmp_path: Path) -> None:
    fewer = {name: data for name, data in MEMBERS.items() if name != missing}
    assert f"{missing} is missing" in refusal(tmp_path, forge(manifest_of(fewer), list(fewer.items())))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bundle_packed_again_by_another_tool_is_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(FIXTURE) as good, zipfile.ZipFile(tmp_path / "again.zip", "w", method) as again:
        again.comment = good.comment
        for name in good.namelist():
            again.writestr(name, good.read(name))
    line = refusal(tmp_path, (tmp_path / "again.zip").read_bytes())
    assert ("members end at byte" if method == zipfile.ZIP_STORED else "is compressed") in line


def test_an_ordinary_archive_is_told_from_a_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as plain:
        plain.writestr("manifest.json", "{}")
    assert "it is a ZIP archive, but no EdgeFM bundle" in refusal(tmp_path, (tmp_path / "plain.zip").read_bytes())


@pytest.mark.parametrize(
    "data", [b"x", b"\x89PNG\r\n\x1a\n" + bytes(500), b"\x1b[2J" * 100, bytes(10_000), b"PK", b"PK\5\6" + bytes(18)]
)
def test_what_is_no_archive_at_all_is_refused(data: bytes, tmp_path: Path) -> None:
    assert "no EdgeFM bundle" in refusal(tmp_path, data)


def test_compressed_and_encrypted_members_are_refused(tmp_path: Path) -> None:
    record = first_record()
    assert "'manifest.json' is encrypted" in refusal(tmp_path, patched(record + 8, "<H", 1))
    assert "'manifest.json' is compressed (method 8)" in refusal(tmp_path, patched(record + 10, "<H", 8))
    assert "takes 5 bytes for" in refusal(tmp_path, patched(record + 20, "<I", 5))
    assert "(header of manifest.json) is 0x01" in refusal(tmp_path, patched(6, "<H", 1))
    assert "(header of manifest.json) is 0x08" in refusal(tmp_path, patched(8, "<H", 8))


def test_flags_times_and_attributes_are_held(tmp_path: Path) -> None:
    record = first_record()
    for at, value in ((4, 0x0014), (6, 45), (8, 8), (8, 0x0800), (12, 1), (14, 0x5555), (34, 1), (36, 1), (38, 0o120777 << 16)):
        data = patched(record + at, "<I" if at == 38 else "<H", value)
        assert "(directory) is" in refusal(tmp_path, data), at


def test_two_headers_that_agree_on_a_wrong_checksum_are_refused(tmp_path: Path) -> None:
    name = b"variants/onnx-fp32/encoder.onnx"
    data = bytearray(GOOD)
    (header,) = (at for at in range(len(GOOD)) if GOOD[at : at + 4] == b"PK\3\4" and GOOD[at + 30 :].startswith(name))
    (record,) = (at for at in range(len(GOOD)) if GOOD[at : at + 4] == b"PK\1\2" and GOOD[at + 46 :].startswith(name))
    data[header + 14 : header + 18] = data[record + 16 : record + 20] = b"evil"
    assert "encoder.onnx is stated to have" in refusal(tmp_path, bytes(data))


def test_zip64_tricks_are_refused(tmp_path: Path) -> None:
    record, end = first_record(), end_record()
    sizes = bytearray(patched(record + 20, "<II", 0xFFFFFFFF, 0xFFFFFFFF))
    assert refusal(tmp_path, bytes(sizes))
    struct.pack_into("<H", sizes, record + 30, 20)
    assert "ZIP64 sizes" in refusal(tmp_path, bytes(sizes))
    record64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10, 10, end - record, record)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    assert "ZIP64 end record" in refusal(tmp_path, GOOD[:end] + record64 + locator + GOOD[end:])
    assert refusal(tmp_path, patched(end + 8, "<HHII", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))


def test_an_end_record_that_lies_is_refused(tmp_path: Path) -> None:
    end = end_record()
    for at, value in ((4, 1), (6, 1), (8, 9), (10, 9), (10, 0), (12, 0), (16, 0), (20, 0), (20, 9)):
        assert refusal(tmp_path, patched(end + at, "<H", value)), at


def test_a_directory_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    assert "(directory) is" in refusal(tmp_path, patched(first_record() + 42, "<I", 64))


def test_bytes_hidden_between_members_are_refused(tmp_path: Path) -> None:
    assert "(header of manifest.json) is 0x65" in refusal(tmp_path, patched(60, "<B", 0x65))
    directory, end = first_record(), end_record()
    assert refusal(tmp_path, GOOD[:directory] + bytes(64) + GOOD[directory:])
    shifted = bytearray(GOOD[:directory] + bytes(64) + GOOD[directory:])
    struct.pack_into("<I", shifted, end + 64 + 16, directory + 64)
    assert "members end at byte" in refusal(tmp_path, bytes(shifted))


def test_evidence_that_was_changed_or_swapped_is_refused(tmp_path: Path) -> None:
    one = forge(manifest_of(), appended=[("evidence/a", b"1"), ("signatures/b", b"2")])
    other = forge(manifest_of(), appended=[("evidence/a", b"9"), ("signatures/b", b"2")])
    assert "evidence or signatures have been changed" in refusal(tmp_path, other.replace(other[-COMMENT:], one[-COMMENT:]))
    assert "evidence or signatures have been changed" in refusal(tmp_path, forge(manifest_of())[:-COMMENT] + GOOD[-COMMENT:])


def test_another_manifest_under_the_same_comment_is_refused(tmp_path: Path) -> None:
    other = forge(manifest_of(name="evil"))
    assert "manifest.json has been changed" in refusal(tmp_path, other[:-COMMENT] + GOOD[-COMMENT:])


def test_a_newer_format_is_named_with_what_to_do(tmp_path: Path) -> None:
    line = refusal(tmp_path, forge(manifest_of(format=2)))
    assert "it is a bundle of format 2; expected format 1" in line
    assert "Upgrade EdgeFM here to a version that reads format 2" in line
    later = bytearray(GOOD.replace(b"bundle format 1\nmanifest", b"bundle format 3\nmerkle::"))
    struct.pack_into("<H", later, 47, 3)
    assert "it is a bundle of format 3" in refusal(tmp_path, bytes(later))
    assert "it is a bundle of format 3" in refusal(tmp_path, bytes(later[:2000]))
    assert "it is a bundle of format 2" in refusal(tmp_path, forge(b'{"format":2,"what":"ever"}'))

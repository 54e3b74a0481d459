"""Arrays inside an archive as images. What an archive must look like is in test_medmnist.py."""

from __future__ import annotations

import pickle
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgefm.data.archive import Archive, Member
from edgefm.errors import ImageError

FIRST = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
SECOND = (np.arange(2 * 4 * 5, dtype=np.uint16) * 999).reshape(2, 4, 5, 1)
THIRD = np.arange(1 * 2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
OFFSET = 7  # bytes before the data of each array


def members() -> tuple[Member, ...]:
    return tuple(
        Member(f"{name}.npy", array.shape, array.dtype.str, OFFSET)
        for name, array in (("a", FIRST), ("b", SECOND), ("c", THIRD))
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    out = tmp_path / "x.npz"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, array in zip(members(), (FIRST, SECOND, THIRD)):
            archive.writestr(member.name, bytes(OFFSET) + array.tobytes())
    return out


def test_a_missing_a_cut_and_a_damaged_archive_are_image_errors_when_an_image_is_read(path: Path) -> None:
    data = path.read_bytes()
    for bad in (b"", b"PK", data[: len(data) // 2], data.replace(b"a.npy", b"d.npy", 1)):
        path.write_bytes(bad)
        with pytest.raises(ImageError, match=r"x\.npz is damaged .*Download it again"):
            Archive(path, members()).pixels(0)
    path.unlink()
    with pytest.raises(ImageError, match="cannot be unpacked"):
        Archive(path, members()).pixels(0)


def test_an_array_that_is_shorter_than_it_says_is_an_image_error(path: Path) -> None:
    longer = members()[0]._replace(shape=(300, 4, 5))
    with pytest.raises(ImageError, match="is damaged"):
        Archive(path, (longer,)).pixels(0)


def test_images_are_counted_over_all_arrays_and_a_channel_of_one_is_dropped(path: Path) -> None:
    archive = Archive(path, members())
    got = [archive.pixels(key) for key in range(6)]
    for pixels, expected in zip(got, [*FIRST, *SECOND[..., 0], *THIRD]):
        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels, expected)
    with pytest.raises(IndexError):
        archive.pixels(6)


def test_a_copy_is_given_that_may_be_written_to(path: Path) -> None:
    archive = Archive(path, members())
    archive.pixels(1)[:] = 0
    np.testing.assert_array_equal(archive.pixels(1), FIRST[1])


def test_equal_bytes_of_another_shape_or_type_have_another_digest(path: Path) -> None:
    flat = Archive(path, (members()[0]._replace(shape=(3, 5, 4)),))
    deep = Archive(path, (members()[0]._replace(shape=(1, 6, 5), dtype="<u2"),))
    archive = Archive(path, members())
    digests = {archive.digest(0), archive.digest(1), flat.digest(0), deep.digest(0)}
    assert len(digests) == 4
    assert archive.digest(0) == Archive(path, members()).digest(0)


def test_many_threads_unpack_each_array_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, unpacked = Archive(path, members()), list[str]()
    unpack, ready = Archive._unpack, threading.Barrier(8)

    def counted(self: Archive, member: Member) -> np.ndarray:
        unpacked.append(member.name)
        return unpack(self, member)

    monkeypatch.setattr(Archive, "_unpack", counted)

    def read(_: int) -> bytes:
        ready.wait()
        return archive.pixels(4).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {SECOND[1].tobytes()}
    assert unpacked == ["b.npy"]


def test_a_pickled_archive_carries_no_pixels(path: Path) -> None:
    archive = Archive(path, members())
    archive.pixels(0)
    data = pickle.dumps(archive)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).pixels(5), THIRD[0])
    assert archive.copies() == {}

"""Unfinished work: complete under its name or not there at all, whatever lies at the name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from edgefm import partial
from edgefm.errors import InputError
from edgefm.partial import check_output, partial_file, partial_folder, write_atomically


def file(out: Path, force: bool) -> None:
    with partial_file(out, force=force) as handle:
        handle.write(b"new")


def folder(out: Path, force: bool) -> None:
    with partial_folder(out, force=force) as made:
        (made / "new").write_text("new")


@pytest.mark.parametrize("write", [file, folder])
@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("name", ["/", ".", "..", "", "x" * 300, "x" * 250, "a\0b", "file/below", "pipe", "loop", "/dev/null"])
def test_a_name_that_cannot_be_written_is_refused_in_one_line_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, force: bool, write: object
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    Path("file").write_text("old")
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    monkeypatch.setattr(Path, "rename", None)  # a test that fails must not move the root
    monkeypatch.setattr(Path, "replace", None)
    with pytest.raises(InputError) as caught:
        write(Path(name), force)  # type: ignore[operator]
    assert str(caught.value).isprintable()
    assert sorted(os.listdir()) == ["file", "loop", "pipe"]


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    (real / "old").write_text("old")
    link.symlink_to(real)
    folder(link, True)
    assert not link.is_symlink()
    assert [child.name for child in link.iterdir()] == ["new"]
    assert [child.name for child in real.iterdir()] == ["old"]
    assert sorted(child.name for child in tmp_path.iterdir()) == ["link", "real"]


def test_a_folder_replaces_an_older_result_and_leaves_no_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result(out)
    file(tmp_path / ".out.edgefm-old", False)  # what a crash in the middle of a replacement leaves
    folder(out, True)
    assert [child.name for child in out.iterdir()] == ["new"]
    assert [child.name for child in tmp_path.iterdir()] == ["out"]


def result(out: Path) -> None:
    """As a verb leaves it."""
    (out / "adapters" / "tensorboard").mkdir(parents=True)
    for name in ("recipe.yaml", "adapters/adapter_model.safetensors", "adapters/tensorboard/events.out.tfevents.1"):
        (out / name).write_text("ours")


@pytest.mark.parametrize("beside", ["0001.png", "adapters/0001.dcm", "images.csv", "thesis"])
@pytest.mark.parametrize("ours", [True, False])
def test_somebodys_files_are_not_replaced_even_by_force(tmp_path: Path, beside: str, ours: bool) -> None:
    out = tmp_path / "images"
    if ours:
        result(out)
    (out / beside).parent.mkdir(parents=True, exist_ok=True)
    (out / beside).write_text("a patient")
    with pytest.raises(InputError, match=f"files that edgefm did not make, such as {beside}"):
        folder(out, True)
    assert (out / beside).read_text() == "a patient"
    assert [child.name for child in tmp_path.iterdir()] == ["images"]


def test_json_alone_is_no_result_and_an_empty_folder_is_nobodys(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    folder(out, True)
    assert [child.name for child in out.iterdir()] == ["new"]
    (out / "new").rename(out / "patients.json")
    with pytest.raises(InputError, match=r"such as patients\.json"):
        folder(out, True)


def test_a_file_and_a_folder_beside_it_are_not_replaced_by_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    file(out, False)
    with pytest.raises(InputError, match="out is a file"):
        folder(out, True)
    other = tmp_path / "student.partial"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="did not make"):
        folder(tmp_path / "student", False)
    assert (other / "notes.txt").read_text() == "mine"


def test_what_came_to_the_name_meanwhile_is_not_replaced_and_the_work_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def overtaken() -> None:
        with partial_folder(out) as made:
            (made / "new").write_text("hours")
            out.mkdir()
            (out / "0001.png").write_text("a patient")

    with pytest.raises(InputError, match="exists already"):
        overtaken()
    assert (out / "0001.png").exists()
    assert (tmp_path / "out.partial" / "new").read_text() == "hours"


def test_a_folder_that_failed_stays_for_resume_and_is_emptied_without_it(tmp_path: Path) -> None:
    out, found = tmp_path / "out", []

    def stopped(resume: bool) -> None:
        with partial_folder(out, resume=resume) as made:
            found.append((made / "kept").exists())
            (made / "kept").write_text("1")
            raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            stopped(resume)
    assert found == [False, True]
    assert not out.exists()
    with partial_folder(out) as made:
        assert [child.name for child in made.iterdir()] == ["lock"]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("open_one", [partial_file, partial_folder])
def test_two_writers_of_one_name_do_not_meet(tmp_path: Path, open_one: object) -> None:
    out = tmp_path / "out"
    with open_one(out):  # type: ignore[operator]
        with pytest.raises(InputError, match=r"another edgefm process is writing .*out\.partial;? ?"), open_one(out):  # type: ignore[operator]
            pass
    assert out.exists()


def test_who_comes_while_a_folder_gets_its_name_does_not_empty_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, refused = tmp_path / "out", []
    rename = Path.rename

    def crowded(self: Path, target: Path) -> Path:
        if self.name == "out.partial" and not refused:
            with pytest.raises(InputError, match="another edgefm process") as caught, partial_folder(out):
                pass
            refused.append(caught.value)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crowded)
    folder(out, False)
    assert len(refused) == 1
    assert [child.name for child in out.iterdir()] == ["new"]


def test_a_lock_whose_folder_was_renamed_meanwhile_is_not_taken_for_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    flock = partial.fcntl.flock

    def late(handle: int, how: int) -> None:
        rename(out.with_name("out.partial"), out)
        flock(handle, how)

    rename = os.rename
    monkeypatch.setattr(partial.fcntl, "flock", late)
    with pytest.raises(InputError, match="another edgefm process"), partial_folder(out):
        pass


def test_a_missing_folder_above_is_made_and_a_file_above_is_named(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "out", False)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be made"):
        check_output(tmp_path / "file" / "out", False)


def test_a_folder_takes_the_place_of_a_file_that_nobody_writes_any_more(tmp_path: Path) -> None:
    left = tmp_path / "out.partial"
    left.write_bytes(b"half")
    with open(left, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"another edgefm process is writing .*out\.partial"):
            folder(tmp_path / "out", False)
    assert left.read_bytes() == b"half"
    folder(tmp_path / "out", False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_name_without_the_suffix_that_it_must_have_is_refused_with_one_that_has_it(tmp_path: Path) -> None:
    for name in ("x.txt", "x", "efm", "x.efm.zip"):
        with pytest.raises(InputError, match=rf"{name} is no name for a bundle; .*ends in \.efm\. Say -o .*{name}\.efm\."):
            check_output(tmp_path / "new" / name, True, ".efm")
    assert not (tmp_path / "new").exists()
    check_output(tmp_path / "X.EFM", False, ".efm")


def test_a_small_file_is_written_whole_or_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "small"
    write_atomically(out, b"one")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device.*Free some space"):
        write_atomically(out, b"two")
    assert out.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [out]

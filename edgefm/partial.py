"""Where unfinished work lives: `OUT.partial`, locked while a process owns it, renamed to `OUT` at the end.

Not a cache: what a verb can reuse after a crash (checkpoints) is that verb's own business; it finds it in `OUT.partial`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

# What lies in the folders that verbs make: one of OURS, and files that end so.
OURS = ("edgefm.json", "evaluation.json", "labels.json", "metrics.jsonl", "model.efm", "recipe.yaml")
ENDINGS = (".json", ".jsonl", ".yaml", ".safetensors", ".onnx", ".xml", ".bin", ".efm", ".html", ".md")
EVENTS = "events.out.tfevents"  # TensorBoard's


def check_output(out: Path, force: bool, suffix: str = "") -> None:
    """Raise `InputError` unless `out` may be written: absent or `force`, its folder there (or can be made) and writable.

    With `suffix` its name must end so, in small letters or capitals.
    """
    if out.name in ("", ".."):
        raise InputError(f"'{out}' is no name for an output", expected="the name of a file or folder", do="choose another -o")
    if not out.name.lower().endswith(suffix):
        raise InputError(f"{out} is no name for a bundle", expected=f"one that ends in {suffix}", do=f"say -o {out}{suffix}")
    _mode(out.with_name(out.name + ".partial"))
    mode = _mode(out)
    if mode and not force:
        raise InputError(f"{out} exists already", do="choose another -o, or add --force to replace it")
    if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{out} is a device or a pipe", expected="the name of a file or folder", do="choose another -o")
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {parent} cannot be made ({error.strerror})", do="choose another -o") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {parent} is read-only", do="choose another -o, or change its permissions")


def check_output_folder(out: Path, force: bool) -> None:
    """`check_output` for a folder: `force` replaces what a verb has made, or nothing; somebody's images are no older result.

    Raises:
        InputError: as there; or `out` is a file, or a folder with files in it that no verb makes.
    """
    check_output(out, force)
    if out.is_symlink() or not out.exists():
        return
    if not out.is_dir():
        raise InputError(
            f"{out} is a file", expected="the name of a folder", do="choose another -o, or remove the file yourself"
        )
    names = [child.name for child in out.iterdir()]
    stranger = next(_strangers(out), "" if not names or set(names) & set(OURS) else sorted(names)[0])
    if stranger:
        raise InputError(
            f"{out} is a folder with files that edgefm did not make, such as {stranger}",
            expected="a result of edgefm, to replace with --force, or a new name",
            do="choose another -o, or remove the folder yourself",
        )


def _strangers(folder: Path) -> Iterator[str]:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink():
            yield from (f"{child.name}/{each}" for each in _strangers(child))
        elif not child.name.endswith(ENDINGS) and not child.name.startswith(EVENTS):
            yield child.name


def _mode(path: Path) -> int:
    """`st_mode` of what is there, links followed; 0 where nothing is. Raises `InputError` for a path that cannot be."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be written ({getattr(error, 'strerror', None) or error})", do="choose another -o"
        ) from error


@contextmanager
def partial_folder(out: Path, *, force: bool = False, resume: bool = False) -> Iterator[Path]:
    """A locked `OUT.partial/` that becomes `OUT` when the block ends without an exception. Otherwise as `working_folder`.

    Raises:
        InputError: as there and as `check_output_folder`, which is asked again at the end, hours later.
    """
    check_output_folder(out, force)
    with working_folder(out, force=force, resume=resume) as partial:
        yield partial
        check_output_folder(out, force)
        replace(partial, out)


@contextmanager
def working_folder(out: Path, *, force: bool = False, resume: bool = False) -> Iterator[Path]:
    """A locked `OUT.partial/` for a verb whose `OUT` is a file; the verb removes it once `OUT` is there.

    After an exception (Ctrl-C included) it stays, for `resume`. Without `resume` an earlier one is emptied first. A file in its
    place, which a killed process was writing, is removed.

    Raises:
        InputError: `out` exists and not `force`, cannot be written, or another process works on it.
    """
    check_output(out, force)
    partial = out.with_name(out.name + ".partial")
    with _translated(partial):
        if partial.is_file():
            with open(partial, "r+b") as file:
                _own(file.fileno(), partial, partial)
                partial.unlink()
        if partial.is_dir() and any(partial.iterdir()) and not (partial / "lock").exists():
            raise InputError(f"{partial} is a folder that edgefm did not make", do="choose another -o, or move that folder")
        partial.mkdir(exist_ok=True)
        handle = os.open(partial / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _own(handle, partial / "lock", partial)
        if not resume:
            for child in partial.iterdir():
                if child.name != "lock":
                    _remove(child)
        with _translated(partial):
            yield partial
    finally:
        os.close(handle)


def replace(partial: Path, out: Path) -> None:
    """Rename a finished `partial` folder to `out`, removing an older `out` only once the new one is complete."""
    old = out.with_name(f".{out.name}.edgefm-old")  # a name that nobody types
    _remove(old)
    if os.path.lexists(out):
        out.rename(old)
    partial.rename(out)
    # only now: without it another process could take the folder over before it has its name
    (out / "lock").unlink(missing_ok=True)
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def partial_file(out: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A locked, empty file `OUT.partial` that becomes `OUT`, flushed to disk, when the block ends without an exception.

    Its `name` is its path. After an exception it is removed. Where `OUT.partial` is a verb's working folder, it lies inside.

    Raises:
        InputError: `out` exists and not `force`, is a folder, cannot be written, or another process works on it.
    """
    check_output(out, force)
    if out.is_dir():
        raise InputError(f"{out} is a folder", expected="the name of a file", do="choose another -o")
    partial = out.with_name(out.name + ".partial")
    if partial.is_dir():
        partial /= out.name
    with _translated(partial):
        with open(partial, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666)) as file:
            _own(file.fileno(), partial, partial)
            try:
                file.truncate()
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(out)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise


def _own(handle: int, path: Path, what: Path) -> None:
    """Lock the open file, and make sure that `path` still names it: its last owner may have renamed it in between.

    `what` is being written, for the message.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        mine = False
    if not mine:
        raise InputError(f"another edgefm process is writing {what}", do="wait for it, or choose another -o")


def write_atomically(out: Path, data: bytes) -> None:
    """Write a small file whole or not at all: `OUT.partial`, flushed to disk, renamed."""
    partial = out.with_name(out.name + ".partial")
    with _translated(out):
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals (full disk, file-size limit, read-only) into an `InputError` naming `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, (FileNotFoundError, ConnectionError, TimeoutError)):
            raise
        raise InputError(
            f"{error.filename or path} cannot be written ({error.strerror})", do="free some space or choose another -o"
        ) from error

"""The verbs that use a bundle and look at a machine, as functions: signature and docstring are the command's, too.

Not the work itself: nothing heavy is imported before it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settled import say

if TYPE_CHECKING:
    from ..runtime.session import Answer, Session


def run(
    bundle: str | Path,
    images: tuple[str, ...],
    *,
    variant: str | None = None,
    threads: int | None = None,
    frame: int | None = None,
    abstain: bool = False,
    explain: str | None = None,
    allow_refused: bool = False,
) -> Iterator[Answer]:
    """Answer for images, folders and DICOM files with one .efm file.

    A file that cannot be read gets its own line; the others are answered, and the exit code is 2 at the end.

    Args:
        bundle: the .efm file.
        images: image files and folders; folders are searched for images at every depth.
        variant: one variant of the bundle, instead of the fastest on this machine (`edgefm inspect` lists them).
        threads: processor threads to use, all that this process may use by default.
        frame: the frame of files that hold several, from 0.
        abstain: say "abstain" (in JSON, a label that is null and abstain that is true) where the conformal set does not hold
            exactly one label, the decided one. For bundles made with quantize.coverage.
        explain: a folder for heat maps: each image as the model saw it, and over it where the class token of a vision
            transformer looked in its last layer. For bundles with a native variant, which then runs.
        allow_refused: use a bundle that the gate refused.

    Returns:
        One answer per image, in order, as they come.
    """
    from ..runtime.explain import check_folder
    from ..runtime.run import find_images
    from ..runtime.session import Session

    files = find_images(images)  # before the bundle: a wrong path costs nothing
    session = Session(bundle, variant=variant, threads=threads, allow_refused=allow_refused, explain=explain is not None)
    if abstain:
        _check_sets(session, bundle)
    folder = None if explain is None else Path(explain)
    if folder is not None:
        check_folder(folder)
    say(session.choice)
    return _answers(session, files, frame, abstain, folder)


def _check_sets(session: Session, bundle: str | Path) -> None:
    from msgspec import UNSET

    from ..errors import InputError

    if session.task.conformal is UNSET:
        session.close()
        raise InputError(
            f"{bundle} has no conformal quantile to abstain by",
            do="make it with edgefm quantize --set quantize.coverage=0.9, or leave --abstain out",
        )


def _answers(session: Session, files: list[Path], frame: int | None, abstain: bool, heat: Path | None) -> Iterator[Answer]:
    from ..errors import ImageError
    from ..runtime.answer import Answer
    from ..runtime.explain import write_heat

    with session:
        for answer in session.stream(files, frame=frame):
            if heat is not None and answer.error is None:
                try:
                    write_heat(session, answer.source, answer.source, heat, frame)
                except ImageError as error:
                    answer = Answer(
                        source=answer.source, variant=answer.variant, milliseconds=answer.milliseconds, error=str(error)
                    )
            if abstain and answer.abstain:
                answer.label = None
            yield answer


def inspect(source: str | Path, *, taps: bool = False, trust_remote_code: bool = False) -> dict[str, Any]:
    """Show what is in a bundle, or which inner nodes a model has.

    Args:
        source: an .efm file; with --taps any MODEL.
        taps: list the nodes whose features can be distilled.
        trust_remote_code: run Python code that comes with the model.

    Returns:
        The manifest's content in short, with `id`; with `taps` the list `taps` of name, kind and shape.
    """
    from ..inspection import inspect_bundle, inspect_taps

    return inspect_taps(source, trust_remote_code=trust_remote_code) if taps else inspect_bundle(Path(source))


def slim(bundle: str | Path, *, keep: tuple[str, ...], out: str | Path, force: bool = False) -> Path:
    """Copy a bundle with fewer variants.

    Args:
        bundle: the .efm file.
        keep: a variant to keep; may be given many times, or several with commas.
        out: the .efm file to write.
        force: replace OUT if it exists.

    Returns:
        `out`.
    """
    from ..bundle.slim import slim_bundle

    slim_bundle(Path(bundle), keep, Path(out), force=force)
    return Path(out)


def doctor(*, tune: bool = False) -> dict[str, Any]:
    """Tell what this machine can do, what is missing, and how to get it.

    Args:
        tune: first measure the GPU kernels' blocks on this card, which compiles them many times, and keep the fastest.

    Returns:
        Processor, memory, GPUs and their kernels, compiled module, engines, extras, cache folder, and `can_run`.

    Raises:
        InputError: `tune`, and there is no card that Triton's kernels run on.
    """
    from ..doctor import examine, tune_kernels

    if tune:
        tune_kernels()
    return examine()

"""The verbs that make a small model, as functions: signature and docstring are the command's, too.

Not the work itself: each verb lives in the room of its name, and nothing heavy is imported before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..progress import Bar
from .settled import read_recipe, read_recipe_of, recorded, run_recipe, say


def quickstart(
    *,
    data: str = "phantom:opacity?n=1100",
    out: str | Path = "runs/quickstart",
    recipe: str | Path | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Walk the whole road on generated images, or on yours, in minutes.

    Fits a teacher, distils a student, trains the same student without the teacher, quantizes, and compares them all on images
    that none of them has seen. With --data on your own images, as far as it gets in minutes; for more, `edgefm distill` and
    `edgefm quantize`.

    Args:
        data: a CSV, a folder of class folders, a MedMNIST .npz, medmnist:NAME or phantom:NAME, with labels.
        out: the folder that everything is written to.
        recipe: settings in YAML; every one has a default.
        set: one setting, over the recipe's; may be given many times.
        seed: of all randomness.
        force: replace OUT if it is a result of EdgeFM.

    Returns:
        `rows` (teacher, student without it, student in every variant: weights in millions, file size in MB, metrics with
        intervals, flips, milliseconds), `example`, an answer, `paths`, `verdict`, the gate's word, and `refused`, its reason
        or None.
    """
    from ..quickstart import RECIPE
    from ..quickstart import quickstart as walk

    settings = read_recipe(recipe, set, base=RECIPE, seed=seed)
    with Bar() as bar:
        return walk(data, Path(out), recipe=settings, force=force, report=say, bar=bar)


def adapt(
    model: Any,
    data: str | Path,
    out: str | Path,
    *,
    method: Literal["linear", "lora", "qlora", "full"] = "linear",
    recipe: str | Path | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    device: str = "cpu",
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Path:
    """Make a teacher of your task out of a foundation model.

    linear leaves the model as it is and fits a classifier on its features. lora leaves its weights as they are and trains small
    adapters beside them, qlora the same with these weights in 4 bits or int8, for less memory. full fine-tunes every weight. A
    run that was stopped goes on with --resume, and ends as if it had not been.

    Args:
        model: a timm name, hf-hub:NAME, a folder, a run directory, FILE.py:FUNCTION, or a frozen .onnx .xml .tflite .efm.
        data: a CSV, a folder of class folders, a MedMNIST .npz, medmnist:NAME or phantom:NAME, with labels.
        out: the run directory to write. It holds a timm model whole; of others linear names the place, so leave them there.
            With adapt.lora.by it is a folder of run directories, one for each value of that column.
        method: what learns, the classifier, adapters or everything; see adapt.lora of the recipe.
        recipe: settings in YAML; every one has a default.
        set: one setting, over the recipe's; may be given many times.
        seed: of weights, order and views.
        device: where to compute: cpu, cuda or cuda:N.
        tap: the inner node that is the model's embedding; `edgefm inspect MODEL --taps` lists them.
        licence: the model's licence as an SPDX id, where its source states none.
        trust_remote_code: run Python code that comes with the model.
        resume: go on where a stopped run left off.
        force: replace OUT if it is a result of EdgeFM.
        dry_run: tell what would be done, with minutes, disk and memory; do nothing.

    Returns:
        `out`, a run directory that every verb takes as MODEL.
    """
    from ..adapt import adapt as adapt_model

    with Bar() as bar:
        return adapt_model(
            model,
            data,
            Path(out),
            method=method,
            recipe=read_recipe(recipe, set, base=recorded(model), seed=seed),
            resume=resume,
            force=force,
            dry_run=dry_run,
            device=device,
            tap=tap,
            licence=licence,
            trust_remote_code=trust_remote_code,
            report=say,
            bar=bar,
        )


def distill(
    teacher: tuple[str, ...],
    data: str | Path,
    out: str | Path,
    student: str | None = None,
    *,
    cache: str | Path | None = None,
    without_teacher: bool = False,
    recipe: str | Path | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    device: str = "cpu",
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Path:
    """Teach a small student what a large teacher knows.

    Labels are optional; in a table, images of train may lack theirs. With --set distill.task=data the student learns the
    classes of the data, beside the features of a teacher that need not know them. With --set distill.losses.attention=1, or
    relation=1, a vision transformer also learns where a teacher of the same patches attends. The teacher is asked once about
    each random view of an image, and its answers are kept: other students, losses and temperatures take them from there. A
    run that was stopped goes on with --resume, and ends as if it had not been.

    Args:
        teacher: a timm name, hf-hub:NAME, a folder, a run directory, FILE.py:FUNCTION, or a frozen .onnx .xml .tflite .efm. May
            be given many times, for teachers of one task.
        data: a CSV, a folder, a MedMNIST .npz, medmnist:NAME or phantom:NAME.
        out: the run directory to write.
        student: a preset (below) or a timm name; the recipe's if left out.
        cache: the folder for the teacher's answers, which may be deleted afterwards; teacher-cache beside OUT by default.
        without_teacher: the control arm, to see what the teacher adds: the same student, views and number of updates, from
            labels alone. Of the teacher only the preprocessing and the names of the classes are used, and those of the data
            with distill.task=data.
        recipe: settings in YAML; every one has a default.
        set: one setting, over the recipe's; may be given many times.
        seed: of weights, order and views.
        device: where to compute: cpu, cuda or cuda:N.
        tap: the inner node of a frozen teacher that is its embedding; `edgefm inspect MODEL --taps` lists them.
        licence: the teacher's licence as an SPDX id, where its source states none.
        trust_remote_code: run Python code that comes with the teacher.
        resume: go on where a stopped run left off.
        force: replace OUT if it is a result of EdgeFM.
        dry_run: tell what would be done, with minutes, disk and memory; do nothing.

    Returns:
        `out`, a run directory that every verb takes as MODEL.
    """
    from ..distill import distill as distil_student

    teachers: tuple[Any, ...] = tuple(teacher) if isinstance(teacher, (list, tuple)) else (teacher,)
    settings = read_recipe_of(teachers, recipe, set, seed=seed, student=student)
    with Bar() as bar:
        return distil_student(
            teachers,
            settings.student,
            data,
            Path(out),
            recipe=settings,
            cache=None if cache is None else Path(cache),
            without_teacher=without_teacher,
            resume=resume,
            force=force,
            dry_run=dry_run,
            device=device,
            tap=tap,
            licence=licence,
            trust_remote_code=trust_remote_code,
            report=say,
            bar=bar,
        )


def quantize(
    model: Any,
    data: str | Path,
    out: str | Path,
    *,
    engines: tuple[str, ...] = (),
    max_drop: float | None = None,
    max_flips: float | None = None,
    calibrate: bool = False,
    recipe: str | Path | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Path:
    """Make a model int8 and write a bundle, unless decisions change.

    Compares int8 with fp32 on the val images first. If a metric falls by more than --max-drop, or more than --max-flips of
    the decisions change, it tries corrected biases, the most sensitive layers in float, and refitted logits, for at most
    quantize.minutes of the recipe. If nothing helps, the bundle holds the best and is marked as refused, and the
    exit code is 3. A run that was stopped meanwhile goes on with --resume; OUT.partial holds what it found.

    Args:
        model: a run directory, a timm name, hf-hub:NAME, a folder or FILE.py:FUNCTION.
        data: a CSV, a folder, a MedMNIST .npz, medmnist:NAME or phantom:NAME.
        out: the .efm file to write.
        engines: an engine, openvino, onnx or native (timm's vision transformers); may be given many times. All by default.
        max_drop: largest fall of any metric, absolute.
        max_flips: largest share of changed decisions, 0 to 1.
        calibrate: fit temperature and thresholds to the labels of the calibrate split first; without it the model's stay.
        recipe: settings in YAML; every one has a default.
        set: one setting, over the recipe's; may be given many times.
        seed: of the choice of calibration images.
        licence: the model's licence as an SPDX id, where its source states none.
        trust_remote_code: run Python code that comes with the model.
        resume: go on where a stopped run left off.
        force: replace OUT if it exists.
        dry_run: tell what would be done, with minutes, disk and memory; do nothing.

    Returns:
        `out`, the bundle.

    Raises:
        GateRefused: the gate said no; the bundle is there, marked refused.
        ParityError: an engine disagrees with the model.
    """
    from ..quantize import quantize as quantize_model

    options = {"quantize.engines": list(engines) or None, "quantize.max_drop": max_drop, "quantize.max_flips": max_flips}
    options["quantize.calibrate"] = calibrate or None
    with Bar() as bar:
        return quantize_model(
            model,
            data,
            Path(out),
            recipe=read_recipe(recipe, set, base=recorded(model), seed=seed, **options),
            licence=licence,
            trust_remote_code=trust_remote_code,
            resume=resume,
            force=force,
            dry_run=dry_run,
            report=say,
            bar=bar,
        )


def export(
    model: Any,
    out: str | Path,
    *,
    standalone: Literal["onnx", "openvino"] | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
) -> Path:
    """Write a model as an fp32 bundle, or as plain ONNX or OpenVINO.

    Every engine must answer as the model does (exit code 4 names the node where the difference starts).

    Args:
        model: a run directory, a timm name, hf-hub:NAME, a folder or FILE.py:FUNCTION.
        out: the .efm file, or with --standalone the folder, to write.
        standalone: a plain model with the preprocessing welded in, for people who run the engine themselves.
        licence: the model's licence as an SPDX id, where its source states none.
        trust_remote_code: run Python code that comes with the model.
        force: replace OUT if it is a file or a result of EdgeFM.

    Returns:
        `out`.
    """
    common = {"licence": licence, "trust_remote_code": trust_remote_code, "force": force, "report": say}
    if standalone is None:
        from ..export.fp32 import export as export_bundle

        return export_bundle(model, Path(out), recipe=run_recipe(model), **common)
    from ..export.standalone import export_standalone

    return export_standalone(model, standalone, Path(out), **common)

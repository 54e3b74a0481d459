"""The verb `verify`: a bundle, images and a reference brought together, measured, and written down.

Not the measuring (`verify/`): here the data are read, the reference is loaded, and files are written.

    FILE.efm ──▶ its variants ─┐
    MODEL ─────▶ the reference ┼─▶ answers for every image ──▶ statement ──▶ the table · report.json · .md · .html
    DATA ──────▶ one split ────┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BundleError, InputError
from .spec.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from .bundle import Bundle
    from .data import Dataset
    from .spec.task import Task
    from .verify.contenders import Contender

FILES = ("report.json", "report.md", "report.html")
CASES = "flipped.csv"
Report = Callable[[str], None]


def verify(
    path: Path,
    data: str | Path,
    *,
    against: Any,
    gate: str | Path | None,
    parity: str,
    seal: bool,
    robustness: str | None,
    by: tuple[str, ...],
    with_cases: bool,
    bench: str | Path | None,
    split: str,
    out: Path | None,
    recipe: str | Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    trust_remote_code: bool,
    allow_refused: bool,
    force: bool,
    report: Report,
    bar: Callable[[float, float], None],
) -> dict[str, Any]:
    """See `api.verify`; the findings are described in `verify/verdict.py`. Broken parity is a finding here, not an error.

    Raises:
        BundleError: not a good bundle, or a refused one and not `allow_refused`.
        InputError: anything about data, reference or output that cannot be used.
        ParityError: an answer that is not a finite number.
    """
    from .data import clusters
    from .report.times import read_times
    from .settings import changes, load_gate, load_recipe
    from .verify.columns import columns
    from .verify.gate import askable
    from .verify.robustness import plan
    from .verify.verdict import verdict

    if out is not None:
        _check_folder(out, force)
    with ExitStack() as opened:
        bundle = _open(path, allow_refused, opened)
        if with_cases and bundle.manifest.task.kind == "embedding":
            raise InputError(f"{path} decides nothing, so no case can be decided otherwise", do="leave --with-cases out")
        times = None if bench is None else read_times(Path(bench), bundle.id)
        own = recorded(bundle.manifest.recipe, "the bundle", report)
        settings = load_recipe(recipe, sets, base=own)
        dataset = _images(data, split, settings, bundle.manifest.task, report)
        who = clusters(dataset)
        parts, notes = columns(dataset.groups, by, who, named=dataset.patients is not None)
        for note in notes:
            report(note)
        limits = None
        if gate is not None or against is not None:
            limits = load_gate(gate, bundle.manifest.task.kind)
            limits = askable(limits, bundle.manifest.task, dataset.labels is not None, given=gate is not None)
        if robustness is not None:
            report(plan(robustness, len(dataset), bundle.manifest.task, dataset.labels is not None))
        reference = None
        if against is not None:
            reference = _reference(against, settings, trust_remote_code, allow_refused, opened)
        found = verdict(
            bundle,
            dataset,
            reference,
            groups=who,
            columns=parts,
            names=dataset.names if with_cases else None,
            about={"name": dataset.name, "split": split, "sha256": dataset.sha256(), "left_out": len(dataset.skipped)},
            seed=settings.seed if seed is None else seed,  # not of the cut: another one would measure on training images
            bar=bar,
            gate=limits,
            capped=parity == "all",
            modality=robustness,
        )
    changed = changes(settings, own, "data", "preprocess")
    found["asked"] = {"parity": parity, "settings": changed, "trust_remote_code": trust_remote_code}
    if times is not None:
        found["bench"] = times
    if out is not None:
        _write(out, found)
    if seal:
        report(f"sealed into {path} as {_sealed(path, found)}")
    return found


def _open(path: Path, allow_refused: bool, opened: ExitStack) -> Bundle:
    from .bundle import open_bundle

    bundle = opened.enter_context(open_bundle(path))
    refused = bundle.manifest.refused
    if refused is not None and not allow_refused:
        raise BundleError(f"{path} is marked as refused: {refused}", do="use another bundle, or allow it with --allow-refused")
    return bundle


def recorded(kept: Mapping[str, Any], whose: str, report: Report) -> Recipe:
    """How a model's own data were read and cut, so that the same data give the same split again; else the defaults.

    Args:
        kept: the recipe of its manifest. whose: what to call it.
    """
    import msgspec

    from .settings import data_changes

    try:
        found = msgspec.convert({key: kept[key] for key in ("seed", "data", "preprocess") if key in kept}, Recipe)
    except msgspec.ValidationError as error:
        report(f"the recipe in {whose} is not one of this version ({error}); the data are read with the defaults")
        return Recipe()
    changed = data_changes(found.data)
    if changed:
        report(f"the data are read as they were for {whose}, with {changed}; --set changes it")
    return found


def _images(data: str | Path, split: str, recipe: Recipe, task: Task, report: Report) -> Dataset:
    """The images of the split, every one readable, with labels as the bundle's task has them."""
    from .data import check_images, load_data

    dataset = load_data(data, recipe.data, labels=task.labels or None)
    for note in dataset.notes:
        report(note)
    dataset = replace(dataset, labels=_labels(dataset, task))
    chosen = dataset if split == "all" else dataset.take(dataset.of(split))
    if len(chosen) < len(dataset):
        report(
            f"{len(chosen)} of {len(dataset)} images are measured, the split '{split}'; --split all takes all, "
            "where the model has seen none of them"
        )
    checked = check_images(chosen)
    for problem in checked.skipped:
        report(f"left out: {problem}")
    return checked


def _labels(dataset: Dataset, task: Task) -> np.ndarray | None:
    """What occurs one at a time in the data may still be a task of several labels."""
    import numpy as np

    theirs = dataset.task
    if dataset.labels is None or task.kind == "embedding" or (theirs.kind, theirs.labels) == (task.kind, task.labels):
        return dataset.labels
    if task.kind == "multilabel" and theirs.labels == task.labels:
        return np.eye(len(task.labels), dtype=np.uint8)[dataset.labels]
    raise InputError(
        f"{dataset.name} is labelled {_some(theirs.labels)} ({theirs.kind})",
        expected=f"the labels of the bundle: {_some(task.labels)} ({task.kind})",
        do="rename the labels, or name the right column with --set data.label=NAME",
    )


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:6]) + (f", … ({len(labels)})" if len(labels) > 6 else "")


def _reference(against: Any, recipe: Recipe, trust_remote_code: bool, allow_refused: bool, opened: ExitStack) -> Contender:
    """What `--against` names, ready to answer: a bundle by the runtime, anything else by torch."""
    if isinstance(against, (str, Path)) and Path(against).suffix.lower() == ".efm":
        from .verify.contenders import in_fp32, variants_of

        contenders, _ = variants_of(_open(Path(against), allow_refused, opened))
        best = in_fp32(contenders) or contenders[0]
        return replace(best, name=f"{Path(against).stem}: {best.name}")
    return torch_reference(against, window=recipe.preprocess.window16, trust_remote_code=trust_remote_code)


def torch_reference(against: Any, *, window: tuple[float, float] | None = None, trust_remote_code: bool = False) -> Contender:
    """Any MODEL in torch, in fp32 on the CPU, one image at a time; 16-bit pixels through `window`, if there is one.

    Raises:
        InputError: as `models.load_model`, or the model is in training mode.
    """
    from msgspec.structs import replace as changed

    from .export.onnx import check_mode
    from .models import load_model
    from .verify.contenders import Contender

    model = load_model(against, trust_remote_code=trust_remote_code)
    check_mode(model.module, model.name)

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            outputs = model.module(torch.from_numpy(batch))
        found = {"logits": outputs.logits, "embedding": outputs.embedding}
        return {name: rows.float().numpy() for name, rows in found.items() if rows is not None}

    return Contender(
        name=f"{Path(model.name).name}: torch",
        precision="fp32",
        task=model.task,
        preprocess=model.preprocess if window is None else changed(model.preprocess, window16=window),
        predict=predict,
    )


def _sealed(path: Path, found: dict[str, Any]) -> str:
    """Append the findings to the bundle, whose id stays, without cases: it travels. The name of the member, by their hash.

    Raises:
        InputError: the same findings are there already, or the file cannot be written anew.
    """
    import hashlib

    from .bundle import append_evidence

    content = _json({**found, "cases": None})
    name = f"evidence/verify-{hashlib.sha256(content).hexdigest()[:12]}.json"
    append_evidence(path, name, content)
    return name


def _check_folder(out: Path, force: bool) -> None:
    """Raise `InputError` unless the files may be written into the folder `out`, which is made if needed."""
    from .partial import check_output

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", expected="a folder", do="choose another -o")
    for name in (*FILES, CASES):
        check_output(out / name, force)
        if (out / name).is_dir():
            raise InputError(f"{out / name} is a folder", expected="a file of verify's", do="choose another -o")


def _write(out: Path, found: dict[str, Any]) -> None:
    """The files, each whole or not at all, first what cost minutes to measure. Pages and cases from before go first of all:
    they are another model's, and must not stand beside the record of this one if something fails on the way."""
    from .partial import write_atomically
    from .report.findings import page
    from .report.markdown import markdown
    from .report.page import html
    from .verify.cases import cases_csv

    record, *pages = FILES
    for name in (*pages, CASES):
        (out / name).unlink(missing_ok=True)
    write_atomically(out / record, _json(found))
    if found["cases"] is not None:
        write_atomically(out / CASES, cases_csv(found["cases"], found["task"]["labels"]))
    shown = page(found)
    for name, text in zip(pages, (markdown(shown), html(shown))):
        write_atomically(out / name, text.encode())


def _json(found: dict[str, Any]) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"

"""The bundle's card: the topics of a model card for medical devices, each answered from the manifest or marked as open.

Not evidence of its own: every line repeats the manifest, and what a manufacturer must say is not guessed.

The topics are those that the FDA's draft guidance of 7 January 2025, "Artificial Intelligence-Enabled Device Software
Functions: Lifecycle Management and Marketing Submission Recommendations", asks of labelling and of its example of a card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from ..spec.manifest import Ancestor, Manifest, Variant
from ..spec.preprocess import Preprocess

OPEN = "to be stated by the manufacturer"


def card(manifest: Manifest, preprocess: Preprocess) -> str:
    """The card as Markdown; the same text for the same manifest."""
    lines = [f"# {manifest.name}", ""]
    if manifest.refused is not None:
        lines += [f"**Refused:** {manifest.refused}", ""]
    lines += [f"Made by EdgeFM {manifest.edgefm}. Not a medical device: whoever uses it answers for that use."]
    sections: dict[str, Sequence[str]] = {
        "Device": _open("manufacturer and contact", "version and date of release", "regulatory status"),
        "Intended use": _open(
            "condition and clinical question", "patients it is meant for", "users and their training", "place in the workflow"
        ),
        "Answers": _answers(manifest),
        "Takes": [_takes(preprocess)],
        "Model": list(_model(manifest)),
        "Data": list(_data(manifest)),
        "Performance": [*_variants(manifest.variants), "", *_performance(manifest)],
        "Limits": list(_limits(manifest)),
        "Descends from": [*(_ancestor(each) for each in manifest.lineage)],
        "In use": _open("monitoring of its performance", "updates", "how to report an error"),
    }
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join([*lines, ""])


def licences(manifest: Manifest) -> str:
    """Every ancestor's licence as it was stated, one per line."""
    unknown = [ancestor.name for ancestor in manifest.lineage if ancestor.licence == "unknown"]
    lines = [
        "This model inherits the restrictions of everything it descends from. Licences as stated by their sources:",
        "",
        *(f"- {ancestor.name} ({ancestor.role}): {ancestor.licence}" for ancestor in manifest.lineage),
    ]
    if unknown:
        lines += ["", f"Nobody stated a licence for {', '.join(unknown)}: ask before you use or pass on this model."]
    return "\n".join([*lines, ""])


def _open(*topics: str) -> list[str]:
    return [f"- {topic[0].upper()}{topic[1:]}: {OPEN}" for topic in topics]


def _answers(manifest: Manifest) -> list[str]:
    task = manifest.task
    if task.kind == "embedding":
        return ["An embedding; no classes."]
    rule = {
        "binary": f"{task.labels[-1]} from a probability of {task.thresholds[0] if task.thresholds else 0:g} on",
        "multiclass": "the most probable one",
        "multilabel": "every label whose probability reaches its threshold",
    }[task.kind]
    listed = list(task.labels)
    if task.kind == "multilabel":
        listed = [f"{label} (from {threshold:g})" for label, threshold in zip(task.labels, task.thresholds)]
    lines = [f"{task.kind}: {', '.join(listed)}.", f"Decision: {rule}. Temperature {task.temperature:g}."]
    if task.conformal is not UNSET:
        share, quantile = 100 * task.conformal.coverage, task.conformal.quantile
        lines.append(
            f"Conformal set: every label with 1 - p <= {quantile:.6g}; made to hold the true one for {share:g} % of images."
        )
    return lines


def _takes(preprocess: Preprocess) -> str:
    return (
        f"One image, grey or colour, 8 or 16 bits, any size. It is resized ({preprocess.filter}, {preprocess.resize}) to "
        f"{preprocess.resize_to} and cut to {preprocess.size} x {preprocess.size} pixels, {preprocess.channels} channels; "
        f"16-bit values from {preprocess.window16[0]:g} to {preprocess.window16[1]:g} span black to white."
    )


def _model(manifest: Manifest) -> Iterator[str]:
    yield "- It is a neural network that was trained on examples (AI). Its weights do not change in use."
    for each in manifest.lineage:
        if each.role == "model":
            yield f"- Weights: {each.name}" + (f", SHA-256 {each.sha256}" if each.sha256 else "")
    yield f"- Runs as: {', '.join(each.name for each in manifest.variants)}; the device chooses the fastest that answers alike"
    yield f"- Whether and how a person checks each answer: {OPEN}"


def _data(manifest: Manifest) -> Iterator[str]:
    data = [each for each in manifest.lineage if each.role == "data"]
    for each in data:
        yield f"- {each.name}" + (f", SHA-256 {each.sha256}" if each.sha256 else "")
    if not data:
        yield "- No data are recorded: the bundle was made of the weights alone"
    calibration = manifest.recipe.get("quantize", {}).get("calibration_images") if manifest.recipe else None
    if calibration and any(each.precision == "int8" for each in manifest.variants):
        yield f"- int8 was calibrated on {calibration} images of the split 'calibrate'"
    yield f"- Sites, devices, years, age, sex and origin of the patients, and how labels were made: {OPEN}"


def _performance(manifest: Manifest) -> Iterator[str]:
    if any(each.accuracy for each in manifest.variants):
        yield "Measured on the split 'val' when the bundle was built; flips are decisions that differ from the model in fp32."
    else:
        yield "Not measured: the bundle was made without data."
    yield (
        "On test images, with intervals and in subgroups: in `evidence/`, if `edgefm verify --seal` was run; "
        f"else not measured. On the patients of the intended use: {OPEN}"
    )


def _limits(manifest: Manifest) -> Iterator[str]:
    task = manifest.task
    if task.kind in ("binary", "multiclass"):
        yield f"- Every image gets one of {len(task.labels)} answers, whatever it shows: other images are not recognised"
    if task.kind == "multilabel":
        yield "- It looks for the labels above and for nothing else; images of another kind are not recognised"
    if task.kind == "embedding":
        yield "- An embedding is no finding: what is concluded from it needs a proof of its own"
    if task.kind != "embedding" and task.temperature == 1:
        yield "- Its probabilities were not calibrated (temperature 1): `edgefm verify` shows how far they can be trusted"
    yield f"- Known failures and contraindications: {OPEN}"


def _ancestor(ancestor: Ancestor) -> str:
    return f"- {ancestor.role}: {ancestor.name} (licence: {ancestor.licence})"


def _variants(variants: tuple[Variant, ...]) -> list[str]:
    metrics = list(dict.fromkeys(name for variant in variants for name in variant.accuracy))
    head = ["variant", *metrics, "flips", "parity"]
    rows = [head, ["---"] * len(head)]
    for variant in variants:
        values = [variant.accuracy.get(name) for name in metrics] + [variant.flips]
        shown = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append([variant.name, *shown, "" if variant.parity is None else f"{variant.parity:.1e}"])
    return ["| " + " | ".join(row) + " |" for row in rows]

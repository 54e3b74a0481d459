"""The bundle's card: what the model is, what goes in, how well it does, and whose licences bind it, for people.

Not evidence of its own: every line repeats the manifest.
"""

from __future__ import annotations

from msgspec import UNSET

from ..spec.manifest import Manifest, Variant
from ..spec.preprocess import Preprocess


def card(manifest: Manifest, preprocess: Preprocess) -> str:
    """The card as Markdown; the same text for the same manifest."""
    lines = [f"# {manifest.name}", ""]
    if manifest.refused is not None:
        lines += [f"**Refused:** {manifest.refused}", ""]
    lines += [
        f"Made by EdgeFM {manifest.edgefm}. Not a medical device: whoever uses it answers for that use.",
        "",
        "## Answers",
        "",
        *_answers(manifest),
        "",
        "## Takes",
        "",
        f"One image, grey or colour, 8 or 16 bits, any size. It is resized ({preprocess.filter}, {preprocess.resize}) to "
        f"{preprocess.resize_to} and cut to {preprocess.size} x {preprocess.size} pixels, {preprocess.channels} channels; "
        f"16-bit values from {preprocess.window16[0]:g} to {preprocess.window16[1]:g} span black to white.",
        "",
        "## Variants",
        "",
        *_variants(manifest.variants),
        "",
        "## Descends from",
        "",
        *(f"- {ancestor.role}: {ancestor.name} (licence: {ancestor.licence})" for ancestor in manifest.lineage),
        "",
    ]
    return "\n".join(lines)


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


def _variants(variants: tuple[Variant, ...]) -> list[str]:
    metrics = list(dict.fromkeys(name for variant in variants for name in variant.accuracy))
    head = ["variant", *metrics, "flips", "parity"]
    rows = [head, ["---"] * len(head)]
    for variant in variants:
        values = [variant.accuracy.get(name) for name in metrics] + [variant.flips]
        shown = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append([variant.name, *shown, "" if variant.parity is None else f"{variant.parity:.1e}"])
    return ["| " + " | ".join(row) + " |" for row in rows]

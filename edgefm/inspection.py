"""What `edgefm inspect` finds: a bundle's manifest in short, or the inner nodes of a model.

Not the checking of a bundle (`bundle/`) and not the finding of nodes (`models/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .table import size, table


def inspect_bundle(path: Path) -> dict[str, Any]:
    """A bundle in short, as plain values; every byte of it is checked first. Raises `BundleError`."""
    import msgspec

    from .bundle import open_bundle

    if path.exists() and path.suffix.lower() != ".efm":
        raise InputError(f"{path} is not an .efm file", do="add --taps to look into a model")
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        variants = [
            {
                "name": variant.name,
                "bytes": sum(manifest.entries[name].size for graph in variant.graphs.values() for name in graph.files),
                "accuracy": variant.accuracy,
                "flips": variant.flips,
                "parity": variant.parity,
                "bf16": variant.bf16,
                "evidence": variant.evidence,
            }
            for variant in manifest.variants
        ]
        return {
            "path": str(path),
            "id": bundle.id,
            "bytes": path.stat().st_size,
            "format": manifest.format,
            "name": manifest.name,
            "edgefm": manifest.edgefm,
            "refused": manifest.refused,
            "task": msgspec.to_builtins(manifest.task),
            "preprocess": msgspec.to_builtins(bundle.preprocess),
            "variants": variants,
            "lineage": [msgspec.to_builtins(ancestor) for ancestor in manifest.lineage],
            "licences": sorted({ancestor.licence for ancestor in manifest.lineage}),
            "golden": len(manifest.golden),
            "recipe": manifest.recipe,
            "versions": manifest.versions,
        }


def inspect_taps(source: str | Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """The nodes of a model whose features can be distilled. Raises `InputError`."""
    from .models import list_taps

    taps = list_taps(source, trust_remote_code=trust_remote_code)
    return {"source": str(source), "taps": [{"name": tap.name, "kind": tap.kind, "shape": list(tap.shape)} for tap in taps]}


def describe(found: dict[str, Any]) -> list[str]:
    """The findings as lines for a person."""
    if "taps" in found:
        return table(("node", "kind", "shape"), [(tap["name"], tap["kind"], _shape(tap["shape"])) for tap in found["taps"]])
    return _bundle_lines(found)


def _bundle_lines(found: dict[str, Any]) -> list[str]:
    task, prepare = found["task"], found["preprocess"]
    labels = ", ".join(task["labels"]) or "no labels"
    decision = f"; threshold {', '.join(f'{each:.4f}' for each in task['thresholds'])}" if task["thresholds"] else ""
    if "conformal" in task:
        decision += f"; sets of {100 * task['conformal']['coverage']:g} % coverage"
    shape = " x ".join(str(prepare[key]) for key in ("channels", "size", "size"))
    low, high = prepare["window16"]
    lines = [
        f"{found['path']}: {found['name']}, format {found['format']}, {size(found['bytes'])}, every byte checked",
        *([f"REFUSED: {found['refused']}"] if found["refused"] else []),
        "",
        f"id          {found['id']}",
        f"task        {task['kind']}: {labels}{decision}; temperature {task['temperature']:g}",
        f"input       {shape}, {prepare['resize']} side to {prepare['resize_to']}, {prepare['filter']}; "
        f"16-bit window {low:g} to {high:g}",
        f"golden      {found['golden']} generated input{'s' * (found['golden'] != 1)} with expected outputs",
        "made with   "
        + ", ".join([f"EdgeFM {found['edgefm']}", *(f"{name} {each}" for name, each in sorted(found["versions"].items()))]),
        "",
        *variant_lines(found),
        "",
    ]
    rows = [(each["role"], each["name"], each["licence"], (each["sha256"] or "")[:16]) for each in found["lineage"]]
    return lines + (table(("lineage", "name", "licence", "sha256"), rows) if rows else ["lineage     none stated"])


def variant_lines(found: dict[str, Any]) -> list[str]:
    """Its variants, with size, accuracy and flips, as a table."""
    metrics = sorted({name for variant in found["variants"] for name in variant["accuracy"]})
    rows = [
        (
            variant["name"],
            size(variant["bytes"]),
            *[_number(variant["accuracy"].get(name)) for name in metrics],
            "-" if variant["flips"] is None else f"{100 * variant['flips']:.2f} %",
        )
        for variant in found["variants"]
    ]
    return table(("variant", "size", *[name.replace("_", " ") for name in metrics], "flips"), rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join("N" if side < 0 else str(side) for side in shape)

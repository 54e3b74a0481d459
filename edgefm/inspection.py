"""What `edgefm inspect` finds: a bundle's manifest in short, or the inner nodes of a model.

Not the checking of a bundle (`bundle/`) and not the finding of nodes (`models/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import InputError


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

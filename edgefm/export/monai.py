"""`metadata.json` of a bundle: what MONAI's bundle specification asks of every model, filled from the manifest.

Not a MONAI bundle: the weights lie in the variants, where no MONAI loader looks for them. Catalogues that read MONAI's metadata
can list the model by this file. The keys: https://docs.monai.io/en/stable/mb_specification.html, "metadata.json File".
"""

from __future__ import annotations

import json
from typing import Any

from ..spec.manifest import Manifest
from ..spec.preprocess import Preprocess

MONAI = "1.5.0"  # whose specification these keys follow; MONAI itself takes no part
UNSTATED = "to be stated by the manufacturer"


def monai_metadata(manifest: Manifest, preprocess: Preprocess) -> bytes:
    """The file, UTF-8; the same bytes for the same manifest. Of it all that nobody stated says so."""
    task, own = manifest.task, manifest.lineage[0] if manifest.lineage else None
    versions = manifest.versions
    licences = "; ".join(f"{each.name}: {each.licence}" for each in manifest.lineage)
    best = manifest.variants[0]
    packages = {name: versions[name] for name in ("onnxruntime", "openvino") if name in versions}
    weights = own.sha256[:12] if own is not None and own.sha256 else "unknown"
    found: dict[str, Any] = {
        "version": f"0.0.0+{weights}",
        "changelog": {f"0.0.0+{weights}": f"made by EdgeFM {manifest.edgefm}"},
        "monai_version": MONAI,
        "pytorch_version": versions.get("torch", "unknown"),
        "numpy_version": versions.get("numpy", "unknown"),
        "required_packages_version": packages,  # of MONAI from 1.4 on; before
        "optional_packages_version": packages,
        "name": manifest.name,
        "task": _task(manifest),
        "description": f"{manifest.name}, made by EdgeFM {manifest.edgefm}. Variants: "
        f"{', '.join(each.name for each in manifest.variants)}. `edgefm run` reads it; MONAI does not.",
        "authors": UNSTATED,
        "copyright": f"as its ancestors' licences say: {licences or 'none stated'}",
        "intended_use": UNSTATED,
        "data_source": "; ".join(each.name for each in manifest.lineage if each.role == "data") or "unknown",
        "eval_metrics": {name: round(value, 6) for name, value in best.accuracy.items()},
        "network_data_format": {"inputs": {"images": _input(preprocess)}, "outputs": _outputs(manifest)},
    }
    if task.kind == "embedding":
        del found["eval_metrics"]
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode()


def _task(manifest: Manifest) -> str:
    task = manifest.task
    return "an embedding of an image" if task.kind == "embedding" else f"{task.kind} classification: {', '.join(task.labels)}"


def _input(preprocess: Preprocess) -> dict[str, Any]:
    """The prepared tensor that every variant takes; how pixels become it is in preprocess.json."""
    names = ("red", "green", "blue") if preprocess.channels == 3 else ("grey",)
    low, high = zip(*(((0 - mean) / std, (1 - mean) / std) for mean, std in zip(preprocess.mean, preprocess.std)))
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": preprocess.channels,
        "spatial_shape": [preprocess.size, preprocess.size],
        "dtype": "float32",
        "value_range": [round(min(low), 6), round(max(high), 6)],
        "is_patch_data": False,
        "channel_def": {str(number): names[number] for number in range(preprocess.channels)},
    }


def _outputs(manifest: Manifest) -> dict[str, Any]:
    """Each output of the first variant's encoder."""
    graph = next(iter(manifest.variants[0].graphs.values()))
    found = {}
    for tensor in graph.outputs:
        logits = tensor.name == "logits"
        width = tensor.shape[-1]
        found[tensor.name] = {
            "type": "tuples",
            "format": "classes" if logits else "latent",
            "modality": "n/a",
            "num_channels": width,
            "spatial_shape": [],
            "dtype": tensor.dtype,
            "value_range": [],
            "is_patch_data": False,
            "channel_def": dict(zip(map(str, range(width)), manifest.task.labels)) if logits else {},
        }
    return found

"""Make a smaller bundle: some variants of an existing one, and everything that is not a variant.

Not a conversion: what is kept is kept byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..errors import InputError
from ..partial import check_output
from .names import LABELS, PREPROCESS
from .read import open_bundle
from .write import write_bundle


def slim_bundle(path: str | Path, keep: Sequence[str], out: Path, *, force: bool = False) -> str:
    """Write `out` with the variants `keep` of the bundle at `path`, in the order they have there.

    Evidence and signatures are left behind: they speak of the old id. With all variants kept the id stays the same.

    Returns:
        The id of the new bundle.

    Raises:
        BundleError: `path` is not a good bundle.
        InputError: `keep` is empty or names a variant that is not there, or `out` cannot be written.
    """
    check_output(out, force, ".efm")
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        there = [variant.name for variant in manifest.variants]
        unknown = [name for name in keep if name not in there]
        if unknown or not keep:
            found = f"{path} has no variant {unknown[0]!a}" if unknown else f"no variant of {path} would be kept"
            raise InputError(found, expected=f"some of {', '.join(there)}", do="name the variants to keep with --keep")
        variants = tuple(variant for variant in manifest.variants if variant.name in keep)
        # a variant may use another one's file, so folders alone do not decide
        used = {file for variant in variants for graph in variant.graphs.values() for file in graph.files}
        folders = tuple(f"variants/{variant.name}/" for variant in variants)
        entries = {
            name: bundle.view(name)
            for name in manifest.entries
            if name not in (LABELS, PREPROCESS)
            and (not name.startswith("variants/") or name.startswith(folders) or name in used)
        }
        return write_bundle(out, msgspec.structs.replace(manifest, variants=variants), bundle.preprocess, entries, force=force)

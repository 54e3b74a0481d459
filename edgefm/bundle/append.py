"""Add evidence or a signature to a finished bundle; its id stays the same.

Not an edit in place: the archive is written anew beside the old one and takes its name when it is complete.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .names import MANIFEST, check_names, is_appended
from .read import open_bundle
from .write import assemble, measure


def append_evidence(path: str | Path, name: str, data: bytes) -> None:
    """Add the member `name`, in `evidence/` or `signatures/`, behind all others.

    Raises:
        BundleError: `path` is not a good bundle, or `name` is not a name that it may hold.
        InputError: `name` is in another folder or there already, or the bundle cannot be written anew.
    """
    if not is_appended(name):
        raise InputError(f"{name} cannot be appended", expected="a name in evidence/ or signatures/")
    with open_bundle(path) as bundle:
        if name in bundle.names():
            raise InputError(f"{path} has {name} already", do="choose another name; what was appended is never changed")
        check_names([*bundle.names(), name])
        sources = {member: bundle.view(member) for member in bundle.names() if member != MANIFEST}
        sources[name] = memoryview(data)
        measured = {member: bundle.manifest.entries.get(member) or measure(source) for member, source in sources.items()}
        assemble(bundle.path, bytes(bundle.view(MANIFEST)), sources, measured, force=True)

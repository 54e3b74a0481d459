"""Which names a bundle may hold, and in which order: the rules that keep an unpacked bundle inside its folder on every system.

Not the bytes of the archive (`layout.py`), and not whether the manifest lists a name (`read.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BundleError

MANIFEST, LABELS, PREPROCESS = "manifest.json", "labels.json", "preprocess.json"
SINGLE = (MANIFEST, LABELS, PREPROCESS, "preprocess.onnx", "card.md", "metadata.json")
APPENDED = ("evidence/", "signatures/")
LONGEST = 255

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?"
_FOLDERS = re.compile(
    rf"(?:variants/(?:openvino|onnx|native)-(?:fp32|int8)|adapters/{_PART}|golden|licences|evidence|signatures)(?:/{_PART})+"
)


def is_appended(name: str) -> bool:
    """Whether this member may be added later, outside the bundle id."""
    return name.startswith(APPENDED)


def check_name(name: str) -> None:
    """Raise `BundleError` unless a bundle may hold a member of this name."""
    shown = ascii(name)
    if "\\" in name:
        raise BundleError(f"the name {shown} has a backslash", expected="'/' between folders")
    if name.startswith("/") or name[1:2] == ":":
        raise BundleError(f"the name {shown} is absolute", expected="a name inside the bundle")
    if ".." in name.split("/"):
        raise BundleError(f"the name {shown} leads out of the bundle", expected="a name inside the bundle")
    if len(name) > LONGEST:
        raise BundleError(f"the name {shown[:40]}… has {len(name)} characters", expected=f"at most {LONGEST}")
    if name not in SINGLE and not _FOLDERS.fullmatch(name):
        raise BundleError(
            f"the name {shown} has no place in a bundle",
            expected=f"{', '.join(SINGLE)} or a file in variants/ENGINE-PRECISION/, adapters/NAME/, golden/, licences/, "
            "evidence/ or signatures/, of ASCII letters, digits, and . _ + - inside a word",
        )


def check_names(names: Sequence[str]) -> None:
    """Raise `BundleError` unless these are the names of a bundle in canonical order.

    The order: `manifest.json`, the others by their bytes, then what was appended, in the order of appending. No name repeats
    another in another case, and none is also a folder: a case-blind file system could not unpack such a bundle.
    """
    for name in names:
        check_name(name)
    folded: set[str] = set()
    for name in names:
        if name.lower() in folded:
            raise BundleError(f"the name {name} comes twice (capitals are not told apart)")
        folded.add(name.lower())
    for name in folded:
        for end in (i for i, letter in enumerate(name) if letter == "/"):
            if name[:end] in folded:
                raise BundleError(f"{name[:end]} is a file and a folder at once")
    listed = [name for name in names if not is_appended(name)]
    wanted = [MANIFEST, *sorted(name for name in listed if name != MANIFEST), *(name for name in names if is_appended(name))]
    for found, expected in zip(names, wanted, strict=False):
        if found != expected:
            raise BundleError(f"{found} comes out of order", expected=f"{expected} at its place")

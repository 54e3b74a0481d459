"""The `.efm` file: written, opened, made smaller, added to. `docs/efm-format.md` describes it byte by byte.

Not what the members mean: engines, preprocessing and verification are other rooms.
"""

from __future__ import annotations

from .append import append_evidence
from .read import Bundle, open_bundle
from .slim import slim_bundle
from .write import write_bundle

__all__ = ["Bundle", "append_evidence", "open_bundle", "slim_bundle", "write_bundle"]

"""EdgeFM: medical foundation models made small enough for the PC a hospital already has, with proof that nothing was lost.

Nothing heavy is imported here: each name loads when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

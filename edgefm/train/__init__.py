"""The one training loop and what it stands on. Not a verb: `distill/` (and `quickstart`) say what is learned from what."""

import os

# Torch's threads (libgomp) spin while they wait, and on a PC that does other work too they spin on time the others would use:
# with this a busy PC trains much faster. Read when torch is loaded; the user's own value stays.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

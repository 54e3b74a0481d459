"""The one training loop and what it stands on. Not a verb: `distill/` (and `quickstart`) say what is learned from what."""

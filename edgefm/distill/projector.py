"""Linear maps from a student's features into its teacher's space. They learn along with the student and are thrown away.

Not part of the student: where the student itself must answer in the teacher's space, its last layer is the map.
"""

from __future__ import annotations

import torch
from torch import nn


class Projectors(nn.Module):
    """One map for pooled features, one for patch tokens; None where the features need none.

    Args:
        features, tokens: (student's D, teacher's D). seed: of the weights.
    """

    def __init__(self, features: tuple[int, int] | None, tokens: tuple[int, int] | None, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.features = None if features is None else nn.Linear(*features)
            self.tokens = None if tokens is None else nn.Linear(*tokens)

    @property
    def learn(self) -> bool:
        """Whether there is anything in it."""
        return self.features is not None or self.tokens is not None

"""The verb `distill`: a small student learns what a large teacher knows. Not the training loop (`train/`) and not int8."""

from .. import train as _before_torch  # noqa: F401 - see there
from .distill import distill

__all__ = ["distill"]

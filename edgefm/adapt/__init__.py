"""The verb `adapt`: a foundation model learns a task from labels. Not the training loop (`train/`) and no small student."""

from .. import train as _before_torch  # noqa: F401 - see there
from .adapt import adapt

__all__ = ["adapt"]

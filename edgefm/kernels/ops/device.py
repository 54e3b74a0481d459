"""That an operator's tensors lie together. Not which implementation runs there: `select.py`."""

from __future__ import annotations

from torch import Tensor

from ...errors import InputError


def check_one_device(*tensors: Tensor | None) -> None:
    """Raise `InputError` if tensors lie on several devices; None counts for nothing."""
    devices = {each.device for each in tensors if each is not None}
    if len(devices) > 1:
        raise InputError(f"tensors on {', '.join(sorted(map(str, devices)))}", expected="one device", do="move them")

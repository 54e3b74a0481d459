"""The refusal for a machine without the libraries of the `[compress]` extra.

Not a check at start: what is missing shows when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingExtra

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "safetensors", "huggingface_hub", "onnx", "openvino")


@contextmanager
def compress_extra() -> Iterator[None]:
    """Turn a failed import of one of `LIBRARIES` into `MissingExtra`."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        raise MissingExtra(library, "compress", "working with models") from error

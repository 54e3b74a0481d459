"""How pixels become the tensor a model was trained on: one description, read by every implementation.

Not an implementation: `runtime/preprocess.py` (numpy, the oracle), `csrc/preprocess.cpp` and `export/preprocess_graph.py`
follow it, and golden tests hold the three together.

The steps, all in float32, for pixels `[H, W]` or `[H, W, C]` (C = 1, 3 or 4) of dtype uint8 or uint16:

1. **alpha** (C = 4): the fourth channel is dropped, as `PIL.Image.convert("RGB")` does and so every teacher's own transform.
2. **window**: uint8 pixels are taken as already windowed, x = p / 255; uint16 pixels are raw,
   x = clip((p - low) / (high - low), 0, 1) with (low, high) = `window16`.
3. **colour**: `channels` = 3 repeats a grey image three times; `channels` = 1 turns colour into luma,
   0.299 R + 0.587 G + 0.114 B (ITU-R BT.601-7, section 2.5.1).
4. **resize**, antialiased and separable. `resize` = "shorter": the shorter side becomes `resize_to` pixels and the longer
   one floor(resize_to * long / short), as torchvision does; "squash": both sides become `resize_to`.
   For output pixel j of an axis that goes from n to m pixels, with scale = n / m, support = max(scale, 1) and i = 0 .. n - 1,
   weight(j, i) is proportional to k((i + 0.5 - (j + 0.5) * scale) / support), normalised to sum 1 over i inside the image.
   The argument is ((2 i + 1) m - (2 j + 1) n) / (2 max(n, m)): an exact fraction, best formed in integers.
   k is the cubic kernel with a = -0.5 (Keys 1981, eq. 4) for "bicubic", the triangle max(0, 1 - |t|) for "bilinear":
   Pillow's definition in floating point, without its 8-bit rounding between the passes.
   (Pillow cuts the window to the integers [floor(centre - s + 0.5), floor(centre + s + 0.5)), s = support * k's radius; at
   the cut k is 0, so nothing changes.) Horizontal before vertical; the order makes no difference but rounding.
   An axis with n = m is left as it is.
5. **clip** to [0, 1]: bicubic overshoots at edges.
6. **crop**: the centre `size` x `size`, its corner at round((m - size) / 2), halves to even, as torchvision does.
7. **normalise**: (x - mean[c]) / std[c]; layout `[C, size, size]`.

A teacher's own transform (torchvision on an 8-bit Pillow image) rounds and clips after each pass. It differs from this by 0.27
of 1/255 on average (fundus photographs 565 x 584 to 256, cropped to 224); bilinear by less than 1 everywhere; bicubic by up to
3.3 there (0.007 % of the values by more than 1.5) and up to 21 in noise with black and white side by side.
`tests/runtime/test_preprocess_teacher.py` measures it.

Only the rows and columns that survive the crop need computing: an 8 x 3000 image costs no more than its centre.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0.0)]
Side = Annotated[int, Meta(ge=1, le=8192)]


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The input contract of one model.

    Attributes:
        channels: 1 or 3, the channels of the model's input tensor `[N, channels, size, size]`, float32.
        size: side S of the square the model sees, pixels.
        resize: "shorter" keeps the aspect ratio, "squash" does not.
        resize_to: target of the resize, pixels, at least `size`; `size` for no crop.
        filter: "bicubic" or "bilinear", both antialiased.
        window16: (low, high) of uint16 pixels in stored values, within 1e6 and 0.001 apart or more; 8-bit pixels are 0 to 255.
        mean, std: per channel, in units of the windowed range [0, 1].
    """

    channels: Literal[1, 3] = 3
    size: Side = 224
    resize: Literal["shorter", "squash"] = "shorter"
    resize_to: Side = 224
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    window16: tuple[float, float] = (0.0, 65535.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one per channel")
        if self.resize_to < self.size:
            raise ValueError(f"resize_to {self.resize_to} is smaller than size {self.size}")
        low, high = self.window16
        if not (low >= -1e6 and high <= 1e6 and high - low >= 1e-3):
            raise ValueError(f"window16 is {list(self.window16)}; low must be 0.001 or more below high, both within 1e6")
        if not all(abs(mean) <= 1e6 for mean in self.mean) or not all(1e-6 <= std <= 1e6 for std in self.std):
            raise ValueError("mean must be within 1e6 and std 1e-6 to 1e6, in units of the windowed range")

"""Where a vision transformer looked: its class token's attention over the picture that it saw.

Not a reason for the answer: attention of the last layer shows where the class token took its content from, not whether that
spoke for or against a label (Jain and Wallace 2019, "Attention is not Explanation").
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError, InputError
from ..spec.manifest import Manifest
from ..spec.preprocess import Preprocess

if TYPE_CHECKING:
    from .session import Image, Session

# From nothing over the least to the most: violet, red, orange, light yellow, told apart in grey, too.
COLOURS = np.array([(40, 11, 84), (120, 28, 109), (188, 55, 84), (237, 105, 37), (252, 180, 26), (252, 255, 164)], np.float32)
STRONGEST = 0.65  # opacity of the largest value


def explaining(manifest: Manifest) -> str:
    """The name of the variant that can show its attention. Raises `InputError` if there is none."""
    names = [variant.name for variant in manifest.variants]
    found = next((name for name in ("native-int8", "native-fp32") if name in names), None)
    if found is None:
        raise InputError(
            f"none of the variants {', '.join(names)} can show where it looked",
            expected="a native variant, which bundles of timm's vision transformers have",
            do="leave --explain out, or write the bundle again with the engine native",
        )
    return found


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless heat maps can be written there without replacing anything."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"the folder {folder} is not empty", do="name another after --explain")
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror})", do="name another folder after --explain") from error


def write_heat(session: Session, image: Image, source: str, folder: Path, frame: int | None) -> Path:
    """Write the heat map of one image as a PNG, called like the image.

    Raises:
        ImageError: the image cannot be read, or its heat map is not finite.
        InputError: what runs cannot show it, or the file cannot be written.
    """
    from PIL import Image as Pillow

    prepared = session.prepare(image, frame=frame)
    heat = session.heat(prepared[None])[0]
    if not np.isfinite(heat).all():
        raise ImageError(f"{source}: the model's attention is not finite", do="do not use this answer")
    picture = over(prepared, heat, session.bundle.preprocess)
    stem = Path(source).stem or "image"
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    try:
        Pillow.fromarray(picture).save(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})", do="name another folder after --explain") from error
    return path


def over(prepared: np.ndarray, heat: np.ndarray, spec: Preprocess) -> np.ndarray:
    """The picture that the model saw, as it was cut and resized, with the heat map over it: uint8 `[S, S, 3]`.

    Args:
        prepared: float32 `[C, S, S]`. heat: float32 `[grid, grid]`, at least 0; the largest value gets the strongest colour.
    """
    from PIL import Image as Pillow

    shape = (-1, 1, 1)
    seen = prepared * np.reshape(spec.std, shape) + np.reshape(spec.mean, shape)
    picture = np.broadcast_to(np.clip(255 * seen, 0, 255), (3, spec.size, spec.size)).transpose(1, 2, 0)
    most = float(heat.max(initial=0.0))
    share = heat / most if most > 0 else heat
    side = spec.size // len(heat) * len(heat)  # pixels beyond the last whole patch are not seen
    whole = np.zeros((spec.size, spec.size), np.float32)
    smooth = Pillow.fromarray(share.astype(np.float32)).resize((side, side), Pillow.Resampling.BICUBIC)
    whole[:side, :side] = np.clip(np.asarray(smooth), 0, 1)
    place = whole * (len(COLOURS) - 1)
    below = np.minimum(place.astype(np.int64), len(COLOURS) - 2)
    part = (place - below)[:, :, None]
    colour = (1 - part) * COLOURS[below] + part * COLOURS[below + 1]
    opacity = STRONGEST * whole[:, :, None]
    return np.asarray(np.rint((1 - opacity) * picture + opacity * colour).astype(np.uint8))

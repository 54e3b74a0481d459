"""What goes wrong with images between the device and the model: noise, blur, tone, compression, dirt, at five severities.

Not augmentation for training, and not what a model makes of it (`verify/robustness.py`).

    noise.py    gaussian, shot, impulse, speckle          digital.py  JPEG, pixelate
    blur.py     gaussian, defocus, motion, zoom           objects.py  stain deposits, bubbles, black corners, characters
    tone.py     brightness, contrast, gamma, saturation   modalities.py  which of them at which strengths, by modality

Which corruptions occur in which modality, and the numbers of each severity, are those of MedMNIST-C (Di Salvo et al. 2024,
arXiv:2406.17536; the tables of medmnistc 0.1), for images of 224 x 224. Here an image has any size: what is a length in pixels
(radii, trails, grains, dirt) grows with the shorter side, so that a severity hides as much of a large X-ray as of a small one.
JPEG cannot: its blocks are 8 x 8 pixels of any image, so it does less to large ones.
"""

from .corrupt import corrupt
from .modalities import MODALITIES, SEVERITIES

__all__ = ["MODALITIES", "SEVERITIES", "corrupt"]

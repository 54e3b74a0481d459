"""Who belongs together among the images that the gate measures on. Not the runs themselves (`test_int8.py` and others)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgefm.data import clusters, load_data
from edgefm.quantize.job import Job
from edgefm.spec.recipe import Recipe


def test_copies_of_a_val_image_are_one_observation_for_the_gate_as_they_are_for_verify(tmp_path: Path) -> None:
    lines = ["file,split"]
    for number in range(8):
        Image.fromarray(np.full((4, 4), number // 2, np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'val' if 2 <= number < 6 else 'calibrate'}")
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n")
    dataset = load_data(tmp_path / "images.csv")
    unused: Any = None
    val = dataset.of("val")
    job = Job(model=unused, dataset=dataset, recipe=Recipe(), prepare=unused, calibration=unused, val=val)
    assert job.groups.tolist() == clusters(dataset.take(val)).tolist()
    assert len(job.groups) == 4
    assert len(np.unique(job.groups)) == 2

"""What int8 makes of the golden inputs is in its bundle, and every engine is held to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

import edgefm
from edgefm.models import LoadedModel

from .conftest import DATA


def test_each_golden_input_has_int8_outputs_that_are_not_those_of_fp32(model: LoadedModel, tmp_path: Path) -> None:
    edgefm.quantize(model, DATA, tmp_path / "model.efm", set=("quantize.max_flips=1", "quantize.max_drop=1"))
    with edgefm.open_bundle(tmp_path / "model.efm") as bundle:
        arrays = {file: np.load(io.BytesIO(bytes(bundle.view(file)))) for file in bundle.names() if file.startswith("golden/")}
        assert len(bundle.manifest.golden) == 9
        differs = False
        for golden in bundle.manifest.golden:
            for name in ("logits", "embedding"):
                fp32, int8 = arrays[golden.outputs[name]], arrays[golden.outputs[f"int8.{name}"]]
                assert (int8.shape, int8.dtype) == (fp32.shape, np.float32)
                assert np.isfinite(int8).all()
                differs = differs or bool((int8 != fp32).any())
        assert differs

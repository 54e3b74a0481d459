"""The ONNX graph: right rows for every batch, no trace of this machine in it, nothing in training mode."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgefm.errors import InputError
from edgefm.export.golden import reference
from edgefm.export.onnx import ALIGNMENT, EXTERNAL, OPSET, export_onnx, onnx_entries
from edgefm.export.openvino import export_openvino
from edgefm.models import LoadedModel, Outputs
from edgefm.spec.task import make_task

Build = Callable[..., LoadedModel]
THREE = make_task("multiclass", ("a", "b", "c"))
NONE = make_task("embedding")


@pytest.mark.parametrize("part", ["the model itself", "a dropout deep inside"])
def test_a_module_in_training_mode_is_refused_by_the_name_of_its_part(build: Build, part: str) -> None:
    model = build()
    if part == "the model itself":
        model.module.train()
    else:
        model.module.model.blocks[1].mlp.drop1.train()
    with pytest.raises(InputError, match=r"training mode .*Call model\.eval\(\)") as error:
        export_onnx(model)
    assert ("blocks.1.mlp.drop1" in str(error.value)) == (part != "the model itself") or "and" in str(error.value)


def test_a_frozen_graph_is_refused(build: Build) -> None:
    with pytest.raises(InputError, match="frozen graph"):
        export_onnx(replace(build(), kind="frozen"))


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Outputs:
        flat = x.flatten(1)
        return Outputs(flat[:, :2] if x.sum() > 0 else -flat[:, :2], flat)


class OneRow(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Outputs:
        flat = x[:1].flatten(1)
        return Outputs(flat[:, :2], flat)


@pytest.mark.parametrize(("module", "message"), [(Branching(), "cannot be traced"), (OneRow(), "has 1 rows whatever")])
def test_a_model_that_cannot_be_traced_or_has_no_batch_is_refused_in_one_line(
    build: Build, module: torch.nn.Module, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        export_onnx(replace(build(), module=module.eval()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "task"), [("test_vit", THREE), ("test_convnext", NONE), ("test_efficientnet", make_task("multilabel", ("a",)))]
)
def test_both_engines_answer_one_row_per_image_for_any_batch(build: Build, name: str, task: object) -> None:
    import openvino

    model = build(name, task)
    proto = export_onnx(model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(*export_openvino(proto)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.name for output in proto.graph.output]
    assert names == (["embedding"] if task is NONE else ["logits", "embedding"])
    side = model.preprocess.size
    for count in (1, 2, 5):
        batch = np.random.default_rng(count).normal(size=(count, 3, side, side)).astype(np.float32)
        expected = reference(model, batch)
        from_onnx = dict(zip(names, session.run(names, {"images": batch})))
        from_openvino = compiled({"images": batch})
        for output in names:
            for found in (from_onnx[output], from_openvino[output]):
                assert found.shape == expected[output].shape
                assert np.abs(found - expected[output]).max() <= 1e-4 * expected[output].std() + 1e-6


def test_nothing_of_this_machine_and_nothing_superfluous_is_left_in_the_graph(build: Build) -> None:
    proto = export_onnx(build())
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", OPSET)]
    assert not proto.metadata_props
    assert not proto.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    data = proto.SerializeToString()
    assert b"stack_trace" not in data
    assert str(Path(__file__).parent).encode() not in data
    assert str(Path(torch.__file__).parent).encode() not in data
    onnx.checker.check_model(proto)


def test_two_processes_make_the_same_bytes_of_onnx_and_openvino(root: Path) -> None:
    code = (
        "import hashlib; from tests.export.small import build_small; from edgefm.export.onnx import *;"
        "from edgefm.export.openvino import export_openvino; p = export_onnx(build_small());"
        "parts = [*onnx_entries(p, 'v').values(), *export_openvino(p)];"
        "print(*(hashlib.sha256(part).hexdigest() for part in parts))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert len(runs[0]) == 4
    assert runs[0] == runs[1]


def test_weights_stand_aligned_in_their_own_file_and_the_pair_is_a_plain_onnx_model(build: Build, tmp_path: Path) -> None:
    model = build()
    proto = export_onnx(model)
    before = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    entries = onnx_entries(proto, "variants/onnx-fp32")
    assert hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest() == before
    assert list(entries) == ["variants/onnx-fp32/encoder.onnx", "variants/onnx-fp32/encoder.weights"]
    for name, data in entries.items():
        (tmp_path / Path(name).name).write_bytes(data)
    outer = onnx.load(tmp_path / "encoder.onnx", load_external_data=False)
    placed = [tensor for tensor in outer.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert placed
    for tensor in placed:
        where = {pair.key: pair.value for pair in tensor.external_data}
        assert where["location"] == "encoder.weights"
        assert int(where["offset"]) % ALIGNMENT == 0
        assert int(where["length"]) >= EXTERNAL
    assert all(len(tensor.raw_data) < EXTERNAL for tensor in outer.graph.initializer)
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    side = model.preprocess.size
    batch = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    assert np.allclose(session.run(["logits"], {"images": batch})[0], reference(model, batch)["logits"], atol=1e-4)

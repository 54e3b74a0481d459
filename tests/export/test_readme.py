"""The words of a standalone export's README. Its code is run in test_standalone.py."""

from __future__ import annotations

import ast
from typing import Literal

import pytest

from edgefm.export.readme import readme
from edgefm.models import LoadedModel
from edgefm.spec.manifest import Ancestor
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task, make_task

KINDS = pytest.mark.parametrize("kind", ["onnx", "openvino"])
Kind = Literal["onnx", "openvino"]
BINARY = Task(kind="binary", labels=("no", "yes"), thresholds=(0.25,))


def model(task: Task = BINARY, **changes: object) -> LoadedModel:
    fields: dict[str, object] = {"module": None, "preprocess": Preprocess(), "name": "small", "licence": "MIT", "sha256": "0"}
    return LoadedModel(task=task, **(fields | changes))  # type: ignore[arg-type]


def code_of(text: str) -> str:
    assert text.count("```python\n") == 1
    return text.split("```python\n")[1].split("```")[0]


@KINDS
@pytest.mark.parametrize("task", [BINARY, make_task("multilabel", ("a", "b")), make_task("embedding")])
def test_the_code_is_python_and_every_name_in_it_is_made_in_it(kind: Kind, task: Task) -> None:
    tree = ast.parse(code_of(readme(model(task), kind)))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    made |= {alias.asname or alias.name for node in imports for alias in node.names}
    assert {node.id for node in names} - made <= {"print", "dict", "zip", "open"}
    assert ("probabilities" in made) == (task.kind != "embedding")


def test_only_openvino_warns_of_bf16_before_its_code() -> None:
    text = readme(model(), "openvino")
    assert text.index("Set `INFERENCE_PRECISION_HINT` to `f32`") < text.index("```python")
    assert "bf16" not in readme(model(), "onnx")


@KINDS
def test_the_rule_the_window_the_licence_and_all_ancestors_are_said(kind: Kind) -> None:
    ancestor = Ancestor(role="teacher", name="big", licence="CC-BY-NC-ND-4.0")
    text = readme(model(preprocess=Preprocess(window16=(10.0, 4095.0)), ancestors=(ancestor,)), kind)
    assert "The answer is `yes` from a probability of 0.25 on." in text
    assert "16-bit values from 10 to 4095 span black to white" in text
    assert "Licence of small: MIT. It descends from: big (teacher, CC-BY-NC-ND-4.0)." in text
    assert "Colour with 16 bits per channel is 8 bits below" in text
    assert "nothing that is known" in readme(model(), kind)


def test_the_table_of_outputs_has_what_the_task_has() -> None:
    three = readme(model(make_task("multiclass", ("a", "b", "c"))), "onnx")
    assert "| out | `probabilities` | float32 | `[1, 3]` |" in three
    assert "The answer is the most probable label." in three
    labels = Task(kind="multilabel", labels=("a", "b"), thresholds=(0.5, 0.1))
    assert "A label holds from its threshold on: `a` 0.5, `b` 0.1." in readme(model(labels), "onnx")
    bare = readme(model(make_task("embedding")), "onnx")
    assert "probabilities" not in bare
    assert "| out | `embedding` | float32 | `[1, D]` |" in bare

"""Python objects as models: modules that users pass, and functions in their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models import Outputs, load_model
from edgefm.models.base_dir import savable
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

X = torch.rand(2, 3, 8, 8)
SMALL = Preprocess(size=8, resize_to=8)
FILE = """
import torch
from edgefm.spec.preprocess import Preprocess

class Mean(torch.nn.Module):
    preprocess = Preprocess(size=8, resize_to=8)
    labels = ("a", "b", "c")

    def forward(self, x):
        return x.mean(dim=(2, 3))

def teacher():
    return Mean()

def number():
    return 3

def broken():
    raise RuntimeError("no luck")
"""


class Mean(nn.Module):
    def __init__(self, **said: object) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        for name, value in said.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) * self.scale


def test_a_module_that_says_nothing_about_pixels_is_refused() -> None:
    with pytest.raises(InputError, match=r"does not say how pixels become its input.*Set module.preprocess = "):
        load_model(Mean())


def test_a_modules_tensor_is_its_embedding() -> None:
    loaded = load_model(Mean(preprocess=SMALL, licence="MIT"))
    logits, embedding, _ = loaded.module(X)
    assert logits is None
    assert embedding.shape == (2, 3)
    assert (loaded.task.kind, loaded.name, loaded.licence) == ("embedding", "Mean", "MIT")


def test_a_module_with_labels_or_a_task_gives_logits() -> None:
    assert load_model(Mean(preprocess=SMALL, labels=("a", "b", "c"))).task.kind == "multiclass"
    loaded = load_model(Mean(preprocess=SMALL, task=make_task("multilabel", ("a", "b", "c"))))
    assert torch.equal(loaded.module(X).logits, X.mean(dim=(2, 3)))
    assert loaded.task.kind == "multilabel"


def test_a_module_may_answer_outputs_itself() -> None:
    class Both(Mean):
        def forward(self, x: torch.Tensor) -> Outputs:  # type: ignore[override]
            return Outputs(x[:, 0, 0, :2], x.mean(dim=(2, 3)))

    logits, embedding, _ = load_model(Both(preprocess=SMALL, labels=("a", "b"))).module(X)
    assert logits is not None
    assert (logits.shape, embedding.shape) == ((2, 2), (2, 3))


def test_a_timm_model_says_it_all() -> None:
    model = timm.create_model("test_vit", num_classes=2).eval()
    loaded = load_model(model)
    assert loaded.preprocess.size == 160
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(loaded.module(x).logits, model(x))


def test_an_older_timms_model_says_how_many_classes_it_has() -> None:
    model = timm.create_model("test_vit", num_classes=0).eval()
    del model._model_args  # timm before 1.0.31 sets none
    assert savable(load_model(model).module)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_keeps_its_mode_so_that_export_can_refuse(training: bool) -> None:
    module = Mean(preprocess=SMALL).train(training)
    loaded = load_model(module)
    assert module.training is training
    assert loaded.module.training is training


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_file_is_not_run_without_trust(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"would run the code in .*mine.py\. Read it, then add --trust-remote-code"):
        load_model(f"{path}:teacher")
    assert not (tmp_path / "ran").exists()


def test_a_trusted_function_gives_a_teacher_in_eval_mode(file: Path) -> None:
    loaded = load_model(f"{file}:teacher", trust_remote_code=True, licence="MIT")
    assert loaded.task.labels == ("a", "b", "c")
    assert (loaded.name, loaded.licence, loaded.module.training) == ("mine.py:teacher", "MIT", False)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("techer", "has no function 'techer'; expected one of teacher"),
        ("number", "returned a int; expected a torch.nn.Module"),
        ("broken", "failed with RuntimeError: no luck"),
    ],
)
def test_a_function_that_does_not_do_is_refused(file: Path, function: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_model(f"{file}:{function}", trust_remote_code=True)


def test_a_file_that_does_not_run_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def teacher(:")
    with pytest.raises(InputError, match="failed with SyntaxError"):
        load_model(f"{tmp_path / 'bad.py'}:teacher", trust_remote_code=True)
    with pytest.raises(InputError, match=r"there is no file .*gone.py"):
        load_model(f"{tmp_path / 'gone.py'}:teacher", trust_remote_code=True)

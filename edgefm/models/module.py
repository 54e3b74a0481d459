"""Models that are Python objects: an `nn.Module`, or what a function in a user's file returns.

Not a sandbox: `file.py:function` runs that file, which is why it needs `--trust-remote-code`.

A module says how pixels become its input in an attribute `preprocess` (`edgefm.Preprocess`), a timm model by its own
`pretrained_cfg`. It may say `labels` (names in the order of its logits), `task` (`edgefm.Task`) and `licence`.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from .contract import label_names, preprocess_from_timm
from .encoder import ModuleEncoder, TimmEncoder
from .loaded import LoadedModel, task_of
from .weights import state_sha256


def load_module(module: nn.Module, *, name: str | None = None, licence: str | None = None) -> LoadedModel:
    """Wrap a user's module. It keeps its training mode, so that export can refuse one that still trains.

    Raises:
        InputError: the module does not say how pixels become its input.
    """
    name = name or type(module).__name__
    config: Any = getattr(module, "pretrained_cfg", None)
    preprocess = getattr(module, "preprocess", None)
    if isinstance(config, dict) and hasattr(module, "forward_head"):
        classes: Any = module.num_classes  # all that timm before 1.0.31 keeps of how a model was made
        arguments = dict(getattr(module, "_model_args", {"num_classes": int(classes)}))
        encoder: nn.Module = TimmEncoder(module, architecture=str(config.get("architecture")), arguments=arguments)
        preprocess = preprocess or preprocess_from_timm(config, name)
        task = task_of(int(module.num_classes), label_names(config.get("label_names"), int(module.num_classes), name))  # type: ignore[arg-type]
        licence = licence or config.get("license")
    else:
        labels = tuple(getattr(module, "labels", ()))
        task = getattr(module, "task", None) or task_of(len(labels), labels)
        encoder = ModuleEncoder(module, classifies=isinstance(task, Task) and task.kind != "embedding")
    if not isinstance(preprocess, Preprocess):
        raise InputError(
            f"the module {name} does not say how pixels become its input",
            expected="an attribute `preprocess` of type edgefm.Preprocess",
            do="set module.preprocess = edgefm.Preprocess(size=224, resize_to=224, mean=(...), std=(...))",
        )
    encoder.training = module.training
    return LoadedModel(
        module=encoder,
        preprocess=preprocess,
        task=task,
        name=name,
        licence=licence or getattr(module, "licence", None) or "unknown",
        sha256=state_sha256(module.state_dict()),
    )


def load_function(source: str, *, trust_remote_code: bool, licence: str | None = None) -> LoadedModel:
    """Run `file.py:function` without arguments and wrap the module (or `LoadedModel`) that it returns, in eval mode.

    Raises:
        InputError: not trusted, no such file or function, the file fails, or it returns something else.
    """
    path, _, function = source.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file {path}", do="give FILE.py:FUNCTION")
    if not trust_remote_code:
        raise InputError(f"{source} would run the code in {file}", do="read it, then add --trust-remote-code")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is not a Python file", expected="FILE.py:FUNCTION")
    namespace = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(namespace)
        make = getattr(namespace, function, None)
        if not callable(make):
            near = difflib.get_close_matches(function, [name for name in vars(namespace) if not name.startswith("_")], n=3)
            raise InputError(f"{file} has no function {function!r}", expected=f"one of {', '.join(near)}" if near else "")
        made = make()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source} failed with {type(error).__name__}: {error}", do="correct that file") from error
    if isinstance(made, LoadedModel):
        return replace(made, licence=licence or made.licence)
    if not isinstance(made, nn.Module):
        raise InputError(f"{source} returned a {type(made).__name__}", expected="a torch.nn.Module")
    return load_module(made.eval(), name=f"{file.name}:{function}", licence=licence)

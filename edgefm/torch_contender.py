"""A model in torch as a contender of `bench`, at its best setting on a processor: inference mode, channels last, bf16 where
the processor has it.

Not a peer's whole program: the image is read and prepared by EdgeFM's own code, which is faster than torchvision's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from .bench.contender import Contender
    from .bench.serve import Work

PREFIX = "torch:"


def torch_contenders(against: str, *, trust_remote_code: bool) -> list[Contender]:
    """The contenders of `--against torch:MODEL`: fp32, and bf16 where the processor has it.

    Raises:
        InputError: another form.
    """
    from .bench.contender import Contender
    from .runtime.cpu import runs_bf16

    model = against.removeprefix(PREFIX)
    if not against.startswith(PREFIX) or not model:
        raise InputError(f"--against {against}", expected="torch:MODEL", do=f"write --against {PREFIX}{model or 'MODEL'}")
    return [
        Contender(
            name=f"torch {precision}",
            load="edgefm.torch_contender:torch_work",
            settings={"model": model, "precision": precision, "trust_remote_code": trust_remote_code},
            known={"rival": True},
        )
        for precision in ["fp32", *(["bf16"] if runs_bf16() else [])]
    ]


def torch_work(*, model: str, precision: str, trust_remote_code: bool, image: str, threads: int) -> Work:
    """Load any MODEL, in the contender's own process.

    Raises:
        InputError: whatever is wrong with it; or a frozen graph, which torch does not run.
        MissingExtra: torch is not installed.
    """
    from .bench.serve import Work
    from .models import load_model
    from .runtime.answer import answered
    from .runtime.decode import decode
    from .runtime.preprocess import Preprocessor

    loaded = load_model(model, trust_remote_code=trust_remote_code)
    if loaded.kind != "torch":
        raise InputError(f"{model} does not run in torch", expected="a torch model", do="compare bundles with bundles")
    import torch

    torch.set_num_threads(threads)
    module = loaded.module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    prepare = Preprocessor(loaded.preprocess, threads=threads)
    file = Path(image)

    def tensor_of(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(prepare(pixels)[None]).contiguous(memory_format=torch.channels_last)

    def tensor() -> torch.Tensor:
        return tensor_of(decode(file))

    def run(x: torch.Tensor) -> dict[str, np.ndarray]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = module(x)
        named = {"logits": outputs.logits, "embedding": outputs.embedding}
        return {name: value.float().numpy() for name, value in named.items() if value is not None}

    def batch(size: int, many: int) -> Callable[[], object]:
        torch.set_num_threads(many)
        images = prepared.repeat(size, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        return lambda: run(images)

    prepared = tensor()
    return Work(
        answer=lambda: answered(image, run(tensor()), loaded.task, f"torch {precision}"),
        model=lambda: run(prepared),
        facts=lambda: {
            "engine": "torch",
            "version": f"torch-{torch.__version__}",
            "precision": _ran_in(module, prepared, run),
            "threads": torch.get_num_threads(),
            "source": loaded.name,
        },
        stages=(
            lambda _: decode(file),
            tensor_of,
            run,
            lambda outputs: answered(image, outputs, loaded.task, f"torch {precision}"),
        ),
        batch=batch,
    )


def _ran_in(module: torch.nn.Module, x: torch.Tensor, run: Any) -> str:
    """What the model's convolutions and linear layers really computed in: "fp32", "bf16", or both."""
    import torch

    seen: set[torch.dtype] = set()
    layers = [layer for layer in module.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: seen.add(output.dtype)) for layer in layers]
    run(x)
    for hook in hooks:
        hook.remove()
    names = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    return " and ".join(sorted(names.get(dtype, str(dtype)) for dtype in seen)) or "unknown"

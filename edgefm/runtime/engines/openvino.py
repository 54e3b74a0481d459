"""OpenVINO on the CPU: static shapes, precision set and read back, weights mapped, compiled models kept for the next start.

Not a converter: the graph is what `export` wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from threading import Lock

import numpy as np
import openvino

from ...bundle import Bundle
from ...errors import BundleError, InputError
from ...spec.manifest import Variant
from ..cpu import runs_bf16
from . import Running, encoder_of, run_batches
from .compiled import CompiledModels


@cache
def core() -> openvino.Core:
    """The process's one `Core`, for whoever compiles with OpenVINO.

    Its CPU plugin gives the thread a signal stack and unmaps it with the `Core`. A `Core` that goes before another one, or in
    another thread, leaves the thread with the unmapped stack, and the next signal (Ctrl-C) is a segmentation fault.
    """
    return openvino.Core()


class OpenVINO:
    """One variant as one compiled model with one infer request; callers from several threads take turns."""

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int, precision: Running, batch: int = 1) -> None:
        if precision not in (variant.precision, "bf16") or (variant.precision == "int8" and precision == "bf16"):
            raise InputError(f"{variant.name} cannot run in {precision} on OpenVINO", expected=variant.precision)
        # OpenVINO may imitate bf16 where the processor has none: a DenseNet took three times as long as in f32
        if precision == "bf16" and not runs_bf16():
            raise InputError(f"{variant.name} cannot run in bf16: this processor has none", expected=variant.precision)
        self._name = variant.name
        self._graph = encoder_of(bundle, variant)
        self._size = batch
        self.precision = precision
        wanted = openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32
        settings = {
            "INFERENCE_PRECISION_HINT": wanted,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if len(self._graph.files) != 2:
            raise BundleError(f"{variant.name} has {len(self._graph.files)} files", expected="an IR's graph and its weights")
        xml, weights = (bundle.view(file) for file in self._graph.files)
        # the tensor shares the bundle's map: the array, and with it the view, must live as long as the model
        self._weights = np.frombuffer(weights, np.uint8)
        kept = CompiledModels(bundle.id, f"{variant.name}-{precision}-batch{batch}-threads{threads}-{openvino.__version__}")
        try:
            model = core().read_model(bytes(xml), openvino.Tensor(self._weights, shared_memory=True))
            model.reshape([batch, *self._graph.inputs[0].shape[1:]])
            with kept as folder:
                compiled = core().compile_model(model, "CPU", settings | ({"CACHE_DIR": str(folder)} if folder else {}))
            ran = compiled.get_property("INFERENCE_PRECISION_HINT")
            self._request = compiled.create_infer_request()
            self._outputs = [compiled.output(out.name) for out in self._graph.outputs]
        except RuntimeError as error:
            raise BundleError(f"OpenVINO {openvino.__version__} cannot load {variant.name} ({error})") from error
        if ran != wanted:
            raise InputError(
                f"OpenVINO runs {variant.name} in {ran.get_type_name()}", expected=precision, do="choose another variant"
            )
        bundle.forget(self._graph.files[1])  # the compiled model has its own copy, in the order that the processor likes
        self._turn = Lock()

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run prepared images, float32 `[N, C, S, S]`, any N. Returns float32 "logits" `[N, K]` and "embedding" `[N, D]`."""
        with self._turn:
            return run_batches(self._graph, self._size, self._run, batch)

    def _run(self, piece: np.ndarray) -> Iterator[np.ndarray]:
        """The results are windows on the request's own memory, good until the next run."""
        if not piece.flags.writeable:
            piece = piece.copy()
        try:
            self._request.set_input_tensor(openvino.Tensor(piece, shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise BundleError(f"OpenVINO {openvino.__version__} cannot run {self._name} ({error})") from error
        return (self._request.get_tensor(output).data for output in self._outputs)

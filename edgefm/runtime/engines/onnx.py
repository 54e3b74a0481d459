"""ONNX Runtime on the CPU, its weights mapped from the bundle.

Not a converter: the graph is what `export` wrote, and the precision is the graph's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import onnxruntime

from ...bundle import Bundle
from ...errors import BundleError, InputError
from ...spec.manifest import Variant
from . import Running, run_batches
from .external import point_into


class OnnxRuntime:
    """One variant in one inference session, which is safe to run from several threads."""

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int, precision: Running, batch: int = 1) -> None:
        if precision != variant.precision:
            raise InputError(f"{variant.name} cannot run in {precision} on ONNX Runtime", expected=variant.precision)
        self._graph = variant.graphs["encoder"]
        self._size = batch
        self.precision = precision
        onnxruntime.disable_telemetry_events()  # the way on Windows; elsewhere edgefm/__init__.py has done it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # threads that spin while they wait win 5 % on an idle PC and lose half the speed on a busy one
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model, *weights = self._graph.files
        # ONNX Runtime refuses a link that leads out of the folder it is told
        path = bundle.path.resolve()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        starts = {PurePosixPath(file).name: bundle.start(file) for file in weights}
        try:
            pointed = point_into(bundle.view(model), path.name, starts)
            self._session = onnxruntime.InferenceSession(pointed, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base but this
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {variant.name} ({error})") from error
        bundle.check_in_place()
        self._input = self._graph.inputs[0].name
        self._outputs = [out.name for out in self._graph.outputs]

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run prepared images, float32 `[N, C, S, S]`, any N. Returns float32 "logits" `[N, K]` and "embedding" `[N, D]`."""
        return run_batches(self._graph, self._size, self._run, batch)

    def _run(self, piece: np.ndarray) -> Iterator[np.ndarray]:
        return iter(self._session.run(self._outputs, {self._input: piece}))

"""ONNX Runtime on the CPU, its weights used where they lie in the mapped bundle.

Not a converter: the graph is what `export` wrote, and the precision is the graph's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import onnxruntime

from ...bundle import Bundle
from ...errors import BundleError, InputError
from ...spec.manifest import Variant
from . import Running, encoder_of, run_batches


class OnnxRuntime:
    """One variant in one inference session, which is safe to run from several threads."""

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int, precision: Running, batch: int = 1) -> None:
        if precision != variant.precision:
            raise InputError(f"{variant.name} cannot run in {precision} on ONNX Runtime", expected=variant.precision)
        self._name = variant.name
        self._graph = encoder_of(bundle, variant)
        self._size = batch
        self.precision = precision
        onnxruntime.disable_telemetry_events()  # the way on Windows; elsewhere edgefm/__init__.py has done it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Threads that wait for the next operator spin for 20 ms and more by default. 50 us are as fast on an idle PC, and on a
        # busy one four times as fast (a DenseNet on two cores with load 10: 63 ms against 260).
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
        # used in place and not copied twice; so the windows on the bundle's map must live as long as the session
        options.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
        # a graph may name a file for its weights: only the bundle's, none of this machine, whose bytes nobody has checked
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        model, *weights = self._graph.files
        self._views = [bundle.view(file) for file in weights]
        if weights:
            names = [PurePosixPath(file).name for file in weights]
            options.add_external_initializers_from_files_in_memory(names, self._views, [len(view) for view in self._views])
        try:
            self._session = onnxruntime.InferenceSession(bytes(bundle.view(model)), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base but this
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {variant.name} ({error})") from error
        for file in weights:
            bundle.forget(file)  # most weights now have a copy in the order that the processor likes
        self._input = self._graph.inputs[0].name
        self._outputs = [out.name for out in self._graph.outputs]

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run prepared images, float32 `[N, C, S, S]`, any N. Returns float32 "logits" `[N, K]` and "embedding" `[N, D]`."""
        return run_batches(self._graph, self._size, self._run, batch)

    def _run(self, piece: np.ndarray) -> Iterator[np.ndarray]:
        try:
            return iter(self._session.run(self._outputs, {self._input: piece}))
        except Exception as error:  # as above
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot run {self._name} ({error})") from error

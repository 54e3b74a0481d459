"""Run an ONNX graph that is being worked on, on prepared images, in batches. Not the runtime: no bundle, no answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from ..runtime.cpu import usable_threads

BATCH = 16


def execute(proto: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every output by its name, float32 `[n, …]`.

    Args:
        proto: input `images`, dynamic batch.
        images: prepared, float32 `[n, C, S, S]`, at least one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_threads()
    options.log_severity_level = 4
    # Nothing fused: what is fused, and so rounded, depends on which values are outputs, and two looks at one layer would differ
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(names, {"images": images[start : start + BATCH]}) for start in range(0, len(images), BATCH)]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows))}

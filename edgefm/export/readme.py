"""The README of a standalone export: what goes in, what comes out, and ten lines of plain code that run as they are.

Not a manual of EdgeFM: who reads this has only the engine, numpy and Pillow.
"""

from __future__ import annotations

from typing import Literal

from ..models import LoadedModel
from ..spec.task import Task

ONNX = """\
import json
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
image = ImageOps.exif_transpose(Image.open("image.png"))
pixels = np.asarray(image.convert("RGB") if image.mode in ("1", "P", "LA", "PA", "CMYK") else image)  # uint8 or uint16
bits = np.array(8 * pixels.itemsize, np.int64)
pixels = pixels.reshape(*pixels.shape[:2], -1).astype(np.uint16)
{outputs} = session.run([{names}], {{"pixels": pixels, "bits": bits}})
{show}
"""

OPENVINO = """\
import json
import numpy as np
import openvino
from PIL import Image, ImageOps

model = openvino.Core().compile_model("model.xml", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
image = ImageOps.exif_transpose(Image.open("image.png"))
pixels = np.asarray(image.convert("RGB") if image.mode in ("1", "P", "LA", "PA", "CMYK") else image)  # uint8 or uint16
bits = np.array(8 * pixels.itemsize, np.int64)
pixels = pixels.reshape(*pixels.shape[:2], -1).astype(np.uint16)
result = model({{"pixels": pixels, "bits": bits}})
{outputs} = (result[name] for name in ({names}))
{show}
"""

BF16 = """\
> **Set `INFERENCE_PRECISION_HINT` to `f32`, as below.** On processors that have bf16 OpenVINO computes in bf16 unless told
> otherwise, the preprocessing too, and says nothing. Then resized pixels are off by up to several hundredths of their standard
> deviation, and probabilities differ from those that were proved. There is no way to forbid that inside the file.

"""


def readme(model: LoadedModel, kind: Literal["onnx", "openvino"]) -> str:
    """The README as Markdown; its only code block runs in the folder, beside an `image.png`."""
    task, low, high = model.task, *model.preprocess.window16
    names = ["embedding"] if task.kind == "embedding" else ["probabilities", "logits", "embedding"]
    show = 'print(dict(zip(json.load(open("labels.json")), probabilities[0].tolist())))'
    code = (ONNX if kind == "onnx" else OPENVINO).format(
        outputs=", ".join(names) + ("," if len(names) == 1 else ""),
        names=", ".join(f'"{name}"' for name in names) + ("," if len(names) == 1 else ""),
        show="print(embedding[0].tolist())" if task.kind == "embedding" else show,
    )
    if task.kind == "embedding":
        code = code.removeprefix("import json\n")
    return f"""\
# {model.name}, for plain {"ONNX Runtime" if kind == "onnx" else "OpenVINO"}

One image at a time, any size, with its preprocessing inside.

| | name | type | shape | |
|---|---|---|---|---|
| in | `pixels` | uint16 | `[H, W, C]`, C = 1, 3 or 4 | 0 to 255 for 8-bit images; raw values for 16-bit ones |
| in | `bits` | int64 | scalar | 8 or 16 |
{_outputs(task)}
16-bit values from {low:g} to {high:g} span black to white. Images of other kinds (palette, 1 bit, CMYK) become RGB first, and
those that a camera stored turned are turned, as below: the model cannot tell. Colour with 16 bits per channel is 8 bits below,
because Pillow reads it so. {_rule(task)}

{BF16 if kind == "openvino" else ""}```python
{code}```

Licence of {model.name}: {model.licence}. It descends from: {_ancestors(model)}.
"""


def _outputs(task: Task) -> str:
    rows = ["| out | `embedding` | float32 | `[1, D]` | |"]
    if task.kind != "embedding":
        width = len(task.labels)
        rows = [
            f"| out | `probabilities` | float32 | `[1, {width}]` | in the order of `labels.json` |",
            f"| out | `logits` | float32 | `[1, {width}]` | |",
            *rows,
        ]
    return "\n".join(rows) + "\n"


def _rule(task: Task) -> str:
    if task.kind == "binary":
        return f"The answer is `{task.labels[1]}` from a probability of {task.thresholds[0]:g} on."
    if task.kind == "multilabel":
        listed = ", ".join(f"`{label}` {threshold:g}" for label, threshold in zip(task.labels, task.thresholds))
        return f"A label holds from its threshold on: {listed}."
    return "The answer is the most probable label." if task.kind == "multiclass" else ""


def _ancestors(model: LoadedModel) -> str:
    listed = [f"{ancestor.name} ({ancestor.role}, {ancestor.licence})" for ancestor in model.ancestors]
    return "; ".join(listed) or "nothing that is known"

"""The recipe: every setting of the training and quantization verbs, with its default.

Not the reading of YAML or `--set` (that is the front door's); only names, types, ranges and defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Meta(ge=0.0)]
Positive = Annotated[float, Meta(gt=0.0)]


class DataRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How `DATA` is read.

    Attributes:
        label, file, patient, split: column names of a CSV.
        positive: the positive class of a binary task; "" chooses it (see `data/sources.py`).
        val, test: share of patients (with fewer than 300 patients, of images) cut off where the data bring no split.
        seed: of that cut. Not the recipe's own seed: what one verb trains on must be no other verb's test.
        broken: "refuse" stops at unreadable images after naming them all, "skip" names and leaves them out.
        frame: frame of files that hold several (DICOM, TIFF, GIF, …), from 0; None refuses such files.
    """

    file: str = "file"
    label: str = "label"
    patient: str = "patient"
    split: str = "split"
    positive: str = ""
    val: Share = 0.15
    test: Share = 0.15
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    broken: Literal["refuse", "skip"] = "refuse"
    frame: Annotated[int, Meta(ge=0)] | None = None


class AugmentRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Random views of a training image; each is a pure function of (seed, image, view).

    Attributes:
        flip: chance of a left-right mirror. rotate: +- degrees. zoom: +- share. shift: +- share of the side.
        brightness, contrast: +- share of the windowed range.
    """

    flip: Share = 0.5
    rotate: NonNegative = 10.0
    zoom: Share = 0.1
    shift: Share = 0.05
    brightness: Share = 0.1
    contrast: Share = 0.1


class TrainRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every training shares.

    Attributes:
        epochs: passes over the images. views: distinct random views per image, one per epoch in turn.
        batch: images per step, over all processes. accumulate: pieces that a batch is computed in, one after the other, for
            less memory; the step is the same but for what BatchNorm sees.
        lr: highest learning rate. warmup: share of the steps that lead up to it; half a cosine leads down to 0.
        patience: epochs without a better validation after which training stops; null for never.
        tensorboard: also write TensorBoard's event files.
    """

    epochs: Count = 24
    views: Count = 4
    batch: Count = 32
    accumulate: Count = 1
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.05
    warmup: Share = 0.05
    patience: Count | None = None
    augment: AugmentRecipe = AugmentRecipe()
    tensorboard: bool = False


class LoraRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Low-rank adapters, for `lora` and `qlora`.

    Attributes:
        rank: of each. alpha: an adapter counts alpha / rank times; null for the rank, which is once.
        dropout: of an adapted layer's input, for the adapter only; on a processor drawing it takes about as long as the rest of
            a step, so none by default.
        targets: names of linear layers or their ends, `*` for anything; empty for the family's (see `adapt/targets.py`).
        base: what the frozen weights of `qlora` are: NF4, or int8 with a scale per channel.
        by: a further column of the CSV, such as a site: each of its values learns an adapter of its own; null for one for all.
    """

    rank: Annotated[int, Meta(ge=1, le=128)] = 16
    alpha: Positive | None = None
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    targets: tuple[str, ...] = ()
    base: Literal["nf4", "int8"] = "nf4"
    by: str | None = None


class AdaptRecipe(TrainRecipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a foundation model learns a task, with `full`, `lora` and `qlora`.

    Attributes:
        lr: null for the method's own, 1e-4 of `full` and 1e-3 of the others.
        layer_decay: with `full` a ViT's layer learns this much slower than the next.
        checkpointing: compute each block's activations again for the backward: less memory, for a second forward pass.
    """

    epochs: Count = 10
    lr: Positive | None = None  # type: ignore[assignment]
    layer_decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.75
    checkpointing: bool = False
    lora: LoraRecipe = LoraRecipe()


class LossRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Weights of the losses, see `distill/losses.py`.

    `labels` is switched off without labels, `logits` where the teacher has none for this task, `tokens` where teacher or
    student has no grid of features, `attention` and `relation` where one of them is no plain vision transformer
    (`distill/attention.py`). A teacher without logits is learned by `features` alone or beside `tokens`; beside
    `labels` where the student answers the classes of the data (`task`).
    """

    logits: NonNegative = 1.0
    features: NonNegative = 0.5
    tokens: NonNegative = 0.0
    labels: NonNegative = 0.1
    attention: NonNegative = 0.0
    relation: NonNegative = 0.0


class DistillRecipe(TrainRecipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the student learns. The teacher sees each of the `views` of an image once.

    Attributes:
        task: what the student answers: the "teacher"'s task, or the classes of the "data", which the teacher need not know.
            It then learns them from labels, beside the teacher's features.
        temperature: of the softened logits. tokens: patch tokens kept per view of an image, drawn at random.
        layers: pairs of attention layers that `attention` and `relation` compare, the teacher's and the student's, from 0 or,
            below 0, from the end. The last ones by default, as in MiniLM (Wang et al. 2020).
        pretrained: start from timm's weights.
    """

    task: Literal["teacher", "data"] = "teacher"
    temperature: Positive = 2.0
    losses: LossRecipe = LossRecipe()
    tokens: Count = 16
    layers: Annotated[tuple[tuple[int, int], ...], Meta(min_length=1)] = ((-1, -1),)
    pretrained: bool = False


class QuantizeRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the student is quantized, and what may be lost.

    Attributes:
        engines: those that cannot run the model are left out; "native" runs timm's vision transformers and calibrates nothing.
        max_drop: largest fall of any task metric of int8 against fp32 on `val`, absolute.
        max_flips: largest share of changed decisions on `val`.
        calibration_images: images of the `calibrate` split that set the activation ranges.
        minutes: time for trials, where the first int8 changes too much.
        calibrate: fit the temperature and the thresholds to the labels of the `calibrate` split first (`quantize/rule.py`).
        coverage: share of conformal sets that hold the true label, from the labels of `calibrate`; null for no sets. With both,
            each has the labels of half of the patients (`quantize/halves.py`).
    """

    precision: Literal["int8"] = "int8"
    engines: tuple[Literal["openvino", "onnx", "native"], ...] = ("openvino", "onnx", "native")
    max_drop: NonNegative = 0.005
    max_flips: Share = 0.01
    calibration_images: Count = 256
    minutes: Positive = 15.0
    calibrate: bool = False
    coverage: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None


class PreprocessRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Overrides of the model's own preprocessing; None keeps the model's."""

    window16: tuple[float, float] | None = None


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole recipe. `seed` drives data order, augmentation, initialisation and calibration choice."""

    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    student: str = "mobile"
    data: DataRecipe = DataRecipe()
    preprocess: PreprocessRecipe = PreprocessRecipe()
    adapt: AdaptRecipe = AdaptRecipe()
    distill: DistillRecipe = DistillRecipe()
    quantize: QuantizeRecipe = QuantizeRecipe()

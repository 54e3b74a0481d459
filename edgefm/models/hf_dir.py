"""A folder in Hugging Face layout: `config.json` with `model_type`, weights, `preprocessor_config.json`.

Not remote code: only architectures that transformers itself has.

Pooling per `model_type`, as the models' own classification heads and their authors' model cards take it:

| model_type | embedding | before a classifier |
|---|---|---|
| vit (Phikon), deit | class token | the same |
| dinov2 (Phikon-v2, RAD-DINO), dinov2_with_registers | class token | class token, mean of the patch tokens |
| any other | `pooler_output` (swin, convnextv2, resnet: the pooled last stage) | the same |

A model that pools otherwise is refused: its logits are compared once with what this table makes of it.

Phikon's and RAD-DINO's cards say `last_hidden_state[:, 0]` and `pooler_output`, which is the same token. ViT's own `pooler`
layer belongs to no published encoder; its weights are left aside, and so is the mask token of pretraining.
Without `preprocessor_config.json` the contract is ImageNet's mean and std at the configuration's `image_size`; the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..spec.preprocess import Preprocess
from .contract import label_names, licence_of, preprocess_from_processor, read_json
from .encoder import TokenPooling, TransformersEncoder
from .loaded import LoadedModel, task_of
from .weights import State, find_weights, read_weights, refuse_misfits, weights_sha256

log = logging.getLogger("edgefm.models")
CLASS_TOKEN = ("vit", "deit", "dinov2", "dinov2_with_registers")
CLASS_AND_PATCHES = ("dinov2", "dinov2_with_registers")
LEFT_ASIDE = ("pooler.", "vit.pooler.", "deit.pooler.", "embeddings.mask_token", "vit.embeddings.mask_token")


def load_hf_folder(
    folder: Path, config: dict[str, Any], *, licence: str | None = None, hub_id: str | None = None
) -> LoadedModel:
    """Load a transformers model folder.

    Raises:
        InputError: a model type that transformers does not have or that has no pooled output, weights that are missing,
            damaged or do not fit.
    """
    import transformers

    names: Any = transformers
    where = hub_id or str(folder)
    kind = str(config["model_type"])
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(f"transformers has no model type {kind!r}, which {where} asks for", do="give it as file.py:function")
    own = {key: value for key, value in config.items() if key != "auto_map"}
    settings: Any = transformers.CONFIG_MAPPING[kind].from_dict(own)
    classifies = any(name.endswith("ForImageClassification") for name in config.get("architectures") or ())
    table = names.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING if classifies else names.MODEL_MAPPING
    if type(settings) not in table or table[type(settings)].main_input_name != "pixel_values":
        raise InputError(f"{where} is a {kind}, which takes no images", do="give an image encoder")
    files = find_weights(folder)
    state = read_weights(files)
    if kind in ("vit", "deit"):
        state = {key: value for key, value in state.items() if not key.startswith(LEFT_ASIDE)}
    model = _build(table[type(settings)], settings, state, where, poolless=kind in ("vit", "deit") and not classifies)
    body: Any = getattr(model, model.base_model_prefix, None) if classifies else model
    classifier = getattr(model, "classifier", None) if classifies else None
    pooling: TokenPooling = "class" if kind in CLASS_TOKEN else "pooler"
    if classifies and kind in CLASS_AND_PATCHES:
        pooling = "class+patches"
    prefix = 1 + getattr(settings, "num_register_tokens", 0) if kind in CLASS_TOKEN else 0
    module = TransformersEncoder(body, classifier, pooling=pooling, prefix=prefix).eval()
    preprocess = _preprocess(folder, settings, where)
    _refuse_other_pooling(module, model, preprocess, where)
    classes = settings.num_labels if classifies else 0
    return LoadedModel(
        module=module,
        preprocess=preprocess,
        task=task_of(
            classes,
            label_names(settings.id2label, classes, where),
            multilabel=config.get("problem_type") == "multi_label_classification",
        ),
        name=hub_id or folder.resolve().name,
        licence=licence or licence_of(config.get("license"), folder),
        sha256=weights_sha256(files, module),
    )


def with_own_classifier(
    module: TransformersEncoder, head: torch.nn.Linear, preprocess: Preprocess, where: object
) -> TransformersEncoder:
    """The encoder under a classifier that learned in transformers' own model for classification, pooled as that pools.

    Raises:
        InputError: it is of another width, or how that model pools is not known here.
    """
    import transformers

    body: Any = module.body
    table: Any = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    unknown = InputError(f"how a classifier on the base of {where} pools is not known here", do="merge it with peft first")
    if type(body.config) not in table:
        raise unknown
    kinds = table[type(body.config)]
    with torch.device("meta"):
        model = (kinds[0] if isinstance(kinds, tuple) else kinds)(body.config)
    own = getattr(model, "classifier", None)
    if not isinstance(own, torch.nn.Linear) or not hasattr(model, model.base_model_prefix):
        raise unknown
    if own.in_features != head.in_features:
        raise InputError(
            f"{where} brings a classifier of {head.in_features} features", expected=f"{own.in_features} of its base"
        )
    setattr(model, model.base_model_prefix, body)
    model.classifier = head
    pooling: TokenPooling = "class+patches" if body.config.model_type in CLASS_AND_PATCHES else module.pooling
    made = TransformersEncoder(body, head, pooling=pooling, prefix=module.prefix).eval()
    _refuse_other_pooling(made, model.eval(), preprocess, where)
    return made


def _build(cls: Any, settings: Any, state: State, where: object, *, poolless: bool) -> Any:
    # transformers renames keys of older checkpoints while it loads, so the match is its report, not ours.
    options = {"add_pooling_layer": False} if poolless else {}
    with quiet():
        model, report = cls.from_pretrained(
            None,
            config=settings,
            state_dict=state,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            **options,
        )
    kinds = (("missing", "missing_keys"), ("unexpected", "unexpected_keys"), ("of another shape", "mismatched_keys"))
    faults = []
    for kind, key in kinds:
        names = sorted(name if isinstance(name, str) else str(name[0]) for name in report[key])
        if names:
            faults.append(f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
    refuse_misfits(faults, where)
    return model


@torch.no_grad()
def _refuse_other_pooling(module: TransformersEncoder, model: Any, preprocess: Preprocess, where: object) -> None:
    """Hold the tables above to the model: it takes its input, gives one vector, and a classifier's logits are its own."""
    x = torch.rand(1, preprocess.channels, preprocess.size, preprocess.size, generator=torch.Generator().manual_seed(0))
    try:
        logits, embedding, _ = module(x)
        same = module.classifier is None or torch.allclose(logits, model(pixel_values=x).logits, atol=1e-4, rtol=1e-4)
    except (AttributeError, TypeError):  # no pooled output, or no part of that name
        same = False
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{where} does not take the {preprocess.size} pixels that its preprocessor makes ({error})",
            do="correct size in preprocessor_config.json",
        ) from error
    if not same or embedding.ndim != 2:
        raise InputError(f"how {where} pools its features is not known here", do="give it as file.py:function")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its own report of keys for a moment: our errors say it."""
    from transformers import utils

    hf_logging: Any = utils.logging
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _preprocess(folder: Path, settings: Any, where: str) -> Preprocess:
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return preprocess_from_processor(read_json(file), where)
    size = getattr(settings, "image_size", 224)
    log.warning("%s has no preprocessor_config.json: taking %s pixels and ImageNet's mean and std", where, size)
    return Preprocess(size=size, resize_to=size)

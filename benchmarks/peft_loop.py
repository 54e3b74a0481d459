"""PEFT in a plain torch loop, or under accelerate, on the very batches of EdgeFM's loop: the peer of `adapt --method lora`.

Not a benchmark: `lora_cxr.py` and `gpu_adapt.py` time it. Model, classifier, adapters' start, targets, rank, views, order of
the images, learning rate, clipping and loss are EdgeFM's; layers, backward, quantized base and mixed precision are the peers'.
"""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def peft_run(
    model: Any, data: Any, recipe: Any, *, method: str, device: str = "cpu", accelerate: bool = False
) -> dict[str, Any]:
    """Train `recipe.adapt.epochs` epochs.

    Args:
        model, data: as for `edgefm.adapt`. recipe: `edgefm.spec.recipe.Recipe`, its learning rate stated.
        method: lora, or qlora on bitsandbytes' NF4. accelerate: its mixed precision and backward, not plain torch's.

    Returns:
        `seconds` of training by epoch, `images` and `steps` of one, `precision`; `val`, probabilities of the validation images
        at the best epoch, as `adapt` chooses it, float64 `[N, K]`, with `labels`, `truth` and `patients`.
    """
    from edgefm.adapt.job import load_job
    from edgefm.runtime.decide import probabilities
    from edgefm.train.images import Images
    from edgefm.train.objective import LabelObjective
    from edgefm.train.optimizer import make_optimizer
    from edgefm.train.precision import choose_precision
    from edgefm.train.predict import all_outputs, predict
    from edgefm.train.validation import validate_labels

    options = {"tap": None, "licence": None, "trust_remote_code": True, "look": True}
    job = load_job(model, data, recipe, device=device, **options)
    loaded = with_peft(job, method)
    module, settings = loaded.module.to(device), recipe.adapt
    objective = LabelObjective(job.labels, job.train, job.task.kind, len(job.task.labels), job.device)
    optimizer = make_optimizer(module, lr=settings.lr, weight_decay=settings.weight_decay)
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    precision = choose_precision(module, job.device, training=True)
    helper = None
    if accelerate:
        from accelerate import Accelerator

        helper = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=device == "cpu")
        module, optimizer = helper.prepare(module, optimizer)
    run = Run(loaded, module, Images(job.dataset), objective, optimizer, learning, precision, helper, recipe, job)
    validate = validate_labels(run.images, job.val, job.labels, loaded.preprocess, job.task, job.device)
    seconds, best, found = [], None, None
    for epoch in range(settings.epochs):
        seconds.append(run.epoch(epoch))
        module.eval()
        result = validate(module, precision) if len(job.val) else None
        if result is not None and (best is None or result.score > best):
            asked = predict(module, run.images, job.val, loaded.preprocess, device=job.device, precision="fp32")
            best, found = result.score, probabilities(all_outputs(asked).logits.numpy(), job.task)
    patients = job.dataset.patients
    return {
        "seconds": seconds,
        "images": len(job.train),
        "steps": run.steps // settings.epochs,
        "precision": precision,
        "labels": list(job.task.labels),
        "val": found,
        "truth": job.labels[job.val],
        "patients": None if patients is None else np.unique([patients[i] for i in job.val], return_inverse=True)[1],
    }


class Run:
    """One training run."""

    def __init__(self, loaded, module, images, objective, optimizer, learning, precision, helper, recipe, job) -> None:
        self.loaded, self.module, self.images, self.objective, self.optimizer = loaded, module, images, objective, optimizer
        self.learning, self.precision, self.helper, self.recipe, self.job = learning, precision, helper, recipe, job
        self.steps = 0

    def epoch(self, epoch: int) -> float:
        """Train one epoch; returns its seconds."""
        from edgefm.train.images import parts
        from edgefm.train.objective import Batch
        from edgefm.train.optimizer import CLIP, learning_rate, set_rate
        from edgefm.train.precision import autocast
        from edgefm.train.predict import model_input
        from edgefm.train.randomness import order

        settings, job, view = self.recipe.adapt, self.job, epoch % self.recipe.adapt.views
        batches = parts(job.train[order(self.recipe.seed, epoch, len(job.train))], settings.batch)
        pieces = [np.array_split(batch, max(1, min(settings.accumulate, len(batch) // 2))) for batch in batches]
        ready = self.images.batches([piece for each in pieces for piece in each], self.loaded.preprocess)
        self.module.train()
        started = time.perf_counter()
        for batch, mine in zip(batches, pieces):
            rate = learning_rate(self.steps, settings.epochs * len(batches), peak=settings.lr, warmup=settings.warmup)
            set_rate(self.optimizer, rate)
            self.optimizer.zero_grad()
            for piece in mine:
                x = model_input(
                    next(ready).to(job.device), piece, self.loaded.preprocess, (self.recipe.seed, view, settings.augment)
                )
                with autocast(job.device, self.precision) if self.helper is None else self.helper.autocast():
                    outputs = self.module(x)
                loss = sum(self.objective(outputs, Batch(piece, view, batch)).values()) * (len(piece) / len(batch))
                loss.backward() if self.helper is None else self.helper.backward(loss)
            norm = nn.utils.clip_grad_norm_(self.learning, CLIP).item()
            if norm != norm:
                raise RuntimeError(f"the gradients are not finite at step {self.steps}")
            self.optimizer.step()
            self.steps += 1
        ready.close()
        if job.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def with_peft(job: Any, method: str) -> Any:
    """The model that `adapt` would train, with PEFT's layers that start as EdgeFM's do."""
    import peft

    from edgefm.adapt.adapters import place, read_out
    from edgefm.adapt.full import prepare_full
    from edgefm.models.peft_format import save_adapter

    loaded = prepare_full(job, method)
    shared = {id(each): each for each in (*loaded.module.parameters(), *loaded.module.buffers())}
    ours = copy.deepcopy(loaded.module, shared)
    layers = place(ours, job.recipe.adapt.lora, loaded.name, seed=job.recipe.seed)
    library = loaded.module.model
    if method == "qlora":
        in_four_bits(library, list(layers))
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(Path(folder), read_out(ours, job.recipe.adapt.lora))
        peft.PeftModel.from_pretrained(library, folder, is_trainable=True)  # its layers stand in `library` then
    return loaded


def in_four_bits(library: Any, names: list[str]) -> None:
    """These layers as bitsandbytes' NF4, doubly quantized, computing in bf16: quantized when they are moved to their device."""
    import bitsandbytes

    for name in names:
        old = library.get_submodule(name)
        small = bitsandbytes.nn.Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
        )
        small.load_state_dict(old.state_dict())
        parent, _, child = name.rpartition(".")
        setattr(library.get_submodule(parent), child, small)
    library.is_loaded_in_4bit = True

"""Whether a small ViT learns chest X-rays better when it is also held to its teacher's attention, or to its relations.

Not the operator's speed (`gpu_attention_kl.py`) and not the main path (`main_path.py`): 56 pixels, so that processors can.

    python benchmarks/attention_losses.py [--work runs/attention_losses] [--seeds 0 1 2] [--epochs 8] [--teacher-epochs 12]

The teacher, a ViT 192 wide with 6 heads, learns from all labels of train. Each student, 96 wide with 3 heads, as many layers
and the same 7 x 7 patches, learns from the labels of 10 % of the patients and the teacher's answers to all images: by the
default recipe, and with either loss or both at weight 1 beside it, last layer to last layer. One process, one arm after the
other; a run that was stopped goes on where it was. Differences are of the mean over the seeds, on the 1,211 test images,
paired and by patient.

Whether a loss did what it said stands beside it, on the images of val: how far the student's last layer is from the
teacher's. The intervals are over patients, not over seeds, of which there are few: what one seed showed, three may not.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from main_path import LABELS, ROOT, labels, point, test_images
from measure import save
from vit_cxr import answers
from vit_pneumoniamnist import train as train_by_labels

SIDE, PATCH, DEPTH = 56, 8, 6
TEACHER = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 192, "depth": DEPTH, "num_heads": 6}
STUDENT = TEACHER | {"embed_dim": 96, "num_heads": 3}
SHARE = 0.1
VIEWS = 2
ARMS: dict[str, tuple[str, ...]] = {
    "default": (),
    "attention": ("distill.losses.attention=1",),
    "relation": ("distill.losses.relation=1",),
    "attention and relation": ("distill.losses.attention=1", "distill.losses.relation=1"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "attention_losses")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--teacher-epochs", type=int, default=12)
    options = parser.parse_args()
    from timm.models import register_model

    register_model(vit_student_56)
    work = options.work.absolute() / f"{options.epochs}-epochs-{options.teacher_epochs}-of-the-teacher"
    work.mkdir(parents=True, exist_ok=True)
    labels(work, SHARE)
    teacher = work / "teacher"
    if not teacher.exists():
        train_by_labels(teacher, LABELS, options.teacher_epochs, 0, name="vit, patch 8", batch=32, **TEACHER)
    settings = {"teacher": TEACHER, "student": STUDENT, "views": VIEWS, "labelled": SHARE, "arms": ARMS}
    epochs = {"epochs": options.epochs, "teacher_epochs": options.teacher_epochs}
    taught = answers(teacher, "cpu")
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in ARMS}
    for seed in options.seeds:  # all arms are there for one seed before the next begins, and what they show is written
        for name in ARMS:
            found[name][str(seed)] = student(work, teacher, name, seed, options.epochs)
        save("attention_losses", {"settings": settings | epochs, **results(found, taught)})


def vit_student_56(pretrained: bool = False, **options: Any) -> Any:
    """The student as timm makes its models: by a name, which `edgefm distill` takes."""
    from timm.models.vision_transformer import vit_tiny_patch16_224

    model: Any = vit_tiny_patch16_224(pretrained=False, **STUDENT | options)
    model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, SIDE, SIDE)}
    return model


def student(work: Path, teacher: Path, name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one student if it is not there yet; its answers to the test images and what it came to."""
    import edgefm

    run = work / f"{name.replace(' ', '-')}-{seed}"
    answered = run.with_suffix(".json")
    if answered.exists():
        return json.loads(answered.read_text())  # type: ignore[no-any-return]
    print(f"{time.strftime('%H:%M')} {name}, seed {seed}", flush=True)
    if not run.exists():
        sets = (f"distill.epochs={epochs}", f"distill.views={VIEWS}", *ARMS[name])
        edgefm.distill(
            teacher=str(teacher),
            student="vit_student_56",
            data=str(work / f"labels-{SHARE:g}.csv"),
            out=str(run),
            cache=str(work / f"cache-{seed}"),
            seed=seed,
            set=sets,
            resume=run.with_name(f"{run.name}.partial").exists(),
        )
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    terms = {key: [round(each[key], 4) for each in (history[0], history[-1])] for key in history[0] if key.startswith("loss_")}
    found = {
        "probability": [round(float(each), 6) for each in answers(run, "cpu")],
        "terms_first_and_last_epoch": terms,
        "best_epoch": json.loads((run / "evaluation.json").read_text())["best_epoch"],
        "from_the_teacher": distances(run, teacher),
    }
    answered.write_text(json.dumps(found) + "\n")
    return found


def distances(run: Path, teacher: Path) -> dict[str, float]:
    """How far a student's last layer is from the teacher's on the images of val, as the two losses measure it."""
    import torch

    from edgefm.data import load_data
    from edgefm.distill.attention import attention_loss, noted, relation_loss
    from edgefm.models import load_model
    from edgefm.models.attention import AttentionEncoder
    from edgefm.models.loaded import Attended
    from edgefm.spec.recipe import DataRecipe, LossRecipe
    from edgefm.train.images import Images
    from edgefm.train.predict import predict

    last = DEPTH - 1
    names = noted((last,), LossRecipe(attention=1.0, relation=1.0))
    seen = []
    for model in map(load_model, (run, teacher)):
        dataset = load_data(LABELS, DataRecipe(), labels=model.task.labels)
        encoder = AttentionEncoder(model.module, names).eval()
        device = torch.device("cpu")
        asked = predict(encoder, Images(dataset), dataset.of("val"), model.preprocess, device=device, precision="fp32")
        said = [outputs.attention for _, outputs in asked if isinstance(outputs, Attended)]
        seen.append({name: torch.cat([each[name] for each in said]) for name in names})
    pairs = ((last, last),)
    formulas = {"attention": attention_loss, "relation": relation_loss}
    return {name: round(float(formula(*seen, pairs)), 4) for name, formula in formulas.items()}


def results(found: dict[str, dict[str, dict[str, Any]]], teacher: np.ndarray) -> dict[str, Any]:
    """AUC and balanced accuracy of every run, and with intervals what the arms with a loss more differ from the default."""
    _, truth, patients = test_images()
    chances = {name: {seed: np.array(run["probability"]) for seed, run in runs.items()} for name, runs in found.items()}
    arms = {}
    for name, runs in found.items():
        arms[name] = {
            seed: point(chances[name][seed], truth)
            | {"mean_difference_from_the_teachers_probability": round(float(np.abs(chances[name][seed] - teacher).mean()), 4)}
            | {key: value for key, value in run.items() if key != "probability"}
            for seed, run in runs.items()
        }
    differences = {
        f"{name} - default": difference(chances[name], chances["default"], teacher, truth, patients)
        for name in ARMS
        if name != "default"
    }
    helps = {
        pair: {
            metric: "yes" if each["low"] > 0 else "no" if each["high"] < 0 else "not shown" for metric, each in found.items()
        }
        for pair, found in differences.items()
    }
    counts = {"images": len(truth), "patients": int(patients.max()) + 1}
    return counts | {"teacher": point(teacher, truth), "arms": arms, "differences": differences, "better": helps}


def difference(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], teacher: np.ndarray, truth: np.ndarray, patients: np.ndarray
) -> dict[str, dict[str, float]]:
    """Three means over some runs less those over others, on the same resampled patients; larger is better.

    AUC, balanced accuracy, and 1 less the mean difference from the teacher's probability.
    """
    from edgefm.verify.intervals import bootstrap_intervals
    from edgefm.verify.metrics import auc

    def metrics(rows: np.ndarray) -> dict[str, float]:
        right = truth[rows]

        def of(chances: np.ndarray) -> np.ndarray:
            drawn = chances[rows]
            balanced = ((drawn[right] >= 0.5).mean() + (drawn[~right] < 0.5).mean()) / 2
            return np.array([auc(drawn, right), balanced, 1 - np.abs(drawn - teacher[rows]).mean()])

        means = [np.mean([of(each) for each in runs.values()], axis=0) for runs in (one, other)]
        return dict(zip(("auc", "balanced_accuracy", "closeness_to_the_teacher"), (means[0] - means[1]).tolist()))

    found = bootstrap_intervals(metrics, patients)
    return {name: {key: round(float(value), 5) for key, value in each._asdict().items()} for name, each in found.items()}


if __name__ == "__main__":
    main()

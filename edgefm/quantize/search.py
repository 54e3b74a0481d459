"""The search for an int8 that changes little enough: the first one, and where the gate says no to it, others in a fixed order.

    int8 ─▶ biases corrected ─▶ 1, 2, 4, … layers in float, the most sensitive first ─▶ refit

The first has the better of two kinds of ranges; which that is, calibration images say. Each but the refit has its last layer's
bias corrected (`bias.centred`), and each is measured on `val`. The refit of the logits starts from the best of all.

With layers in float the biases are corrected anew: those that make up for the error of layers which err no more would
themselves be an error. A MobileNetV3-small, error of the logits in standard deviations without correction, corrected before,
corrected after: 8 layers in float 0.040, 0.041, 0.032; 32 layers 0.011, 0.031, 0.010. Float layers keep int8 weights in the
file where that adds little (`_packed`). Not the gate's rule (`decide.py`). Of `val` nothing but the gate sees a label, and
the test images nothing sees at all.

`val` counts. What is likely to change, every image's answer with the errors of images about as far from the threshold,
foretells other images hardly better than the count: two students, 237 images of the 1,211 against the others, root mean
square of what is foretold less what is found 0.51 points against 0.66.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial

import numpy as np
import onnx

from ..export.draft import Draft
from ..export.fp32 import Report
from ..export.golden import reference
from .bias import centred, correct_biases, places, square_error
from .execute import execute
from .job import Job
from .kept import Kept, Outputs
from .layers import drop_unread, in_float, layers
from .measure import measure
from .nncf import quantize_onnx
from .refit import folded, folds, refit
from .sensitivity import rank
from .trial import Trial, as_a_device_would, int8_outputs, judged
from .weights import pack_weights

FEW = 32  # calibration images for what runs the graph once or twice per layer
MORE, MEMORY = 128, 2**28  # for what runs it once: `FEW`, or as many more as fit in these bytes
WORSE = 1.25  # times the error that int8 weights of float layers may add, for a quarter of their bytes
FIRST = "int8"
RANGES = "edgefm.ranges"

Make = Callable[[], onnx.ModelProto | None]
Attempt = tuple[str, Mapping[str, float], Make]


class Search:
    """One search.

    Args:
        proto: the fp32 graph. draft: the fp32 bundle. truth: the torch model's outputs on `val`.
        kept: where every trial is kept. save: called with each trial that is the best so far and does not pass.
    """

    def __init__(
        self,
        job: Job,
        proto: onnx.ModelProto,
        draft: Draft,
        truth: Outputs,
        kept: Kept,
        save: Callable[[Trial], None],
        report: Report,
    ) -> None:
        self.job, self.proto, self.draft, self.truth = job, proto, draft, truth
        self.kept, self.save, self.report = kept, save, report
        self.trials: list[Trial] = []
        self.stop = float("inf")

    def run(self) -> Trial:
        """The first trial whose variants all pass the gate, else the best there was when the trials or their time ended.

        The minutes are the whole search's: what earlier runs spent counts. A trial that they measured is always taken up.
        """
        self.report(self.job.calibrated())
        first = self._tried(FIRST, {}, self._quantized)
        assert first is not None
        if not first.failing:
            return first
        minutes = self.job.recipe.quantize.minutes
        self.report(f"the gate says no to the first int8: {first.why()}; trials follow, for at most {minutes:g} minutes")
        spent = self.kept.seconds
        if spent:
            self.report(f"{spent / 60:.1f} of them were spent before the run was stopped")
        begun = time.monotonic() - spent
        self.stop = begun + 60 * minutes
        try:
            return self._searched(first, minutes, begun)
        except BaseException:
            self.kept.spend(time.monotonic() - begun)
            raise

    def _searched(self, first: Trial, minutes: float, begun: float) -> Trial:
        """The trials after the first, until one passes, there are no more, or time is over."""
        self.save(first)
        for name, made, make in self._attempts():
            self.kept.spend(time.monotonic() - begun)  # a killed process loses the seconds of one trial at most
            found = self._tried(name, made, make)
            if found is None:
                self.report(f"{minutes:g} minutes are over before the trial '{name}' (--set quantize.minutes=… gives more)")
                break
            self.report(f"{name}: {found.why() or 'passes'}")
            if found is self.best and found.failing:
                self.save(found)
            if not found.failing:
                break
        return self.best

    @property
    def best(self) -> Trial:
        """The best so far; of equals the earliest."""
        return min(self.trials, key=lambda trial: trial.rank)

    def _attempts(self) -> Iterator[Attempt]:
        """What to try next, each from the best that there is when its turn comes."""
        base = self.best
        made = {**base.made, "biases_corrected": 1.0} if places(base.graph, self.proto) else base.made
        if made != base.made:
            yield "biases corrected", made, partial(self._corrected, base.graph)
        order: list[str] = []
        count = 1
        while 2 * count <= len(layers(base.graph, self.proto)):
            name = f"{count} layers in float" if count > 1 else "1 layer in float"
            yield name, {**made, "layers_in_float": float(count)}, partial(self._floated, base, order, count)
            if order and count >= len(order):
                break
            count *= 2
        if self.job.model.task.kind != "embedding":
            yield "logits refitted", self.best.made, self._refitted

    def _tried(self, name: str, made: Mapping[str, float], make: Make) -> Trial | None:
        """A trial, recalled if it was measured before the run was stopped; None if time was over before there was a graph."""
        recalled = self.kept.recall(name)
        if recalled is None:
            graph = make() if time.monotonic() < self.stop else None
            if graph is None:
                return None
            recalled = graph, int8_outputs(self.draft, self.job, self.proto, graph, self.job.val, self.kept.best)
            self.kept.store(name, *recalled)
        else:
            self.report(f"{name}: measured before, taken up again")
        graph, outputs = recalled
        found = judged(self.job, name, graph, outputs, self.truth, {**_ranges(graph), **made, **folds(graph)})
        self.trials.append(as_a_device_would(found, self.draft, self.job, self.proto, self.kept.best))
        return self.trials[-1]

    def _quantized(self) -> onnx.ModelProto:
        """Activations from their least to their largest value, or in ranges that their histograms choose: what errs less."""
        images, aim = self._answered
        found = {}
        for histograms in (False, True):
            graph = centred(quantize_onnx(self.proto, self.job.calibration, histograms=histograms), images, aim)
            found[histograms] = square_error(graph, images, aim, shifts=False), graph
        (whole, widest), (chosen, narrower) = found[False], found[True]
        self.report(
            f"root mean square error of the {self.proto.graph.output[0].name} of {len(images)} calibration images: "
            f"{whole**0.5:.2g} with ranges that hold everything, {chosen**0.5:.2g} with those that histograms choose; "
            f"{'the latter' if chosen < whole else 'the former'} are taken"
        )
        if not chosen < whole:
            return widest
        narrower.metadata_props.add(key=RANGES, value="histograms")
        return narrower

    def _corrected(self, graph: onnx.ModelProto) -> onnx.ModelProto | None:
        found = correct_biases(graph, self.proto, self._images(), self.stop)
        return None if found is None else centred(found, *self._answered)

    def _floated(self, base: Trial, order: list[str], count: int) -> onnx.ModelProto | None:
        """`base` with the `count` most sensitive layers in float, biases corrected. `order` is filled when it is empty."""
        if not order:
            ranked = rank(base.graph, self.proto, self._images(), self.stop)
            if ranked is None:
                return None
            order += [each.layer for each in ranked]
            most = ", ".join(f"{each.layer} ({each.error:.2g})" for each in ranked[:3])
            self.report(f"the most sensitive layers (error of the answer in std if they alone are int8): {most or 'none'}")
        found = self._corrected(in_float(base.graph, self.proto, order[:count]))
        return None if found is None else self._packed(found)

    def _packed(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """The graph with the weights of float layers stored as int8, where its answers err little more for it."""
        packed = onnx.ModelProto()
        packed.CopyFrom(graph)
        pack_weights(packed)
        drop_unread(packed.graph)
        packed = centred(packed, *self._answered)
        before, after = (square_error(each, *self._answered, shifts=False) for each in (graph, packed))
        return packed if after <= WORSE**2 * before else graph

    def _refitted(self) -> onnx.ModelProto:
        """The best of before with a scale and a shift of its logits, fitted on the calibration images."""
        job, graph = self.job, self.best.graph
        indexes = job.calibration.indexes
        small = int8_outputs(self.draft, job, self.proto, graph, indexes, self.kept.best)
        fp32 = {"fp32": lambda batch: reference(job.model, batch)}
        torch = measure(job.dataset, indexes, job.prepare, fp32, job.bar)
        logits = np.concatenate([found["logits"] for found in small.values()])
        aim = np.concatenate([torch["fp32"]["logits"]] * len(small))
        return folded(graph, refit(logits, aim, job.model.task), job.model.task)

    @cached_property
    def _answered(self) -> tuple[np.ndarray, np.ndarray]:
        """Calibration images, prepared, float32 `[n, C, S, S]`, and what fp32 answers to them, `[n, K]`."""
        spec = self.job.model.preprocess
        most = max(FEW, min(MORE, MEMORY // (4 * spec.channels * spec.size**2)))
        images = np.concatenate(list(self.job.calibration.spread(most)))
        return images, execute(self.proto, images)[self.proto.graph.output[0].name]

    def _images(self) -> np.ndarray:
        """At most `FEW` calibration images, prepared, float32 `[n, C, S, S]`."""
        return np.concatenate(list(self.job.calibration.spread(FEW)))


def _ranges(graph: onnx.ModelProto) -> dict[str, float]:
    """How the graph's ranges were chosen, for the manifest's evidence: "ranges_from_histograms", or nothing."""
    return {"ranges_from_histograms": 1.0} if any(each.key == RANGES for each in graph.metadata_props) else {}

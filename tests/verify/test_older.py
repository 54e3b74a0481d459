"""Under a cap a variant answers for the images nearest to a change, is compared with itself, and a difference is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.runtime import select
from edgefm.runtime.instructions import SETS, caps
from edgefm.spec.task import Task, make_task
from edgefm.verify import older as module
from edgefm.verify.answers import Answers, collect
from edgefm.verify.contenders import Contender, variants_of
from edgefm.verify.older import MOST, nearest, older

from ..runtime.conftest import MakeBundle, make_bundle  # noqa: F401
from .people import BINARY, Greys, answered, contender

X86 = pytest.mark.skipif(not caps(), reason="this processor has nothing that a cap holds back")
SEVERAL = ("a", "b", "c")


class Fake:
    """A child under a cap without a process: `differs` says what it makes of the outputs, by variant and cap."""

    open = 0

    def __init__(self, predict: Callable[[np.ndarray], Any], wrong: str = "") -> None:
        self.predict, self.wrong = predict, wrong
        Fake.open += 1

    def ready(self) -> str:
        return self.wrong

    def __call__(self, prepared: np.ndarray) -> Any:
        return self.predict(prepared)

    def close(self) -> None:
        Fake.open -= 1


def held(
    monkeypatch: pytest.MonkeyPatch, images: Greys, own: Contender, *capped: Contender, engine: str = "openvino"
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """`older` of one variant, whose answers under the first cap, the second and so on are those of `capped`."""
    sets = [SETS["sse41"], SETS["avx2"]][: len(capped)]
    by_cap = dict(zip([each.openvino for each in sets], capped))
    candidate = SimpleNamespace(name=own.name, precision=own.precision, variant=SimpleNamespace(engine=engine))
    monkeypatch.setattr(module, "candidates", lambda manifest: ([candidate], {}))
    monkeypatch.setattr(module, "caps", lambda: sets)
    monkeypatch.setattr(
        module, "Capped", lambda path, name, cap: Fake(by_cap[cap.openvino].predict, by_cap[cap.openvino].wrong)
    )
    embeddings = own.task.kind == "embedding"
    answers = collect(images, [own], reference=None, embeddings=embeddings, bar=lambda share, left: None)
    images.read = [0] * len(images)
    found = older(SimpleNamespace(path=Path("b.efm"), manifest=None), images, answers, bar=lambda share, left: None)  # type: ignore[arg-type]
    assert Fake.open == 0
    return found


def of_probabilities(rows: np.ndarray, task: Task) -> Answers:
    (found,) = answered(Greys([0]), contender("one"))
    one = contender("one", task=task)
    return Answers(contender=one, probabilities=np.asarray(rows), decided=found.decided, embedding=None, cosine=None)


def test_those_nearest_to_the_threshold_are_asked_and_the_next_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    task = Task(kind="binary", labels=BINARY.labels, thresholds=(0.2,))
    asked, beyond = nearest(of_probabilities(np.array([[1 - p, p] for p in (0.9, 0.25, 0.5, 0.19, 0.0)]), task))
    assert asked.tolist() == [1, 3]
    assert beyond == pytest.approx(0.2)  # of the last one


def test_of_equal_distances_the_first_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    asked, beyond = nearest(of_probabilities(np.array([[1 - p, p] for p in (0.75, 0.25, 0.5, 0.25, 0.75, 0.25)]), BINARY))
    assert asked.tolist() == [0, 1, 2]
    assert beyond == 0.25


def test_of_several_classes_the_two_most_probable_may_both_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    rows = np.array([[0.5, 0.3, 0.2], [0.35, 0.4, 0.25], [0.1, 0.1, 0.8]])
    asked, beyond = nearest(of_probabilities(rows, make_task("multiclass", SEVERAL)))
    assert asked.tolist() == [1]
    assert beyond == pytest.approx(0.1)  # 0.5 and 0.3 meet at 0.4
    moved = rows[0] + beyond * np.array([-1.01, 1.01, 0])
    assert moved.argmax() != rows[0].argmax()


def test_of_several_labels_the_one_nearest_to_its_own_threshold_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    task = Task(kind="multilabel", labels=SEVERAL, thresholds=(0.5, 0.1, 0.9))
    asked, beyond = nearest(of_probabilities(np.array([[0.9, 0.5, 0.5], [0.9, 0.15, 0.5], [0.48, 0.6, 0.1]]), task))
    assert asked.tolist() == [2]
    assert beyond == pytest.approx(0.05)


@pytest.mark.parametrize("count", [1, MOST])
def test_of_few_images_all_are_asked_and_nothing_is_beyond(count: int) -> None:
    rows = np.random.default_rng(0).random((count, 1))
    asked, beyond = nearest(of_probabilities(np.concatenate([1 - rows, rows], axis=1), BINARY))
    assert asked.tolist() == list(range(count))
    assert beyond is None


def test_embeddings_are_asked_for_evenly_spaced_images(monkeypatch: pytest.MonkeyPatch) -> None:
    one = contender("openvino-fp32", task=make_task("embedding"))
    (answer,) = answered(Greys([0] * 10 * MOST), one, embeddings=True)
    asked, beyond = nearest(answer)
    assert len(set(asked.tolist())) == MOST
    assert set(np.diff(asked).tolist()) == {10}
    assert beyond is None
    off = contender("capped", lambda level: level + 0.5, task=make_task("embedding"))
    (record,), _ = held(monkeypatch, Greys([0, 100, 200, 250]), one, off)
    assert (record["flips"], record["beyond"], record["passed"]) == (None, None, False)
    spread = np.array([[level / 255, 1] for level in (0, 100, 200, 250)]).std()
    assert record["largest_difference"] == pytest.approx(0.5 / spread, rel=1e-5)


def test_only_those_asked_are_read_again_and_compared_with_the_same_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    images = Greys([250, 120, 5, 135])
    shifted = contender("capped", lambda level: level + 0.04, precision="int8")
    same = contender("capped", precision="int8", wrong="logits off by 0.3")
    (first, second), reasons = held(monkeypatch, images, contender("openvino-int8", precision="int8"), shifted, same)
    assert images.read == [0, 1, 0, 1]  # once for both caps
    assert first == {
        "name": "openvino-int8 capped to SSE41", "variant": "openvino-int8", "cap": "SSE41", "images": 2,
        "largest_difference": pytest.approx(0.04, abs=1e-6), "flips": 1, "beyond": pytest.approx(250 / 255 - 0.5, abs=1e-5),
        "wrong": "", "passed": True,
    }  # fmt: skip
    assert (second["cap"], second["flips"], second["wrong"]) == ("AVX2", 0, "logits off by 0.3")
    assert second["largest_difference"] == pytest.approx(0, abs=1e-12)
    assert reasons == {}


@pytest.mark.parametrize(("apart", "passed"), [(0.0009, True), (0.0011, False)])
def test_in_fp32_more_than_round_off_does_not_pass(monkeypatch: pytest.MonkeyPatch, apart: float, passed: bool) -> None:
    off = contender("capped", lambda level: level + apart)
    (record,), _ = held(monkeypatch, Greys([10, 100, 200]), contender("openvino-fp32"), off)
    assert record["passed"] is passed


def test_an_engine_without_a_switch_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found, reasons = held(monkeypatch, Greys([1]), contender("onnx-fp32"), contender("capped"), engine="onnx")
    assert found == []
    assert reasons == {"onnx-fp32 capped": "onnx has no switch for its instruction set"}


def test_what_cannot_start_under_a_cap_has_a_reason_and_the_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(batch: np.ndarray) -> Any:
        raise AssertionError

    fine = contender("capped")

    def ready(self: Fake) -> str:
        if self.predict is refuses:
            raise InputError("no primitive for that")
        return self.wrong

    monkeypatch.setattr(Fake, "ready", ready)
    broken = Contender(name="capped", precision="fp32", task=BINARY, preprocess=fine.preprocess, predict=refuses)
    found, reasons = held(monkeypatch, Greys([1, 2]), contender("openvino-fp32"), broken, fine)
    assert [each["cap"] for each in found] == ["AVX2"]
    assert reasons == {"openvino-fp32 capped to SSE41": "no primitive for that"}


def test_progress_rises_to_one_over_all_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("openvino-fp32", "openvino-int8")
    every = [SimpleNamespace(name=n, precision="fp32", variant=SimpleNamespace(engine="openvino")) for n in names]
    monkeypatch.setattr(module, "candidates", lambda manifest: (every, {}))
    monkeypatch.setattr(module, "caps", lambda: [SETS["avx2"]])
    monkeypatch.setattr(module, "Capped", lambda path, name, cap: Fake(contender("capped").predict))
    images, told = Greys([1, 2]), []
    answers = answered(images, *map(contender, names))
    bundle = SimpleNamespace(path=Path("b.efm"), manifest=None)
    older(bundle, images, answers, bar=lambda share, left: told.append(share))  # type: ignore[arg-type]
    assert told == pytest.approx([0.25, 0.5, 0.75, 1])


def greys(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    images = Greys([10, 60, 110, 160, 210, 240])
    with open_bundle(path) as bundle:
        own, _ = variants_of(bundle)
        embeddings = bundle.manifest.task.kind == "embedding"
        answers = collect(images, own, reference=None, embeddings=embeddings, bar=lambda share, left: None)
        return older(bundle, images, answers, bar=lambda share, left: None)


@X86
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "embedding"])
def test_real_engines_under_every_cap_differ_by_round_off(make_bundle: MakeBundle, kind: str) -> None:  # noqa: F811
    pytest.importorskip("openvino")
    found, reasons = greys(make_bundle(kind))
    assert [each["name"] for each in found] == [f"openvino-fp32 capped to {cap.openvino}" for cap in caps()]
    for each in found:
        assert (each["images"], each["wrong"], each["passed"], each["beyond"]) == (6, "", True, None)
        assert each["largest_difference"] < 1e-4
        assert each["flips"] == (None if kind == "embedding" else 0)
    assert reasons == {"onnx-fp32 capped": "onnx has no switch for its instruction set"}
    json.dumps(found)  # plain values


@X86
def test_one_that_contradicts_its_golden_outputs_is_marked(make_bundle: MakeBundle) -> None:  # noqa: F811
    pytest.importorskip("openvino")
    found, _ = greys(make_bundle(wrong=("openvino-fp32",)))
    assert found
    assert all("logits off by" in each["wrong"] for each in found)


def test_bf16_runs_under_the_caps_that_have_it_and_no_others(
    make_bundle: MakeBundle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "runs_bf16", lambda: True)
    monkeypatch.setattr(module, "caps", lambda: [SETS["avx512_vnni"], SETS["avx512_bf16"]])
    asked = []

    def child(path: Path, name: str, cap: Any) -> Fake:
        asked.append((name, cap.openvino))
        return Fake(contender("capped").predict)

    monkeypatch.setattr(module, "Capped", child)
    own = [contender("openvino-fp32"), contender("openvino-bf16", precision="bf16")]
    images = Greys([1, 2])
    with open_bundle(make_bundle(variants=("openvino-fp32",), bf16=True)) as bundle:
        found, _ = older(bundle, images, answered(images, *own), bar=lambda share, left: None)
    assert asked == [
        ("openvino-fp32", "AVX512_CORE_VNNI"),
        ("openvino-fp32", "AVX512_CORE_BF16"),
        ("openvino-bf16", "AVX512_CORE_BF16"),
    ]
    assert [each["variant"] for each in found] == [name for name, _ in asked]


def test_a_variant_that_did_not_answer_here_is_not_asked_under_a_cap(
    make_bundle: MakeBundle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "caps", lambda: [SETS["sse41"]])
    monkeypatch.setattr(module, "Capped", None)
    images = Greys([1])
    with open_bundle(make_bundle()) as bundle:
        found, reasons = older(bundle, images, answered(images, contender("onnx-fp32")), bar=lambda share, left: None)
    assert found == []
    assert list(reasons) == ["onnx-fp32 capped"]

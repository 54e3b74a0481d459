"""All that can run here answers, what cannot has a reason, and what computes wrongly is marked and not left out."""

from __future__ import annotations

import pytest

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.runtime import cpu, select
from edgefm.spec.task import make_task
from edgefm.verify.contenders import comparable, in_fp32, variants_of

from ..runtime.conftest import MakeBundle, make_bundle  # noqa: F401
from .people import BINARY, contender


def test_a_variant_that_contradicts_its_golden_outputs_is_marked(make_bundle: MakeBundle) -> None:  # noqa: F811
    with open_bundle(make_bundle(wrong=("openvino-fp32",))) as bundle:
        found, left_out = variants_of(bundle)
    assert [each.name for each in found] == ["openvino-fp32", "onnx-fp32"]
    assert "logits off by" in found[0].wrong
    assert found[1].wrong == ""
    assert list(left_out) == ["openvino-bf16"]


def test_an_engine_that_is_not_installed_leaves_the_others(
    make_bundle: MakeBundle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "installed", lambda engine: engine == "onnx")
    with open_bundle(make_bundle(variants=("openvino-fp32", "openvino-int8", "onnx-int8"))) as bundle:
        found, left_out = variants_of(bundle)
    assert [each.name for each in found] == ["onnx-int8"]
    assert left_out["openvino-int8"] == "OpenVINO is not installed"
    assert in_fp32(found) is None


def test_no_variant_that_can_run_is_an_error_with_the_reasons(
    make_bundle: MakeBundle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "installed", lambda engine: False)
    with open_bundle(make_bundle()) as bundle, pytest.raises(InputError, match=r"small.efm can run here: .*not installed"):
        variants_of(bundle)


def test_bf16_takes_part_where_bundle_and_processor_allow_it(
    make_bundle: MakeBundle,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_bundle(make_bundle(bf16=True)) as bundle:
        for there in (False, True):
            if there and not cpu.runs_bf16():
                pytest.skip("this processor has no bf16")
            if not there:
                monkeypatch.setattr(cpu, "cpu_features", dict)
            found, left_out = variants_of(bundle)
            monkeypatch.undo()
            assert ("openvino-bf16" in [each.name for each in found]) == there
            assert left_out.get("openvino-bf16") == (None if there else "this processor has no bf16")


def test_a_reference_must_have_the_labels_in_the_same_order_unless_the_answer_is_an_embedding() -> None:
    reference = contender("teacher", task=make_task("binary", BINARY.labels[::-1]))
    with pytest.raises(InputError, match="teacher answers binary: ill, normal"):
        comparable(reference, BINARY)
    comparable(reference, make_task("embedding"))
    comparable(contender("teacher"), BINARY)

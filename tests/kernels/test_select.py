"""Which implementation runs, and why."""

from __future__ import annotations

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.select import IMPLEMENTED, choose, table

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv("EDGEFM_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_on_a_processor_the_reference_runs_and_says_why():
    for choice in table(CPU):
        if "triton" in IMPLEMENTED[choice.operator]:
            assert choice.backend == "reference"
            assert "Triton" in choice.reason


def test_int8_attention_runs_in_cpp_where_it_is_built(monkeypatch):
    pytest.importorskip("edgefm._native")
    assert choose("attention_int8", CPU).backend == "cpu"
    assert choose("attention_int8", torch.device("meta")).backend == "reference"
    monkeypatch.setenv("EDGEFM_KERNELS", "triton")  # which it has not: the word is for those that have
    assert choose("attention_int8", CPU).backend == "cpu"
    monkeypatch.setenv("EDGEFM_KERNELS", "attention_int8=triton")
    with pytest.raises(InputError, match="names triton"):
        choose("attention_int8", CPU)


def test_the_interpreter_runs_only_when_it_is_asked_for_by_name(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("attention_kl", CPU).backend == "reference"
    monkeypatch.setenv("EDGEFM_KERNELS", "triton")
    assert choose("attention_kl", CPU).backend == "triton"


def test_each_operator_can_be_given_its_own_backend(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("EDGEFM_KERNELS", "reference, attention_kl = triton")
    assert {name: choose(name, CPU).backend for name in IMPLEMENTED} == dict.fromkeys(IMPLEMENTED, "reference") | {
        "attention_kl": "triton"
    }


def test_a_backend_that_cannot_run_here_is_refused_and_not_replaced(monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", "triton")
    with pytest.raises(InputError, match="asks for triton"):
        choose("attention_kl", CPU)


@pytest.mark.parametrize("words", ["fast", "attention_kl=fast", "attenshun=triton"])
def test_a_word_that_means_nothing_is_refused(monkeypatch, words):
    monkeypatch.setenv("EDGEFM_KERNELS", words)
    with pytest.raises(InputError, match="EDGEFM_KERNELS names"):
        choose("attention_kl", CPU)

"""Tuning takes what is faster and answers the same, and nothing else; its cases run in the interpreter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from edgefm.errors import InputError
from edgefm.kernels.triton import measured
from edgefm.kernels.triton.tune import Case, cases, fastest, neighbours, tune

CPU, KEY, TABLE = torch.device("cpu"), "a kernel", (64, 64, 4, 2)


def case(answers) -> Case:
    """A kernel that answers by its blocks."""
    return Case(KEY, TABLE, lambda: [torch.tensor([float(answers(measured.measured(KEY, CPU)))])])


def by(times):
    return lambda step: times.get(measured.measured(KEY, CPU), 1.0)


def test_the_fastest_neighbour_is_taken():
    assert fastest(case(lambda blocks: 3), by({(32, 64, 4, 2): 0.8, (64, 128, 4, 2): 0.7})) == (64, 128, 4, 2)


def test_what_is_hardly_faster_is_noise():
    assert fastest(case(lambda blocks: 3), by({(32, 64, 4, 2): 0.98})) == TABLE


def test_a_fast_wrong_answer_is_no_answer():
    for wrong in (3.2, float("nan")):
        kernel = case(lambda blocks, wrong=wrong: wrong if blocks == (32, 64, 4, 2) else 3)
        assert fastest(kernel, by({(32, 64, 4, 2): 0.1})) == TABLE


def test_blocks_that_do_not_compile_are_left_out():
    def answer(blocks):
        if blocks != TABLE:
            raise RuntimeError("out of resource: shared memory")
        return 3

    assert fastest(case(answer), by({(32, 64, 4, 2): 0.1})) == TABLE


def test_neighbours_are_one_step_away_and_can_run():
    for blocks in (TABLE, (16, 256, 8, 1), (128, 256, 64, 8, 3)):
        for other in neighbours(blocks):
            assert sum(a != b for a, b in zip(blocks, other, strict=True)) == 1
            assert measured._fits(other)


def test_without_a_card_there_is_nothing_to_tune():
    with pytest.raises(InputError, match="nothing to tune"):
        tune(CPU)


def test_where_other_kernels_run_there_is_nothing_to_tune(monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", "lora=reference,attention=reference")
    with pytest.raises(InputError, match="attention runs in reference"):
        tune(CPU, lambda step: 1.0, small=True)


def test_a_case_whose_table_is_the_fastest_is_kept_as_measured_too(monkeypatch):
    """Else the doctor would ask for a tuning after each."""
    monkeypatch.setattr("edgefm.kernels.triton.tune.cases", lambda device, small: [case(lambda blocks: 3)])
    monkeypatch.setattr("edgefm.kernels.triton.tune.choose", lambda operator, device: SimpleNamespace(backend="triton"))
    assert tune(CPU, lambda step: 1.0) == {KEY: TABLE}


def test_tuning_begins_at_the_tables_and_not_at_what_it_kept_before():
    """Else it would wander off, a step each time."""
    first = {case.key: case.blocks for case in cases(CPU, small=True)}
    with measured.held({key: (16, *blocks[1:]) for key, blocks in first.items()}):
        assert {case.key: case.blocks for case in cases(CPU, small=True)} == first


def test_attention_is_tuned_with_the_bias_that_takes_the_most_memory(monkeypatch):
    """Blocks kept from a bias of 16 bits would not fit a card with one of 32, as relative positions have under autocast."""
    from edgefm.kernels.triton import tune as module

    seen = []
    real = module.attention
    monkeypatch.setattr(module, "attention", lambda q, k, v, bias, **asked: seen.append(bias) or real(q, k, v, bias, **asked))
    next(cases(CPU, small=True)).step()
    assert [bias.dtype for bias in seen] == [torch.float32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU: Triton compiles, its interpreter is not used")
def test_every_case_runs_and_is_decided_by_its_key(monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", "attention=triton,attention_kl=triton,lora=triton")
    asked: set[str] = set()
    real = measured.measured

    def told(key, device):
        asked.add(key)
        return real(key, device)

    for module in ("attention", "attention_kl", "lora"):
        monkeypatch.setattr(f"edgefm.kernels.triton.{module}.measured", told)
    for each in cases(CPU, small=True):
        asked.clear()
        assert all(torch.isfinite(value).all() for value in each.step())
        assert each.key in asked, each.key
        assert measured._fits(each.blocks)

"""Which kernels a step launches is read from the profiler's trace, once all times are taken, or why it cannot be."""

from __future__ import annotations

import json
import time

import torch


def traced(name, dur, cat="kernel", **args):
    return {"name": name, "dur": dur, "cat": cat, "args": args}


def test_of_a_trace_the_cards_own_work_is_counted_and_nothing_twice(script):
    product = {"grid": [2376, 1, 1], "registers per thread": 168}
    half = [
        traced("product_kernel", 400.0, **product),
        traced("product_kernel", 100.0, grid=[594, 1, 1], **{"registers per thread": 168}),
        traced("void at::native::elementwise_kernel<4, at::native::CUDAFunctor_add<float> >(int)", 6.0),
        traced("Memset (Device)", 2.0, "gpu_memset"),
        traced("Torch-Compiled Region: 0/0", 508.0, "gpu_user_annotation"),
        traced("cudaLaunchKernel", 3.0, "cuda_runtime"),
        {"ph": "M", "name": "process_name"},
    ]
    found = script("gpu_profile").launched(half * 2, 2)
    assert (found["launches"], found["us"]) == (4, 508.0)
    assert list(found["largest"].items()) == [
        ("product_kernel (2376x1x1 blocks, 168 registers)", (1, 400.0)),
        ("product_kernel (594x1x1 blocks, 168 registers)", (1, 100.0)),
        ("elementwise_kernel<4, CUDAFunctor_add<float> >(int)", (1, 6.0)),
        ("Memset (Device)", (1, 2.0)),
    ]


def test_of_many_kernels_the_ten_largest_are_named_and_all_are_counted(script):
    found = script("gpu_profile").launched([traced(f"k{i}", float(i)) for i in range(1, 13)], 1)
    assert list(found["largest"]) == [f"k{i}" for i in range(12, 2, -1)]
    assert (found["launches"], found["us"]) == (12, 78.0)
    assert script("gpu_profile").launched([traced("range", 1.0, "gpu_user_annotation")], 1) == {
        "why": "the profiler recorded no kernel"
    }


def test_a_profiler_that_refuses_says_why_and_the_times_stay(run, script, monkeypatch):
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: 1 / 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setenv("TEARDOWN_CUPTI", "1")
    row = {"ms": 2.0}
    run.save(rows=[row])
    run.profile("first", row, {"EdgeFM": lambda: None})
    assert "kernels" not in row  # not before all rows have their times
    assert run.finish() == 0
    assert json.loads(run.out.read_text())["rows"] == [
        {"ms": 2.0, "kernels": {"EdgeFM": {"why": "ZeroDivisionError: division by zero"}}}
    ]


def test_kernels_that_nobody_has_time_for_are_named(run):
    row = {}
    run.profile("first", row, {"EdgeFM": lambda: 1 / 0})
    run.end = time.monotonic() - 61
    assert run.finish() == 0
    assert (row, run.not_measured) == ({}, ["kernels of first"])

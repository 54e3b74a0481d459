"""The vision transformer in C++, held to torch: every kind, precision and table of kernels; and its memory."""

from __future__ import annotations

import itertools
import mmap
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

_native = pytest.importorskip("edgefm._native")
pytest.importorskip("timm")

from edgefm.export.golden import reference  # noqa: E402

from .vits import KINDS, files, images, make, nmse  # noqa: E402

BEST = _native.Encoder(*files(make("class token"), "fp32"), threads=1, images=1).isa
TABLES = list(dict.fromkeys(("scalar", BEST)))
EXACT, SMALL = 1e-4, 3e-3  # largest difference in standard deviations; NMSE of int8


@pytest.mark.parametrize("isa", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_fp32_answers_as_torch_and_int8_nearly(kind: str, isa: str) -> None:
    if kind == "577 tokens" and isa == "scalar" and BEST != "scalar":
        pytest.skip("seconds for the oracle; the others hold it at fewer tokens")
    model = make(kind)
    prepared = images(model, 3)
    expected = reference(model, prepared)
    for precision in ("fp32", "int8"):
        encoder = _native.Encoder(*files(model, precision), threads=1, images=2, isa=isa)
        assert encoder.isa == isa
        logits, embedding, _ = encoder.run(prepared)
        found = {"embedding": embedding} if logits is None else {"logits": logits, "embedding": embedding}
        assert found.keys() == expected.keys()
        for name, rows in found.items():
            if precision == "fp32":
                assert np.abs(rows - expected[name]).max() <= EXACT * expected[name].std()
            else:
                assert nmse(rows, expected[name]) <= SMALL


@pytest.mark.parametrize(
    ("kind", "patch"), [*((kind, "int8") for kind in KINDS if kind != "577 tokens"), ("class token", "fp32")]
)
def test_int8_answers_with_the_same_bits_on_every_instruction_set(kind: str, patch: str) -> None:
    model = make(kind)
    prepared, written = images(model, 3), files(model, "int8", patch=patch)
    answers = [_native.Encoder(*written, threads=1, images=3, isa=isa).run(prepared)[:2] for isa in _native.kernel_tables()]
    for logits, embedding in answers[1:]:
        assert np.array_equal(embedding, answers[0][1])
        assert np.array_equal(logits, answers[0][0])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "no class" not in kind and kind != "577 tokens"])
def test_the_heat_map_is_the_class_tokens_attention_of_the_last_layer(kind: str) -> None:
    model = make(kind)
    prepared = images(model, 2)
    trunk: Any = model.module.model
    attention = trunk.blocks[-1].attn
    seen: list[torch.Tensor] = []
    handle = attention.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    reference(model, prepared)
    handle.remove()
    with torch.no_grad():
        count, tokens, _ = seen[0].shape
        q, k, _ = attention.qkv(seen[0]).reshape(count, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = attention.q_norm(q[:, :, :1]) @ attention.k_norm(k).transpose(-1, -2) * attention.scale
        expected = scores.softmax(dim=-1).mean(dim=1)[:, 0, trunk.num_prefix_tokens :].numpy()
    for precision, bound in (("fp32", 1e-4), ("int8", 0.15)):
        heat = _native.Encoder(*files(model, precision), threads=1, images=1).run(prepared, heat=True)[2]
        assert heat.shape == (2, *trunk.patch_embed.grid_size)
        assert np.abs(heat.reshape(2, -1) - expected).max() <= bound * expected.max()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", ["class token", "registers with positions", "no class token, mean, fc_norm"])
def test_threads_batches_and_repetition_change_no_bit(kind: str, precision: str) -> None:
    model = make(kind)
    prepared, written = images(model, 5), files(model, precision)
    one = _native.Encoder(*written, threads=1, images=1)
    expected = one.run(prepared, heat=one.class_token)
    for threads, most in ((1, 5), (2, 1), (2, 3), (3, 2), (7, 5)):
        encoder = _native.Encoder(*written, threads=threads, images=most)
        for _, order in itertools.product(range(2), (slice(None), slice(None, None, -1), [0, 0, 3, 1])):
            found = encoder.run(np.ascontiguousarray(prepared[order]), heat=one.class_token)
            for rows, right in zip(found, expected):
                assert right is None or np.array_equal(rows, right[order])


def test_more_threads_than_tokens_are_no_harm() -> None:
    model = make("pre-norm")  # 10 tokens
    prepared, written = images(model, 1), files(model, "int8")
    few = _native.Encoder(*written, threads=1, images=1).run(prepared)
    many = _native.Encoder(*written, threads=23, images=1).run(prepared)
    assert np.array_equal(few[1], many[1])


def test_several_callers_take_turns_with_the_same_answers() -> None:
    model = make("class token")
    prepared = images(model, 8)
    encoder = _native.Encoder(*files(model, "int8"), threads=2, images=1)
    expected = encoder.run(prepared)[1]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for index, found in enumerate(pool.map(lambda one: encoder.run(one[None])[1], prepared)):
                assert np.array_equal(found[0], expected[index])


def test_a_run_allocates_nothing_but_the_answers() -> None:
    model = make("class token")
    prepared = images(model, 2)
    encoder = _native.Encoder(*files(model, "int8"), threads=2, images=2)
    encoder.run(prepared)
    before = sys.getallocatedblocks()
    for _ in range(200):
        encoder.run(prepared)
    assert sys.getallocatedblocks() - before < 20


def test_no_images_have_no_answers() -> None:
    model = make("class token")
    logits, embedding, _ = _native.Encoder(*files(model, "int8"), threads=2, images=2).run(images(model, 1)[:0])
    assert (logits.shape, embedding.shape) == ((0, 3), (0, 96))


@pytest.mark.parametrize("options", [
    {"threads": 0, "images": 1}, {"threads": 1, "images": 0}, {"threads": -1, "images": 1}, {"threads": 10**6, "images": 1},
    {"threads": 1, "images": 1, "isa": "avx9"},
])  # fmt: skip
def test_threads_images_and_tables_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|no kernels"):
        _native.Encoder(*files(make("class token"), "int8"), **options)


def test_images_of_another_shape_and_heat_without_a_class_token_are_refused() -> None:
    model = make("no class token, mean, fc_norm")
    encoder = _native.Encoder(*files(model, "int8"), threads=1, images=1)
    prepared = images(model, 1)
    for wrong in (prepared[0], prepared[:, :1], prepared[:, :, 1:], prepared[:, :, :, 1:]):
        with pytest.raises(ValueError, match="prepared must be"):
            encoder.run(np.ascontiguousarray(wrong))
    with pytest.raises(ValueError, match="class token"):
        encoder.run(prepared, heat=True)


def test_activations_of_more_than_2_gib_are_refused_before_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"take \d+ MiB, of 4096 images at a time and 2 threads; expected at most 2048 MiB"):
        _native.Encoder(*files(make("577 tokens"), "int8"), threads=2, images=4096)


def test_memory_is_taken_when_it_is_used() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("only Linux says so here")
    written = files(make("577 tokens"), "int8")
    before = int(statm.read_text().split()[1])
    encoder = _native.Encoder(*written, threads=1, images=400)
    pages = int(statm.read_text().split()[1]) - before
    assert encoder.bytes > 300 << 20
    assert pages * mmap.PAGESIZE < 50 << 20


def test_int8_takes_less_memory_than_fp32() -> None:
    model = make("577 tokens")
    made = {precision: _native.Encoder(*files(model, precision), threads=1, images=8).bytes for precision in ("int8", "fp32")}
    packed = {precision: _native.attention_bytes(BEST, precision, 577, 32)[0] for precision in made}
    heads = 8 * 3  # of all images
    assert made["fp32"] - made["int8"] >= 0.9 * heads * (packed["fp32"] - packed["int8"]) > 0

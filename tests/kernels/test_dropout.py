"""Dropout's mask as a pure function of seed and place: Triton's Philox and its bits against plain torch."""

from __future__ import annotations

import pytest
import torch

from edgefm.kernels.reference import philox

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("rounds", [7, 10])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_philox_in_torch_is_tritons(lora_device, rounds):
    device = lora_device
    import triton
    import triton.language as tl

    @triton.jit
    def words(seed, counters, out, ROUNDS: tl.constexpr):
        at = tl.arange(0, 64)
        w0, w1, w2, w3 = tl.randint4x(tl.load(seed), tl.load(counters + at), ROUNDS)
        tl.store(out + at, w0.to(tl.int32, bitcast=True))
        tl.store(out + 64 + at, w1.to(tl.int32, bitcast=True))
        tl.store(out + 128 + at, w2.to(tl.int32, bitcast=True))
        tl.store(out + 192 + at, w3.to(tl.int32, bitcast=True))

    seed = torch.tensor([0x1234_5678_9ABC_DEF0], device=device)
    counters = torch.randint(2**62, (64,)).to(device)
    out = torch.empty(4, 64, dtype=torch.int32, device=device)
    words[(1,)](seed, counters, out, rounds)
    assert torch.equal(torch.stack(philox.philox(seed, counters, rounds)), out.long() & philox.WORD)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (37, 7), (33, 37), (37, 64), (2, 1100)])
@pytest.mark.parametrize("p", [1e-9, 2 / 65536, 0.1, 0.5, 0.99999999])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_the_mask_in_bits_is_the_references(lora_device, p, rows, columns):
    device = lora_device
    from edgefm.kernels.triton.dropout import keep_bits

    seed = torch.tensor([7], device=device)
    bits = keep_bits(seed, 1, rows, columns, p)
    unpacked = (bits[:, :, None] >> torch.arange(32, device=device)) & 1
    assert torch.equal(unpacked.reshape(rows, -1)[:, :columns].bool(), philox.keep(seed, 1, rows, columns, p))


@pytest.mark.parametrize("inner", [1, 7, 37, 64, 100, 300])
@pytest.mark.parametrize("rows", [1, 37, 130])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_every_kernel_applies_the_references_mask(lora_device, rows, inner):
    """Each product is arranged to give the mask itself: what is masked is all ones, the other factor the identity."""
    device = lora_device
    from edgefm.kernels.triton.dropout import keep_bits
    from edgefm.kernels.triton.low_rank import narrow, tall
    from edgefm.kernels.triton.product import Tile, product

    seed = torch.tensor([7], device=device)
    bits, keep = keep_bits(seed, 1, rows, inner, 0.4), philox.keep(seed, 1, rows, inner, 0.4).float()
    ones = torch.ones(rows, inner, device=device)
    each_row, each_column = torch.eye(rows, device=device), torch.eye(inner, device=device)
    assert torch.equal(narrow(ones, each_column, 1.0, bits), keep)
    assert torch.equal(tall(each_row, ones, bits=bits), keep)
    assert torch.equal(tall(each_row, torch.cat([ones, 30 * ones], 1), "glu", bits), 30 * keep)  # silu(30) = 30

    empty, low = torch.zeros_like(ones), {"u": ones[:, :1].contiguous(), "v": ones.new_ones(inner, 1), "bits": bits}
    alone = product(ones, each_column, torch.empty_like(ones), Tile(32, 64, 32, 4, 1), base=empty, **low)
    looped = product(ones, 0 * each_column, torch.empty_like(ones), Tile(64, 32, 32, 4, 1), **low)
    assert torch.equal(alone, keep)
    assert torch.equal(looped, keep)


def test_the_mask_drops_as_often_as_it_says_and_differs_by_seed_stream_row_and_column():
    seed, other = torch.tensor([1]), torch.tensor([2])
    keep = philox.keep(seed, 0, 500, 800, 0.1)
    assert abs(keep.double().mean() - 0.9) < 4 * (0.09 / keep.numel()) ** 0.5
    for again in (philox.keep(other, 0, 500, 800, 0.1), philox.keep(seed, 1, 500, 800, 0.1), keep.roll(1, 0), keep.roll(1, 1)):
        assert abs((keep == again).double().mean() - 0.82) < 0.005

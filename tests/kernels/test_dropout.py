"""Dropout's mask as a pure function of seed and place: Triton's Philox and the mask of each kernel against plain torch."""

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


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 7), (37, 37), (2, 100), (65, 129)])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_every_kernel_applies_the_references_mask(lora_device, rows, columns):
    from edgefm.kernels.triton.dropout import mask
    from edgefm.kernels.triton.low_rank import narrow, tall
    from edgefm.kernels.triton.product import Tile, product

    seed = torch.tensor([7], device=lora_device)
    keep, drop = philox.keep(seed, 1, rows, columns, 0.3).float(), mask(seed, 1, 0.3)
    ones = torch.ones(rows, columns, device=lora_device)
    across, down = (torch.eye(each, device=lora_device) for each in (columns, rows))
    assert torch.equal(narrow(ones, across, 1.0, drop), keep)
    assert torch.equal(tall(down, ones, mask=drop), keep)
    nothing = torch.zeros(columns, 16, device=lora_device)
    y = torch.empty_like(ones)
    product(
        ones @ nothing, nothing, y, Tile(64, 64, 32, 4, 1), u=torch.ones(rows, 1, device=lora_device), v=ones[:1].T, mask=drop
    )
    assert torch.equal(y, keep)


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.99999999])
@pytest.mark.parametrize("lora_device", DEVICES, indirect=True)
def test_the_probability_may_be_next_to_none_or_to_all(lora_device, p):
    from edgefm.kernels.triton.dropout import mask
    from edgefm.kernels.triton.low_rank import tall

    seed = torch.tensor([-3], device=lora_device)
    keep = philox.keep(seed, 0, 33, 37, p)
    down, ones = torch.eye(33, device=lora_device), torch.ones(33, 37, device=lora_device)
    assert torch.equal(tall(down, ones, mask=mask(seed, 0, p)), keep.float())
    assert abs(keep.double().mean() - philox.kept(p)) < 0.06


def test_the_mask_drops_as_often_as_it_says_and_differs_by_seed_stream_row_and_column():
    seed, other = torch.tensor([1]), torch.tensor([2])
    keep = philox.keep(seed, 0, 500, 800, 0.1)
    assert abs(keep.double().mean() - 0.9) < 4 * (0.09 / keep.numel()) ** 0.5
    for again in (philox.keep(other, 0, 500, 800, 0.1), philox.keep(seed, 1, 500, 800, 0.1), keep.roll(1, 0), keep.roll(1, 1)):
        assert abs((keep == again).double().mean() - 0.82) < 0.005

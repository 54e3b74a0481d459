"""Print, as JSON, what LoRA's kernels became on each card: `python -m tests.kernels.lora_builds 90 86`. Not a test."""

# ruff: noqa: C408 (an argument is easier to find as one than as a string)
from __future__ import annotations

import json
import sys
from itertools import product as all_of
from types import SimpleNamespace

from edgefm.kernels.triton import activation, dropout, frozen, lora, low_rank, product

from .aot import build

ACT = activation.CODE
# what is compiled of each type; the wide product is cuBLAS's in fp32
SOME = {"bf16": "", "fp16": ("product", "tall"), "fp32": ("narrow", "tall", "pass")}


def cases(capability: int, kind: str):
    """(name, kernel, types, constants, warps, stages) of every kernel as it is launched with `kind`: fp16, bf16 or fp32."""
    x = SimpleNamespace(element_size=lambda: 4 if kind == "fp32" else 2)
    p, i = f"*{kind}", "i32"
    for rank, drop, several in ((16, 1, 0), (64, 1, 1), (16, 0, 0)):
        types = dict(x=p, a=p, bits="*i32", index="*i32", u=p, M="i32!", K=i, R=i, r=i, stride_r=i, stride_k="1", words="i32!",
                     scale="fp32")  # fmt: skip
        for way in ("across", "along"):  # A as it lies, Bᵀ
            types |= {"stride_r": i, "stride_k": "1"} if way == "across" else {"stride_r": "1", "stride_k": i}
            constants = dict(
                DROP=bool(drop), INDEX=bool(several), BM=low_rank.NARROW_ROWS, BK=low_rank.columns_at_once(x, rank), BR=rank
            )
            yield f"narrow {way} r{rank} drop{drop} index{several}", low_rank.narrow_kernel, dict(types), constants, 4, 3
        for act in ("none", "gelu", "swiglu"):
            types = dict(x=p, u=p, bits="*i32", parts="*fp32", M="i32!", N=i, R=i, wide=i, words="i32!", span=i)
            constants = dict(DROP=bool(drop), ACT=ACT[act], BM=low_rank.rows_at_once(x), BN=low_rank.COLUMNS, BR=rank)
            yield f"tall r{rank} drop{drop} {act}", low_rank.tall_kernel, types, constants, low_rank.tall_warps(act, rank), 3
    types = dict(x=p, w=p, bias=p, u=p, v=p, bits="*i32", index="*i32", z=p, out=p, base=p, M="i32!", N=i, K=i, R=i, r=i,
                 stride_n=i, stride_k="1", stride_vn=i, stride_vr="1", words="i32!")  # fmt: skip
    across = types | {"stride_n": "1", "stride_k": i, "stride_vn": "1", "stride_vr": i}
    card = (capability // 10, capability % 10)
    for columns, rank, (act, several, back) in all_of(
        (768, 3072), (16, 64), (("none", 0, 0), ("gelu", 0, 0), ("gelu", 1, 0), ("none", 0, 1), ("gelu", 0, 1), ("silu", 0, 1))
    ):
        tile = lora.tile(x, columns, card, act)
        if columns == 768 or tile != lora.tile(x, 768, card, act):
            flags = dict(BASE=False, BIAS=not back, LOW=True, DROP=bool(back), INDEX=bool(several), ACT=ACT[act], EVEN=True)
            blocks = dict(BM=tile.m, BN=tile.n, BK=tile.k, BR=rank, GROUP=tile.group, BACK=bool(back) and act != "none")
            name = f"product {tile.n} r{rank} {act} index{several} back{back}"
            yield name, product.product_kernel, across if back else types, flags | blocks, tile.warps, tile.stages
    tile = lora.PASS
    for rank, back in all_of((16, 64), (False, True)):
        flags = dict(BASE=True, BIAS=not back, LOW=True, DROP=back, INDEX=False, ACT=ACT["gelu"], BACK=back, EVEN=True)
        blocks = dict(BM=tile.m, BN=tile.n, BK=tile.k, BR=rank, GROUP=tile.group)
        yield (
            f"pass r{rank} back{int(back)}",
            product.product_kernel,
            across if back else types,
            flags | blocks,
            tile.warps,
            tile.stages,
        )
    types = dict(seed="*i64", bits="*u8", first="i64", M="i32!", counters=i, words="i32!", limit="i32!")
    constants = dict(ROUNDS=7, ROWS=dropout.ROWS, COUNTERS=dropout.COUNTERS)
    yield "keep bits", dropout.keep_bits_kernel, types, constants, 4, 3
    types = dict(
        packed="*u8", absmax="*u8", code="*fp32", nested_absmax="*fp32", nested_code="*fp32", offset="*fp32", out=p, count=i
    )
    constants = dict(GROUP=64, NESTED_GROUP=256, NESTED=True, BYTES=frozen.BYTES)
    yield "nf4", frozen.nf4_kernel, types, constants, 4, 3
    types = dict(weight="*i8", scale="*fp32", out=p, count=i, inner=i)
    yield "int8", frozen.int8_kernel, types, dict(BLOCK=2 * frozen.BYTES), 4, 3
    constants = dict(ACT=ACT["swiglu"], ROWS=activation.ROWS, COLUMNS=activation.COLUMNS)
    yield "activate", activation.activate_kernel, dict(z=p, y=p, M="i32!", N=i, wide=i), constants, 4, 3
    types = dict(g=p, z=p, dz=p, M="i32!", N=i, wide=i)
    yield "activate backward", activation.activate_backward_kernel, types, constants, 4, 3


def main(capabilities: list[int], words: list[str]) -> None:
    """One line of JSON a kernel whose name starts with one of `words` (all, if there are none)."""
    for capability, kind in all_of(capabilities, SOME):
        for name, kernel, types, constants, warps, stages in cases(capability, kind):
            if not name.startswith(SOME[kind]):
                continue
            if not words or name.startswith(tuple(words)):
                built = build(kernel, types, constants, capability, warps, stages)
                print(json.dumps({"name": name, "type": kind, "capability": capability, **built._asdict()}), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:] if word.isdigit()], [word for word in sys.argv[1:] if not word.isdigit()])

"""A device that a bundle is made for: what it has, and what an answer may cost on it. Not an imitation: `bench/profile.py`.

| name | what it stands for |
|---|---|
| `office-avx2` | an office PC of 2015 (Core i5-6500) with other programs beside |
| `desktop-vnni` | a desktop PC of 2022 (Core i5-12400) |
| `board-arm` | a board with Cortex-A76 (Raspberry Pi 5) |
| `container-512mb` | a container beside others, on any processor |

    title: the PC at the front desk
    cores: 2
    instructions: avx2
    memory_mib: 2048
    budget: {latency_p95_ms: 150, cold_start_s: 4, peak_memory_mib: 512}

The budgets are what a person waits for without thinking about it, no standard: a device maker states budgets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

Instructions = Literal["avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "neon", "neon_dotprod"]
Above0 = Annotated[float, Meta(gt=0.0)]
Cores = Annotated[int, Meta(ge=1)]
Mebibytes = Annotated[int, Meta(ge=64)]


class Budget(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The most that an answer may cost; None is not judged.

    Attributes:
        latency_p95_ms: from the image file to the answer, warm, milliseconds: 95 % of the answers are faster.
        cold_start_s: from a new process, with nothing kept from an earlier start, to the first answer, seconds.
        peak_memory_mib: resident memory of the process, MiB.
    """

    latency_p95_ms: Above0 | None = None
    cold_start_s: Above0 | None = None
    peak_memory_mib: Above0 | None = None


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device profile; None is what the machine has.

    Attributes:
        title: what it stands for, for people.
        cores: processor cores that answer.
        instructions: the widest instruction set of its processor.
        memory_mib: what the process may have at most, MiB.
    """

    title: str = ""
    cores: Cores | None = None
    instructions: Instructions | None = None
    memory_mib: Mebibytes | None = None
    budget: Budget = Budget()


DEVICES: Mapping[str, Device] = {
    "office-avx2": Device(
        title="an office PC of 2015",
        cores=4,
        instructions="avx2",
        memory_mib=4096,
        budget=Budget(latency_p95_ms=200, cold_start_s=5, peak_memory_mib=1024),
    ),
    "desktop-vnni": Device(
        title="a desktop PC of 2022",
        cores=6,
        instructions="avx_vnni",
        memory_mib=8192,
        budget=Budget(latency_p95_ms=100, cold_start_s=3, peak_memory_mib=1024),
    ),
    "board-arm": Device(
        title="a board with Cortex-A76",
        cores=4,
        instructions="neon_dotprod",
        memory_mib=2048,
        budget=Budget(latency_p95_ms=500, cold_start_s=10, peak_memory_mib=512),
    ),
    "container-512mb": Device(
        title="a container of 512 MB",
        cores=1,
        memory_mib=512,
        budget=Budget(latency_p95_ms=500, cold_start_s=5, peak_memory_mib=384),
    ),
}

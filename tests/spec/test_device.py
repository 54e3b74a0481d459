"""Device profiles: what ships, what a file may say, and what is refused with its name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edgefm import api
from edgefm.errors import InputError
from edgefm.runtime.instructions import SETS
from edgefm.settings import load_device
from edgefm.spec.device import DEVICES, Budget, Device, Instructions


def test_four_devices_ship_each_with_a_whole_budget():
    assert list(DEVICES) == ["office-avx2", "desktop-vnni", "board-arm", "container-512mb"]
    for name, device in DEVICES.items():
        assert load_device(name) == (name, device)
        assert msgspec.convert(msgspec.to_builtins(device), Device) == device  # the ranges hold for what ships, too
        assert None not in msgspec.to_builtins(device.budget).values()
        assert device.budget.peak_memory_mib <= device.memory_mib


def test_every_instruction_set_that_a_profile_may_name_is_known():
    assert set(get_args(Instructions)) <= set(SETS)


def test_the_help_names_every_device_that_ships():
    assert all(name in (api.bench.__doc__ or "") for name in DEVICES)


def test_a_file_says_what_it_wants_and_the_rest_is_the_machines(tmp_path: Path):
    file = tmp_path / "desk.yaml"
    file.write_text("cores: 2\nbudget: {latency_p95_ms: 150}\n")
    assert load_device(str(file)) == ("desk", Device(cores=2, budget=Budget(latency_p95_ms=150)))
    file.write_text("")
    assert load_device(str(file)) == ("desk", Device())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("core: 2", "unknown setting core; expected cores"),
        ("cores: 0", "cores is 0; expected a whole number, at least 1"),
        ("cores: 1.5", "cores is 1.5"),
        ("instructions: avx1024", 'instructions is "avx1024"; expected one of avx2, avx512, avx512_bf16'),
        ("memory_mib: 1", "memory_mib is 1"),
        ("budget: {latency_p95_ms: 0}", "budget.latency_p95_ms is 0"),
        ("budget: {latency_p95_s: 1}", "unknown setting budget.latency_p95_s; expected budget.latency_p95_ms"),
        ("budget: {cold_start_s: .nan}", "is not a finite number"),
        ("[1, 2]", "expected names with values, for example `cores: 4`"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_name(tmp_path: Path, text: str, message: str):
    file = tmp_path / "desk.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_device(str(file))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("office", "there is no device profile 'office'; expected office-avx2, desktop-vnni"),
        ("no.yaml", "no.yaml cannot be read (No such file"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        load_device(name)
    assert message in str(refused.value)

"""Meters made of files: counters that step, that pass their end, that vanish, and batteries."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.bench import energy as room
from edgefm.bench.energy import Meter


@pytest.fixture
def clock(monkeypatch):
    """Time passes by what a call takes, and no other way."""
    now = [0.0]
    monkeypatch.setattr(room.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(room.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def files(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(room, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(room, "SUPPLIES", tmp_path / "supply")

    def write(path: str, text: object) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        return file

    return write


def test_a_machine_that_tells_nothing_has_no_meter_and_no_number(files):
    meter = Meter()
    assert (meter.source, meter.idle(), meter.per_call(lambda: None)) == (None, None, None)


def test_joules_are_those_of_all_packages_over_the_calls(files, clock):
    counters = [files(f"powercap/intel-rapl:{package}/energy_uj", 1_000_000) for package in (0, 1)]
    files("powercap/intel-rapl:0:0/energy_uj", 5)  # the cores, a part of package 0
    meter = Meter()

    def call() -> None:
        clock[0] += 0.5
        for counter in counters:
            counter.write_text(str(int(counter.read_text()) + 3_000_000))

    assert meter.source == "rapl"
    assert meter.per_call(call) == {"joules": 6.0, "watts": 12.0, "n": 4}


def test_a_counter_that_passes_its_end_goes_on_from_zero(files, clock):
    counter = files("powercap/intel-rapl:0/energy_uj", 9_000_000)
    files("powercap/intel-rapl:0/max_energy_range_uj", 10_000_000)
    meter = Meter()

    def call() -> None:
        clock[0] += 2.0
        counter.write_text("4000000")

    assert meter.per_call(call) == {"joules": 5.0, "watts": 2.5, "n": 1}


@pytest.mark.parametrize("text", ["0", "", "broken"])
def test_a_counter_that_was_reset_or_vanished_gives_no_number(files, clock, text):
    counter = files("powercap/intel-rapl:0/energy_uj", 9_000_000)
    meter = Meter()

    def call() -> None:
        clock[0] += 2.0
        counter.write_text(text)

    assert meter.per_call(call) is None


def test_a_counter_that_only_root_may_read_is_none(files, monkeypatch):
    files("powercap/intel-rapl:0/energy_uj", 1)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    assert Meter().source is None


@pytest.mark.parametrize(
    ("fields", "watts"), [({"power_now": 8_000_000}, 8.0), ({"current_now": 500_000, "voltage_now": 12_000_000}, 6.0)]
)
def test_a_battery_that_is_being_emptied_tells_its_power(files, clock, fields, watts):
    files("supply/BAT0/type", "Battery")
    files("supply/BAT0/status", "Discharging")
    for name, value in fields.items():
        files(f"supply/BAT0/{name}", value)
    meter = Meter()

    def call() -> None:
        clock[0] += 0.25

    assert meter.source == "battery"
    assert meter.per_call(call) == {"joules": watts / 4, "watts": watts, "n": 80}


def test_one_of_two_batteries_that_stops_telling_is_no_battery_of_0_watts(files, clock):
    for name, power in (("BAT0", 8_000_000), ("BAT1", 4_000_000)):
        files(f"supply/{name}/type", "Battery")
        status = files(f"supply/{name}/status", "Discharging")
        files(f"supply/{name}/power_now", power)
    meter = Meter()
    found = meter.per_call(lambda: clock.__setitem__(0, clock[0] + 1.0))
    assert found is not None
    assert found["watts"] == 12.0

    def call() -> None:
        clock[0] += 1.0
        if clock[0] > 30:
            status.write_text("Unknown")

    assert meter.per_call(call) is None


def test_a_reading_of_0_watts_is_none(files, clock):
    files("supply/BAT0/type", "Battery")
    files("supply/BAT0/status", "Discharging")
    power = files("supply/BAT0/power_now", 8_000_000)
    meter = Meter()

    def call() -> None:
        clock[0] += 1.0
        power.write_text("0" if clock[0] > 10 else "8000000")

    assert meter.per_call(call) is None
    assert Meter().source is None


def test_a_battery_on_the_mains_is_no_meter_and_one_that_is_plugged_in_gives_no_number(files, clock):
    files("supply/AC/type", "Mains")
    files("supply/BAT0/type", "Battery")
    status = files("supply/BAT0/status", "Charging")
    files("supply/BAT0/power_now", 8_000_000)
    assert Meter().source is None
    status.write_text("Discharging")
    meter = Meter()

    def call() -> None:
        clock[0] += 1.0
        status.write_text("Charging")

    assert meter.per_call(call) is None

"""What an answer costs in energy, where the machine tells: RAPL's counter of the processor package, else a battery.

Not an estimate: where neither is readable, the words say so and there is no number.

The counter is the whole package's, and the battery's power the whole machine's: other programs and what an idle machine takes
are within. So `idle_w`, the power before anything ran, stands beside it.
Source: Linux, Documentation/power/powercap/powercap.rst and Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
SUPPLIES = Path("/sys/class/power_supply")
NOT_READABLE = "not readable here"
RAPL_SECONDS = 2.0  # the counter steps every millisecond
BATTERY_SECONDS = 20.0  # a battery tells its power every few seconds
SAMPLE = 0.5  # seconds between two looks at a battery
PACKAGES = "intel-rapl:[0-9]*"  # AMD's too; intel-rapl:0:1 and the like are parts of a package


class Meter:
    """The machine's own meter, if it has one. `source`: "rapl", "battery" or None."""

    def __init__(self) -> None:
        self._packages = [
            folder
            for folder in sorted(POWERCAP.glob(PACKAGES))
            if folder.name.count(":") == 1 and _number(folder / "energy_uj") is not None
        ]
        self._batteries = [folder for folder in sorted(SUPPLIES.glob("*")) if _watts(folder) is not None]
        self.source = "rapl" if self._packages else "battery" if self._batteries else None
        self.seconds = RAPL_SECONDS if self._packages else BATTERY_SECONDS

    def idle(self) -> float | None:
        """Watts while this process sleeps; None without a meter."""
        found = self.per_call(lambda: time.sleep(SAMPLE))
        return None if found is None else round(found["watts"], 2)

    def per_call(self, call: Callable[[], object]) -> dict[str, Any] | None:
        """Call again and again for `seconds`.

        Returns:
            joules (per call), watts (mean), n (calls); None without a meter, or if it was unplugged or reset meanwhile.
        """
        if self.source is None:
            return None
        before = [_number(each / "energy_uj") for each in self._packages]
        samples, start, n = list[float | None](), time.perf_counter(), 0
        looked = start - SAMPLE
        while (now := time.perf_counter()) < start + self.seconds:
            if self._batteries and not self._packages and now >= looked + SAMPLE:
                told = [_watts(each) for each in self._batteries]
                samples.append(None if None in told else sum(filter(None, told)))
                looked = now
            call()
            n += 1
        passed = time.perf_counter() - start
        joules = self._counted(before) if self._packages else _mean(samples, passed)
        if not joules or joules <= 0:
            return None
        return {"joules": round(joules / n, 5), "watts": round(joules / passed, 2), "n": n}

    def _counted(self, before: list[float | None]) -> float | None:
        """Joules since `before`; a counter that has passed its end begins at 0."""
        total = 0.0
        for folder, old in zip(self._packages, before, strict=True):
            new, end = _number(folder / "energy_uj"), _number(folder / "max_energy_range_uj")
            if new is None or old is None or (new < old and end is None):
                return None
            total += new - old if new >= old else new - old + (end or 0.0)
        return total / 1e6


def _mean(samples: list[float | None], passed: float) -> float | None:
    """Joules over `passed` seconds; None where one reading is missing: without it the rest would be of other seconds."""
    known = [each for each in samples if each is not None]
    return sum(known) / len(known) * passed if len(known) == len(samples) and known else None


def _watts(folder: Path) -> float | None:
    """Power drawn from a battery that is being emptied; None where it does not tell, and 0 W is none that powers a machine."""
    if _text(folder / "type") != "Battery" or _text(folder / "status") != "Discharging":
        return None
    power = _number(folder / "power_now")
    if power is None:
        current, voltage = _number(folder / "current_now"), _number(folder / "voltage_now")
        power = None if current is None or voltage is None else current * voltage / 1e6
    return power / 1e6 if power else None


def _number(path: Path) -> float | None:
    text = _text(path)
    return float(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""

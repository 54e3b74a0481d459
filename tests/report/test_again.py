"""The commands at the end of a report: a shell and the command line take them, and what they ask for is what was measured."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import click

from edgefm.cli import root
from edgefm.report.again import commands, named
from edgefm.settings import load_device, load_gate
from edgefm.spec.device import DEVICES

from .records import full

ODD = "it's; rm -rf $HOME `x`"


def asked(found: dict[str, Any], tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The options of each verb, as the shell and the command line read them; what the commands write is in `tmp_path`."""
    text = commands(found)
    script = "edgefm() { printf '%s\\0' \"$@\" END-OF-CALL; }\n" + text
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    calls: list[list[str]] = [[]]
    for word in done.stdout.split("\0"):
        calls.append([]) if word == "END-OF-CALL" else calls[-1].append(word)
    options = {}
    for words in filter(any, calls):
        group = root()
        verb, command, rest = group.resolve_command(click.Context(group), words)
        assert command is not None
        options[str(verb)] = command.make_context(str(verb), list(rest)).params
    return options


def test_a_plain_measurement_has_a_plain_command(tmp_path: Path) -> None:
    found = full(gate=None, subgroups=[], robustness=None, cases=None, bench=None, reference="openvino-fp32")
    assert commands(found).splitlines() == [
        "edgefm inspect BUNDLE.efm",
        "edgefm verify BUNDLE.efm -d DATA --split test --seed 0 -o proof",
    ]


def test_all_that_was_asked_of_verify_is_asked_again_whatever_it_is_called(tmp_path: Path) -> None:
    found = full(asked={"parity": "all", "settings": [f'data.label="{ODD}"', "data.val=0.3"], "trust_remote_code": True})
    (column,) = found["subgroups"]
    found["subgroups"] = [column, {**column, "column": ODD}]
    found["bundle"]["refused"] = "no"
    words = asked(found, tmp_path)["verify"]
    assert words["set"] == (f'data.label="{ODD}"', "data.val=0.3")
    assert words["by"] == ("scanner", ODD)
    assert (words["robustness"], words["parity"], words["with_cases"]) == ("xray", "all", True)
    assert (words["against"], words["trust_remote_code"], words["allow_refused"]) == ("REFERENCE", True, True)
    assert (words["bench"], words["gate"]) == ("times/bench.json", "gate.yaml")
    assert load_gate(tmp_path / "gate.yaml", "binary").margins() == {"auc": 0.05, "flips": 0.05}
    assert not {"recipe", "force", "seal"} & {name for name, value in words.items() if value}


def test_bench_is_asked_for_the_same_image_threads_rival_and_device(tmp_path: Path) -> None:
    found = full()
    found["bench"]["image"] |= {"generated": False, "kind": ".dcm", "sha256": "cd" * 32}
    found["bench"]["bundles"].append({"file": "b.efm", "id": "f" * 64, "bytes": 1, "name": "b"})
    found["bench"]["contenders"][0]["throughput"] = []
    found["bench"]["contenders"].append({"name": "torch fp32", "rival": True, "source": "densenet"})
    profile = {"title": ODD, "cores": 1, "instructions": None, "memory_mib": 512, "budget": {"cold_start_s": 5.0}}
    found["bench"]["device"] = {"name": "my device", "profile": profile, "verdicts": [], "imitated": [], "not_imitated": []}
    words = asked(found, tmp_path)["bench"]
    assert words["bundles"] == ("BUNDLE.efm", "OTHER2.efm")
    assert (words["runs"], words["threads"], words["throughput"]) == (100, 2, True)
    assert (words["image"], words["against"], words["profile"]) == ("IMAGE", "torch:RIVAL", "my device.yaml")
    name, device = load_device(str(tmp_path / "my device.yaml"))
    assert (name, device.title, device.cores, device.budget.cold_start_s) == ("my device", ODD, 1, 5.0)
    text = " ".join(named(found))
    assert "OTHER2.efm is the file whose id is ffff" in text
    assert "IMAGE is a .dcm of 224 x 224, SHA-256 cdcd" in text
    assert "RIVAL is densenet." in text


def test_a_device_that_ships_is_named_and_a_generated_image_is_not(tmp_path: Path) -> None:
    found = full()
    found["bench"]["device"] = {"name": "office-avx2", "profile": {}, "verdicts": [], "imitated": [], "not_imitated": []}
    words = asked(found, tmp_path)["bench"]
    assert "office-avx2" in DEVICES
    assert (words["profile"], words["image"], words["against"], words["throughput"]) == ("office-avx2", None, None, False)
    assert shlex.split(commands(found).splitlines()[1])[:3] == ["edgefm", "bench", "BUNDLE.efm"]


def test_a_record_of_an_earlier_version_has_commands(tmp_path: Path) -> None:
    found = full()
    del found["bench"]["image"]["sha256"], found["bundle"]["bytes"]
    assert asked(found, tmp_path)["verify"]["parity"] == "variants"
    assert "REFERENCE is densenet: torch." in named(found)

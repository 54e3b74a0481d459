"""The history grows by whole lines, and what changed is told apart from noise."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from edgefm import api
from edgefm.bench import history
from edgefm.bench.change import change, sentences, table
from edgefm.errors import InputError
from edgefm.views import show_bench

from .test_page import FOUND, contender


def finding(scale: float = 1.0, **fields: Any) -> dict[str, Any]:
    machine = {**FOUND["machine"], "features": ["avx2"], "versions": {"openvino": "2026.4.1"}}
    contenders = [contender(name, scale * p50, peak_mib=100.0) for name, p50 in (("a", 10.0), ("b", 20.0))]
    return copy.deepcopy({**FOUND, "machine": machine, "contenders": contenders, **fields})


def changes(found: dict[str, Any], name: str = "a") -> dict[str, str | None]:
    return {each["what"]: each["change"] for each in found["lines"] if each["contender"] == name}


def test_every_run_adds_a_line_also_below_one_that_was_never_finished(tmp_path: Path):
    history.append(tmp_path, {"one": 1})
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'{"torn": ')
    history.append(tmp_path, {"two": 2})
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert lines == ['{"one":1}', '{"torn": ', '{"two":2}']


def test_a_history_is_read_at_its_last_whole_line(tmp_path: Path):
    for scale in (1.0, 2.0):
        history.append(tmp_path, finding(scale))
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'{"torn": ')
    assert history.read(tmp_path / "history.jsonl") == json.loads(json.dumps(finding(2.0)))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no json", '{"contenders": []}', "\xff"])
def test_what_is_no_finding_is_refused(tmp_path: Path, text: str):
    for name in ("bench.json", "history.jsonl"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"holds no findings of bench; expected a bench\.json or a history\.jsonl"):
            history.read(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        history.read(tmp_path / "absent.json")


def test_the_same_twice_has_not_changed():
    found = change(finding(), finding())
    assert set(changes(found).values()) == {None}
    assert sentences(found) == ["Nothing has changed beyond noise."]


@pytest.mark.parametrize(("scale", "p50"), [(1.03, None), (1.05, "more"), (0.97, None), (0.95, "less")])
def test_a_median_has_changed_where_the_stated_intervals_do_not_meet(scale, p50):
    """They are 2 % on both sides, so 4 % apart is a change."""
    assert changes(change(finding(), finding(scale)))["answer p50"] == p50


def test_a_p95_has_the_noise_floor_on_both_sides_of_its_interval_too():
    """10.4 to 12.0 beside 12.5 to 14.4 do not meet, but with 3 % on both sides they do."""
    old, new = finding(), finding()
    for each, interval in ((old, [10.4, 12.0]), (new, [12.5, 14.4])):
        each["contenders"][0]["answer"]["p95_interval"] = interval
    for share, told in ((0.0, "more"), (0.03, None)):
        old["noise"] = new["noise"] = {"share": share, "contenders": 2, "processes": 5}
        assert changes(change(old, new))["answer p95"] == told
    old["noise"] = new["noise"] = None  # one process of each: no floor is known
    assert changes(change(old, new))["answer p95"] == "more"


def test_starts_memory_and_files_have_measures_of_their_own():
    new = finding()
    new["contenders"][0] |= {"bytes": 8_812_346, "peak_mib": 109.0}
    new["contenders"][0]["start"]["first"] |= {"range": [3.0, 4.0], "seconds": 3.5}
    old = finding()
    old["contenders"][0]["start"]["first"] |= {"range": [1.0, 2.9]}
    found = changes(change(old, new))
    assert (found["first start"], found["again start"], found["files"], found["peak memory"]) == ("more", None, "more", None)
    new["contenders"][0]["peak_mib"] = 112.0
    assert changes(change(old, new))["peak memory"] == "more"


def test_without_intervals_nothing_is_said_to_have_changed():
    old, new = finding(), finding(3.0)
    for each in old["contenders"]:
        each["answer"] |= {"stated": None, "interval": None, "p95_interval": None}
    assert changes(change(old, new))["answer p50"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threads", 4),
        ("image", {**FOUND["image"], "shape": [9, 9]}),
        ("image", {**FOUND["image"], "sha256": "cd" * 32}),
        ("image", {name: value for name, value in FOUND["image"].items() if name != "sha256"}),
        ("device", {"name": "x", "profile": {"cores": 1}}),
        ("machine", {**FOUND["machine"], "cpu": "another"}),
    ],
)
def test_what_was_not_measured_alike_is_refused(field: str, value: object):
    names = {"device": "device profile"}.get(field, field)
    with pytest.raises(InputError, match=f"not measured alike: {names} differ"):
        change(finding(), finding(**{field: value}))


def test_two_findings_that_tell_no_content_of_their_image_are_not_compared():
    """Both of an image of the same size, from a version that did not say which."""
    old = finding()
    del old["image"]["sha256"]
    with pytest.raises(InputError, match="image differ"):
        change(old, copy.deepcopy(old))


def test_contenders_that_come_and_go_new_versions_and_a_busy_machine_are_said():
    new = finding(disturbed="Other programs used 43 % of the processors.")
    new["contenders"] = [new["contenders"][0], {"name": "b", "error": "it died"}, contender("c", 5.0)]
    new["machine"]["versions"] = {"openvino": "2026.5.0"}
    lines = sentences(change(finding(), new))
    for words in (
        "The new one: Other programs used 43 %",
        "openvino was 2026.4.1 and is 2026.5.0.",
        "b failed: it died.",
        "Only the new one has c.",
        "Only the old one has b.",
    ):
        assert any(line.startswith(words) for line in lines), words
    alone = change(finding(), finding(contenders=[contender("c", 5.0)]))
    assert sentences(alone)[-1] == "The two have no contender in common."


def test_the_command_compares_two_files(tmp_path: Path, capsys):
    (tmp_path / "old.json").write_text(json.dumps(finding()))
    history.append(tmp_path, finding(2.0))
    found = api.bench((str(tmp_path / "old.json"), str(tmp_path / "history.jsonl")), compare=True)
    assert changes(found)["answer p50"] == "more"
    assert show_bench(found, as_json=False) == 0
    told = capsys.readouterr().out
    assert "numbers have changed beyond noise." in told
    assert "2.00  more" in told
    assert "8812345" in told
    head, rows = table(found)
    assert all(len(row) == len(head) for row in rows)
    assert show_bench(found, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["lines"][0]["ratio"] == 2.0


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (("a",), {}, "--compare with 1 files; expected two"),
        (("a", "b"), {"out": "x"}, "--compare measures nothing, but --out was given"),
        (("a", "b"), {"profile": "office-avx2"}, "but --profile was given"),
        (("a", "b"), {"runs": 50, "threads": 2}, "but --threads, --runs was given"),
        (("a", "b"), {"throughput": True}, "but --throughput was given"),
        (("a", "b"), {"force": True}, "but --force was given"),
        (("a", "b"), {"trust_remote_code": True, "allow_refused": True}, "but --trust-remote-code, --allow-refused was given"),
    ],
)
def test_options_that_would_do_nothing_are_refused(files, options, message):
    with pytest.raises(InputError, match=message):
        api.bench(files, compare=True, **options)

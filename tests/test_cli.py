"""The command line is made of the functions' signatures, and helps those who mistype."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from edgefm import VERBS, api
from edgefm.cli import SECTIONS, parse_docstring, root, verb_command


def invoke(*words: str):
    return CliRunner().invoke(root(), words)


@pytest.mark.parametrize("verb", VERBS)
def test_command_and_function_have_one_signature(verb):
    function = getattr(api, verb)
    names = {parameter.name for parameter in verb_command(verb).params} - {"as_json", "log_level"}
    assert names == set(inspect.signature(function).parameters)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained_and_nothing_else_is(verb):
    _, described = parse_docstring(getattr(api, verb))
    assert set(described) == set(inspect.signature(getattr(api, verb)).parameters)
    assert all(described.values())


@pytest.mark.parametrize("verb", VERBS)
def test_a_default_of_the_command_is_the_default_of_the_function(verb):
    signature = inspect.signature(getattr(api, verb)).parameters
    for option in verb_command(verb).params:
        if option.name in signature and not (option.required or option.multiple):
            default = signature[option.name].default
            context = click.Context(verb_command(verb))
            assert (option.get_default(context) or None) == (default or None), option.name


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_80_columns_and_ends_before_what_is_for_programmers(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = invoke(*verb.split(), "--help").output
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert not re.search(r"\b(Returns|Raises|Args):", text)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_an_option_does_not_begin_with_a_value_that_would_get_a_capital(verb):
    values = {"cpu", "cuda", "embedding", "fp32", "int8", "onnx", "openvino", "phantom", "torch"}
    for option in verb_command(verb).params:
        values |= set(getattr(option.type, "choices", ()))
    firsts = {re.match(r"[\w-]+", text)[0] for text in parse_docstring(getattr(api, verb))[1].values()}
    assert not firsts & values


@pytest.mark.parametrize(
    ("level", "told"), [("info", ""), ("debug", "transformers: a library speaks\nstray: a library speaks\n")]
)
def test_libraries_speak_only_from_debug_on_and_python_does_not_complain_of_their_silence(level, told):
    code = f"""
import logging
from edgefm.cli import _log_to_stderr
_log_to_stderr({level!r})
logging.getLogger("transformers").warning("a library speaks")
stray = logging.getLogger("stray")
if {level!r} == "info":
    stray.propagate = False  # neither a handler of its own nor the root's
stray.error("a library speaks")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == told


def test_help_lists_each_verb_once_in_its_section():
    text = invoke("--help").output
    assert [verb for verbs in SECTIONS.values() for verb in verbs] == list(VERBS)
    sections = text.partition("Make a small model:")[2].partition("Examples:")[0]
    for verb in VERBS:
        assert sections.count(f"\n  {verb} ") == 1


def test_no_words_at_all_show_the_help():
    assert invoke().output == invoke("--help").output


def test_help_of_distill_shows_the_students_with_weights_and_cost():
    text = invoke("distill", "--help").output
    for words in ("mobile", "tiny", "small", "GMAC", "vit_small_patch16_224", "21.7 M"):
        assert words in text


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy_and_is_quick(verb):
    code = f"""
import sys, time
from edgefm.__main__ import main
sys.argv = ["edgefm", *{verb!r}.split(), "--help"]
assert main() == 0
heavy = {{"torch", "numpy", "openvino", "onnxruntime", "timm", "PIL", "yaml", "rich"}} & set(sys.modules)
assert not heavy, heavy
"""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.perf_counter() - start < 5  # benchmarks/start_up.py measures; this only sees a heavy import come back


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("distil",), "did you mean distill?"),
        (("inspekt", "x"), "did you mean inspect?"),
        (("zzz",), "the verbs are quickstart, adapt"),
        (("distill", "--techer", "x"), "--teacher"),
        (("distill",), "Missing option '--teacher' / '-t'"),
        (("quantize", "m", "-o", "x"), "'--data' / '-d'"),
        (("quantize", "m", "-d", "d", "-o", "x", "--max-drop", "much"), "'much' is not a valid float"),
        (("export", "m", "-o", "x", "--standalone", "tflite"), "'tflite' is not one of 'onnx', 'openvino'"),
        (("run",), "Missing argument 'BUNDLE'"),
        (("run", "x.efm"), "Missing argument 'IMAGES...'"),
        (("bench",), "Missing argument 'BUNDLES...'"),
        (("slim", "x.efm", "-o", "y"), "Missing option '--keep'"),
        (("--verbose",), "--verbose"),
    ],
)
def test_a_mistyped_command_line_is_answered_with_what_is_near(words, expected):
    result = invoke(*words)
    assert result.exit_code == 2
    assert expected in result.output


def test_a_list_option_takes_commas_and_repetition(monkeypatch):
    seen = {}
    monkeypatch.setattr(api, "slim", _recorder(api.slim, seen))
    invoke("slim", "a.efm", "--keep", "x,y", "--keep", "z", "-o", "b.efm")
    assert seen["keep"] == ("x", "y", "z")


def test_set_keeps_its_commas(monkeypatch):
    seen = {}
    monkeypatch.setattr(api, "distill", _recorder(api.distill, seen))
    invoke("distill", "-t", "a", "-d", "b", "-o", "c", "--set", "distill.losses={logits: 1, labels: 0}", "--set", "seed=1")
    assert seen["set"] == ("distill.losses={logits: 1, labels: 0}", "seed=1")


def test_file_names_keep_their_commas(monkeypatch):
    seen = {}
    monkeypatch.setattr(api, "run", _recorder(api.run, seen))
    invoke("run", "a.efm", "left,right.png", "b.png")
    assert seen["images"] == ("left,right.png", "b.png")
    monkeypatch.setattr(api, "bench", _recorder(api.bench, seen))
    invoke("bench", "left,right.efm", "b.efm")
    assert seen["bundles"] == ("left,right.efm", "b.efm")


def _recorder(function, seen):
    def record(**options):
        seen.update(options)
        raise KeyboardInterrupt

    record.__signature__ = inspect.signature(function)
    record.__doc__ = function.__doc__
    return record

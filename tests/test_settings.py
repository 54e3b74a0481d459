"""Recipes: what YAML may not mean, and what a refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.errors import InputError
from edgefm.settings import load_gate, load_recipe, parse_yaml
from edgefm.spec.gate import DEFAULTS
from edgefm.spec.recipe import Recipe


@pytest.fixture
def recipe(tmp_path: Path):
    def load(text: str, *sets: str, **overrides: object) -> Recipe:
        file = tmp_path / "recipe.yaml"
        file.write_text(text)
        return load_recipe(file, sets, overrides)

    return load


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "distill:\n", "distill: {}\n"])
def test_an_empty_file_means_all_defaults(recipe, text):
    assert recipe(text) == Recipe()


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1.e-3", ".001", "0.001", "1.0e-3"])
def test_an_exponent_without_a_point_is_a_number(recipe, text):
    assert recipe(f"distill: {{lr: {text}}}").distill.lr == 1e-3
    assert load_recipe(None, [f"distill.lr={text}"]).distill.lr == 1e-3


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "1:30", "2020-01-01", "0x10", "1_000", "=", "<<"])
def test_words_that_only_yaml_1_1_bends_stay_words(word):
    assert parse_yaml(word, "here") == word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distill: {lr: .nan}", [".nan", "not a finite number"]),
        ("distill: {lr: -.inf}", ["-.inf", "not a finite number"]),
        ("distill: {lr: 1e999}", ["1e999", "not a finite number"]),
        ("seed: " + "9" * 5000, ["recipe.yaml"]),
        ("distill: {lr: 1, lr: 2}", ["'lr' stands there twice"]),
        ("distill:\n  lr: 1\n  lr: 2\n", ["line 3, column 3", "'lr' stands there twice"]),
        ("seed: 1\nseed: 2\n", ["line 2", "'seed' stands there twice"]),
        ("a: &x {}\nb: *x\n", ["line 2", "no aliases", "*x"]),
        ("a: &x [*x]", ["no aliases"]),
        ("a: [", ["recipe.yaml"]),
        ("a: " + "[" * 5000, ["nested too deep"]),
        ("a: !!python/object/apply:os.system ['true']", ["python/object/apply"]),
        ("1: 2", ["the key 1 is not a name"]),
        ("[1, 2]", ["holds [1,2]", "names with values"]),
        ("just words", ["holds", "just words"]),
        ("distil: {lr: 1}", ["unknown setting distil;", "expected distill"]),
        ("distill: {epoch: 1}", ["unknown setting distill.epoch;", "expected distill.epochs"]),
        ("distill: {losses: {logit: 1}}", ["distill.losses.logit;", "expected distill.losses.logits"]),
        ("distill: {zzz: 1}", ["distill.zzz", "distill.batch", "distill.epochs"]),
        ("distill: 5", ["distill is 5", "a group of settings", "epochs"]),
        ("distill: {lr: -1}", ["distill.lr is -1", "a number, more than 0"]),
        ("distill: {epochs: 1.5}", ["distill.epochs is 1.5", "a whole number, at least 1"]),
        ("data: {val: 1.5}", ["data.val is 1.5", "at least 0 and at most 1"]),
        ("data: {frame: -1}", ["data.frame is -1", "or null"]),
        ("distill: {pretrained: yes}", ['distill.pretrained is "yes"', "true or false"]),
        ("quantize: {precision: int4}", ['quantize.precision is "int4"', "one of int8"]),
        ("quantize: {engines: [onx]}", ["quantize.engines[0]", "one of native, onnx, openvino"]),
        ("preprocess: {window16: [0, x]}", ['preprocess.window16[1] is "x"', "a number"]),
        ("preprocess: {window16: [1]}", ["preprocess.window16 is [1]", "a list of two numbers"]),
        ("student: 5", ["student is 5", "text"]),
        ("seed: -1", ["seed is -1", "at most 2147483647"]),
    ],
)
def test_a_refusal_names_the_file_the_key_what_was_found_and_what_is_allowed(recipe, text, words):
    with pytest.raises(InputError) as refusal:
        recipe(text)
    line = str(refusal.value)
    assert "recipe.yaml" in line
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("distill.lr", ["--set NAME=VALUE"]),
        ("=1", ["--set NAME=VALUE"]),
        ("distill.lr=fast", ["--set distill.lr=fast", 'distill.lr is "fast"']),
        ("distil.lr=1", ["--set distil.lr=1", "unknown setting distil;", "distill"]),
        ("distill.lr.x=1", ['distill.lr is {"x":1}', "a number, more than 0"]),
        ("distill.epochs=", ["distill.epochs is empty"]),
        ("a=[1, {", ["--set a=[1, {"]),
        ("distill.losses={logits: 1, logits: 2}", ["'logits' stands there twice"]),
    ],
)
def test_a_wrong_set_is_named_as_it_was_typed(option, words):
    with pytest.raises(InputError) as refusal:
        load_recipe(None, [option])
    for word in words:
        assert word in str(refusal.value)


def test_set_goes_over_the_file_and_an_option_of_its_own_goes_over_both(recipe):
    made = recipe("seed: 1\ndistill: {epochs: 3, lr: 0.1}", "distill.epochs=5", "seed=2", seed=3)
    assert (made.seed, made.distill.epochs, made.distill.lr) == (3, 5, 0.1)


def test_an_option_that_was_not_given_changes_nothing(recipe):
    assert recipe("seed: 4", seed=None).seed == 4


def test_set_of_a_group_replaces_the_group(recipe):
    made = recipe("distill: {losses: {logits: 3}}", "distill.losses={labels: 2}")
    assert (made.distill.losses.logits, made.distill.losses.labels) == (1.0, 2.0)


def test_a_recipe_that_is_not_there_or_no_text_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read \(No such file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(tmp_path / "picture.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        load_recipe(tmp_path)


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path):
    file = tmp_path / "windows.yaml"
    file.write_bytes(b"\xef\xbb\xbfseed: 7\r\n")
    assert load_recipe(file).seed == 7


def test_the_recipe_that_a_run_wrote_is_a_recipe(tmp_path: Path):
    import msgspec
    import yaml

    text = yaml.safe_dump(msgspec.to_builtins(Recipe()), sort_keys=False)
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path / "recipe.yaml") == Recipe()


def test_a_gate_lays_its_file_over_the_defaults_of_the_task(tmp_path):
    file = tmp_path / "gate.yaml"
    file.write_text("auc: 1e-2\nflips: null\n")
    assert load_gate(None, "binary") == DEFAULTS["binary"]
    gate = load_gate(file, "binary")
    assert (gate.auc, gate.flips, gate.sensitivity) == (0.01, None, DEFAULTS["binary"].sensitivity)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aucc: 0.1", r"gate.yaml: unknown setting aucc; expected auc"),
        ("auc: 0", r"gate.yaml: auc is 0; expected a number, more than 0 and at most 1 or null"),
        ("auc: 2", r"gate.yaml: auc is 2; expected a number"),
        ("auc: much", r"auc is \"much\"; expected a number"),
        ("- auc", r"holds \[\"auc\"\]; expected names with values, for example `auc: 0.01`"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(tmp_path, text, words):
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_gate(tmp_path / "gate.yaml", "binary")


def test_a_gate_that_is_not_there_is_named_with_its_option(tmp_path):
    with pytest.raises(InputError, match=r"the gate .*gate.yaml cannot be read .* Check the path after --gate"):
        load_gate(tmp_path / "gate.yaml", "binary")

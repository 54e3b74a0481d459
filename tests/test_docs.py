"""The documentation says what is true: every command parses, every recipe loads, every number is from a result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgefm import VERBS
from edgefm.cli import root
from edgefm.settings import load_gate, load_recipe

from .documents import DOCUMENTS, ROOT, blocks, commands


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_one_that_exists_with_options_that_exist(document):
    everybodys = {block.by for block in blocks(document)} - {"tests/native/test_document.py"}  # which runs gcc, too
    for program, *words in (words for by in sorted(everybodys) for words in commands(document, by)):
        if program == "make":
            assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text()
            continue
        assert program == "edgefm"
        group = root()
        verb, command, rest = group.resolve_command(click.Context(group), words)
        command.make_context(verb, list(rest))


def test_the_readme_lists_every_verb():
    text = (ROOT / "README.md").read_text()
    assert all(f"| `{verb}` |" in text for verb in VERBS)


def test_make_demo_and_make_test_are_run_by_ci():
    by_ci = commands("README.md", ".ci/run")
    assert by_ci == [["make", "demo"], ["make", "test"]]
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(f"stage {target}\n" in ci for _, target in by_ci)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_recipe_and_every_gate_loads(document, tmp_path: Path):
    for block in blocks(document):
        if block.language == "yaml":
            (tmp_path / "recipe.yaml").write_text(block.text)
            if block.text.startswith("# gate.yaml"):
                load_gate(tmp_path / "recipe.yaml", "binary")
            else:
                load_recipe(tmp_path / "recipe.yaml")


def test_the_segmentation_of_the_researchers_page_runs_and_prints_what_it_says(capsys):
    pytest.importorskip("scipy")
    (block,) = (block for block in blocks("docs/researcher.md") if block.language == "python")
    exec(compile(block.text, "docs/researcher.md", "exec"), {})
    assert capsys.readouterr().out == block.text.rpartition("  # ")[2]


def test_the_numbers_of_the_readme_are_those_of_the_results():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "readme_numbers.py", "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_inside_the_project_lead_somewhere(document):
    import re

    file = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
        assert (file.parent / target).exists(), target

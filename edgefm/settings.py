"""Read a recipe: a YAML file, then `--set a.b=c` on top, checked against `spec/recipe.py`; and a gate's limits.

Not their names, ranges or defaults: those are in `spec/recipe.py` and `spec/gate.py`.

PyYAML's own rules are those of YAML 1.1: `1e-3` is a string, `no` is false, `1:30` is 90, a repeated key wins silently.
Here scalars follow the YAML 1.2 core schema (section 10.3.2), and what cannot be meant is refused with its line.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.inspect import (
    FloatType,
    IntType,
    LiteralType,
    NoneType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from .errors import InputError
from .spec.device import DEVICES, Device
from .spec.gate import DEFAULTS, Gate
from .spec.recipe import DataRecipe, Recipe
from .spec.task import TaskKind


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars; repeated keys and aliases refused."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute, replaced as a whole

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"a recipe has no aliases, but found *{event.anchor}", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = float(re.sub(r"(?i)\.(inf|nan)$", r"\1", node.value))
    if not math.isfinite(value):
        raise yaml.constructor.ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
    return value


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [*_first] + ([""] if _tag == "null" else [])
    )
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; `where` names it in errors.

    Raises:
        InputError: broken YAML, a repeated key, a number that is not finite, with line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where} line {mark.line + 1}, column {mark.column + 1}" if mark and "\n" in text.strip() else where
        raise InputError(f"{place}: {error.problem or error.context}", do="correct it and try again") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deep", do="correct it and try again") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{where} is not YAML ({error})", do="correct it and try again") from error


def load_recipe(
    file: str | Path | None, sets: Sequence[str] = (), overrides: Mapping[str, Any] | None = None, *, base: Recipe | None = None
) -> Recipe:
    """The recipe of a command: defaults, the file, `--set` in their order, then the command's own options.

    Args:
        file: YAML file, or None. An empty file means all defaults.
        sets: "a.b=c", c in YAML.
        overrides: dotted name to value, of options that have their own flag (`--seed`); None values are left out.
        base: takes the place of the defaults.

    Raises:
        InputError: names the key path, what was found and what is allowed, and the nearest names for an unknown key.
    """
    origin = {"": str(file)}
    tree: dict[str, Any] = {}
    if file is not None:
        tree = _read(Path(file))
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {text}", expected="--set NAME=VALUE, for example --set distill.epochs=10")
        _put(tree, key.strip(), parse_yaml(value, f"--set {text}"), f"--set {text}")
        origin[key.strip()] = f"--set {text}"
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(tree, key, value, f"--{key}")
            flag = key.rpartition(".")[2].replace("_", "-")
            origin[key] = f"--{flag}"
    _refuse_unknown(tree, type_info(Recipe), "", origin)
    try:
        return msgspec.convert(tree if base is None else _over(msgspec.to_builtins(base), tree), Recipe)
    except msgspec.ValidationError as error:
        raise _explained(error, tree, origin) from error


def load_gate(file: str | Path | None, kind: TaskKind) -> Gate:
    """The gate of a task: its defaults, with the file over them; `null` there leaves a number out of the verdict.

    Raises:
        InputError: names what was found and what is allowed.
    """
    usual = DEFAULTS[kind]
    if file is None:
        return usual
    origin, tree = {"": str(file)}, _read(Path(file), "gate", "auc: 0.01")
    _refuse_unknown(tree, type_info(Gate), "", origin)
    try:
        return msgspec.convert(msgspec.to_builtins(usual) | tree, Gate)
    except msgspec.ValidationError as error:
        raise _explained(error, tree, origin, Gate) from error


def load_device(name: str) -> tuple[str, Device]:
    """A device profile and its name: one of `DEVICES`, or a YAML file (its name without the suffix).

    Raises:
        InputError: names what was found and what is allowed.
    """
    if name in DEVICES:
        return name, DEVICES[name]
    if not name.endswith((".yaml", ".yml")):
        raise InputError(f"there is no device profile {name!a}", expected=f"{', '.join(DEVICES)}, or a .yaml file")
    origin, tree = {"": name}, _read(Path(name), "profile", "cores: 4")
    _refuse_unknown(tree, type_info(Device), "", origin)
    try:
        return Path(name).stem, msgspec.convert(tree, Device)
    except msgspec.ValidationError as error:
        raise _explained(error, tree, origin, Device) from error


def data_changes(data: DataRecipe) -> str:
    """The settings of `data` that are not the defaults, as "data.val=0.3, data.seed=1"; "" if all are."""
    usual = msgspec.to_builtins(DataRecipe())
    return ", ".join(f"data.{key}={value}" for key, value in msgspec.to_builtins(data).items() if value != usual[key])


def changes(recipe: Recipe, base: Recipe, *groups: str) -> list[str]:
    """What `--set` would make `recipe` of `base`, "data.val=0.3" each; of these groups of settings."""
    found, usual = msgspec.to_builtins(recipe), msgspec.to_builtins(base)
    return [
        f"{group}.{key}={msgspec.json.encode(value).decode()}"
        for group in groups
        for key, value in found[group].items()
        if value != usual[group][key]
    ]


def _read(file: Path, what: str = "recipe", example: str = "student: tiny") -> dict[str, Any]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"the {what} {file} cannot be read ({reason})", do=f"check the path after --{what}") from error
    tree = parse_yaml(text, str(file))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{file} holds {_shown(tree)}", expected=f"names with values, for example `{example}`")
    return tree


def _over(below: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` laid over `below`, group by group."""
    nested = {
        key: _over(below[key], value) for key, value in tree.items() if isinstance(value, dict) and isinstance(below[key], dict)
    }
    return below | tree | nested


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *above, last = key.split(".")
    for name in above:
        below = tree.setdefault(name, {})
        if below is None:
            below = tree[name] = {}
        if not isinstance(below, dict):
            raise InputError(f"{where}: {name} is {_shown(below)} in the recipe, not a group of settings")
        tree = below
    tree[last] = value


def _refuse_unknown(tree: dict[str, Any], struct: Type, path: str, origin: dict[str, str]) -> None:
    assert isinstance(struct, StructType)
    fields = {field.name: field.type for field in struct.fields}
    for key, value in list(tree.items()):
        full = f"{path}{key}"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=3, cutoff=0.5)
            names = [f"{path}{name}" for name in near or sorted(fields)]
            raise InputError(f"{_where(full, origin)}: unknown setting {full}", expected=" or ".join(names))
        if isinstance(fields[key], StructType):
            if value is None:
                del tree[key]
            elif isinstance(value, dict):
                _refuse_unknown(value, fields[key], f"{full}.", origin)


def _where(path: str, origin: dict[str, str]) -> str:
    """Which file or option set `path`: the last one that set it, a part of it or a group around it."""
    for key in reversed(origin):
        if key == path or key.startswith(f"{path}.") or path.startswith((f"{key}.", f"{key}[")):
            return origin[key]
    return origin[""]


def _explained(error: msgspec.ValidationError, tree: Any, origin: dict[str, str], struct: type = Recipe) -> InputError:
    match = re.search(r"at `\$\.?([^`]*)`", str(error))
    path = match.group(1) if match else ""
    kind: Type = type_info(struct)
    found = tree
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        if isinstance(kind, StructType):
            kind = next(field.type for field in kind.fields if field.name == step)
        elif isinstance(kind, VarTupleType):
            kind = kind.item_type
        elif isinstance(kind, UnionType):
            kind = next(each for each in kind.types if not isinstance(each, NoneType))
            kind = kind.item_types[int(step[1:-1])] if isinstance(kind, TupleType) else kind
        found = found[int(step[1:-1])] if step.startswith("[") else found[step]
    return InputError(f"{_where(path, origin)}: {path or 'the whole'} is {_shown(found)}", expected=describe(kind))


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def describe(kind: Type) -> str:
    """What a setting may be, in words: "a whole number, at least 1"."""
    if isinstance(kind, UnionType):
        return " or ".join(describe(each) for each in kind.types)
    if isinstance(kind, NoneType):
        return "null"
    if isinstance(kind, LiteralType):
        return "one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, (IntType, FloatType)):
        words = ["a whole number" if isinstance(kind, IntType) else "a number"]
        bounds = (("at least", kind.ge), ("more than", kind.gt), ("at most", kind.le), ("less than", kind.lt))
        words += [f"{word} {_plain(bound)}" for word, bound in bounds if bound is not None]
        return words[0] + (", " + " and ".join(words[1:]) if words[1:] else "")
    if isinstance(kind, StructType):
        return "a group of settings: " + ", ".join(field.name for field in kind.fields)
    if isinstance(kind, VarTupleType):
        return f"a list; each item {describe(kind.item_type)}"
    return {"BoolType": "true or false", "StrType": "text", "TupleType": "a list of two numbers"}.get(
        type(kind).__name__, "another type"
    )

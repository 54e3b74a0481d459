"""Every setting has a default, a range and nothing else. Reading of YAML and --set: tests/test_settings.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgefm.spec.recipe import Recipe


def within(key: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} for "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**31),
        ("data.val", 1.5),
        ("data.val", -0.1),
        ("data.seed", -1),
        ("data.frame", -1),
        ("data.broken", "ignore"),
        ("distill.epochs", 0),
        ("distill.views", 0),
        ("distill.batch", 0.5),
        ("distill.lr", 0.0),
        ("distill.temperature", 0.0),
        ("distill.losses.logits", -1.0),
        ("distill.losses.attention", -1.0),
        ("distill.losses.hints", 1.0),
        ("distill.layers", []),
        ("distill.layers", [[-1]]),
        ("distill.layers", [-1, -1]),
        ("distill.augment.flip", 2.0),
        ("distill.patience", 0),
        ("adapt.layer_decay", 0.0),
        ("adapt.layer_decay", 1.01),
        ("quantize.precision", "int4"),
        ("quantize.engines", ["tflite"]),
        ("quantize.max_flips", 1.1),
        ("quantize.calibration_images", 0),
        ("quantize.minutes", 0.0),
        ("quantize.coverage", 1.0),
        ("quantize.coverage", 0.0),
        ("preprocess.window16", [0.0]),
        ("distil", {}),
    ],
)
def test_a_value_out_of_range_or_an_unknown_key_is_refused_by_its_path(key: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(within(key, value), Recipe)


def test_nothing_means_all_defaults_and_a_recipe_is_read_back_as_it_was_written() -> None:
    assert msgspec.convert({}, Recipe) == Recipe()
    changed = msgspec.convert(within("distill.losses.labels", 0.5), Recipe)
    assert changed != Recipe()
    assert msgspec.json.decode(msgspec.json.encode(changed), type=Recipe) == changed


def test_the_cut_of_the_data_has_a_seed_of_its_own() -> None:
    assert msgspec.convert({"seed": 7}, Recipe).data == Recipe().data


def test_a_recipe_cannot_be_changed_in_place_and_so_may_be_a_default_argument() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Recipe().seed = 1  # type: ignore[misc]

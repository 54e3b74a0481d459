"""timm's names: misspelt, without weights, with a tag that is not there. With weights out of the cache: test_hub.py."""

from __future__ import annotations

import pytest

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.timm_names import check_timm_name, pretrained_timm


def refusal(name: str) -> str:
    with pytest.raises(InputError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "mobilenetv4_conv_small"])
def test_a_name_that_timm_knows_is_let_through_with_or_without_its_tag(name: str) -> None:
    check_timm_name(name)


@pytest.mark.parametrize("name", ["", ".", "resnet18 ", "RESNET18", "timm/resnet18", "../resnet18"])
def test_what_is_nearly_a_name_is_none(name: str) -> None:
    with pytest.raises(InputError, match="timm has no model"):
        check_timm_name(name)


def test_weights_that_are_not_on_the_hub_are_named_with_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    config = timm.get_pretrained_cfg("resnet18")
    elsewhere = type(config)(**{**vars(config), "hf_hub_id": None, "url": "https://example.org/w.pth"})
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: elsewhere)
    with pytest.raises(InputError, match=r"not on the Hugging Face Hub\. Download https://example\.org/w\.pth and put it into"):
        pretrained_timm("resnet18")


def test_an_unknown_timm_name_is_refused_with_the_nearest() -> None:
    assert "expected one of mobilenetv4_conv_small" in refusal("mobilenetv4_conv_smal")
    assert "expected a name that timm.list_models() lists" in refusal("qqqqqqqqqqqq")


def test_an_unknown_tag_is_refused_with_the_known_ones() -> None:
    assert "timm has no weights 'resnet18.nope'; expected one of resnet18." in refusal("resnet18.nope")

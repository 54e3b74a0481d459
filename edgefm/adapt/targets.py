"""Which linear layers get an adapter: those whose names match a pattern, by default attention and MLP of every block.

Not the adapters (`lora_linear.py`). All linear layers of a block, not only query and value: Dettmers et al. 2023 (QLoRA),
section 4 and figure 2, find that this is what reaches full fine-tuning.

| family | by default |
|---|---|
| timm, open_clip's towers | `attn.qkv` (fused), `attn.proj`, or `attn.q_proj` …; `mlp.fc1` (also packed SwiGLU), `mlp.fc2` |
| transformers | `q_proj` `k_proj` `v_proj` `o_proj` `out_proj`, `fc1` `fc2`, `gate_proj` …; before 5.24 `query` … `dense` |
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import InputError
from ..models.encoder import TransformersEncoder
from ..models.peft_format import library_names
from ..models.probe import base_of, classifier_of

TIMM = ("attn.qkv", "attn.*proj", "mlp.fc*")
TRANSFORMERS = ("*_proj", "fc1", "fc2", "query", "key", "value", "dense", "weights_in", "weights_out")


def find_targets(module: nn.Module, patterns: Sequence[str], name: str) -> dict[str, nn.Linear]:
    """The layers to adapt by their names in the library's model, in the model's order.

    Args:
        module: with a classifier (`models.probe.with_classifier`), which is no target.
        patterns: a name or its end, whole parts of it; `*` stands for anything. Empty: the family's. name: the model's.

    Raises:
        InputError: a pattern hits no linear layer, or the family's hit none.
    """
    own = classifier_of(module)
    # exactly nn.Linear: the projection inside torch's MultiheadAttention is a subclass that is never called
    linear = {name: each for name, each in library_names(module).items() if type(each) is nn.Linear and each is not own}
    if not linear:
        raise InputError(
            f"{name} has no linear layers beside its classifier",
            expected="a transformer",
            do="use --method full, or linear, which leaves it as it is",
        )
    family = TRANSFORMERS if isinstance(base_of(module), TransformersEncoder) else TIMM
    found = {pattern: [each for each in linear if matches(each, pattern)] for pattern in patterns or family}
    idle = [pattern for pattern, hits in found.items() if not hits]
    chosen = {each for hits in found.values() for each in hits}
    if not chosen or (patterns and idle):
        examples = list(linear)[:: max(1, len(linear) // 4)][:4]
        raise InputError(
            f"no linear layer of {name} is called {' or '.join(idle)}",
            expected=f"names, or their ends, such as {', '.join(examples)}",
            do="correct adapt.lora.targets",
        )
    return {each: layer for each, layer in linear.items() if each in chosen}


def matches(name: str, pattern: str) -> bool:
    """Whether `pattern` is `name` or an end of it that begins after a dot."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")

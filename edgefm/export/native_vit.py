"""A timm vision transformer, read part by part into the one form that the native engine computes. Anything unknown is refused.

Not the files (`native.py`), and no proof: the gate of `export` holds the engine's answers to the model's.

    patches @ W + position ─▶ [norm] ─▶ layers ─▶ [norm] ─▶ pooling ─▶ [norm] ─▶ [projection] = embedding ─▶ [head] = logits

What can be done here is not done on the device: class token and registers come with their positions, positions with the bias of
the patch embedding and at the model's size, LayerScale is in the weights before it, an absent bias is zeros, an absent position
embedding too, packed SwiGLU has its gates and values in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from timm.layers import LayerScale, PatchDropout, PatchEmbed
from timm.layers import activations as act
from timm.layers.attention import Attention
from timm.layers.mlp import GluMlp, Mlp
from timm.layers.norm import LayerNorm, LayerNormFp32
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from ..errors import InputError
from ..models import LoadedModel
from ..models.encoder import ImageTower, TimmEncoder
from ..models.probe import ProbeEncoder
from .native_bounds import MOST_TOKENS, out_of_bounds
from .native_pack import COLUMNS, gated

Array = np.ndarray
NORMS = (LayerNorm, LayerNormFp32, nn.LayerNorm)
ABSENT = (nn.Identity, nn.Dropout, PatchDropout)  # in evaluation mode
GELU = {nn.GELU: "gelu", act.GELU: "gelu", act.GELUTanh: "gelu_tanh"}


@dataclass(frozen=True, kw_only=True)
class Vit:
    """A vision transformer.

    Attributes:
        architecture: the fields of docs/native-format.md, without the precisions.
        norms: name to (gamma, beta), float32 `[D]` each. linears: name to (weight `[N, K]`, bias `[N]`), float32.
        rows: "prefix" `[P, D]` and "position" `[patches, D]`, float32; smoothed, "layers.I.hidden" `[H]`, too, behind a GELU.
    """

    architecture: Mapping[str, Any]
    norms: Mapping[str, tuple[Array, Array]]
    linears: Mapping[str, tuple[Array, Array]]
    rows: Mapping[str, Array]


def read_vit(model: LoadedModel) -> Vit:
    """The model as the native engine computes it.

    Raises:
        InputError: it is no vision transformer of timm's, or has a part that the engine does not know.
    """
    return _Reader(model).read()


class _Reader:
    def __init__(self, model: LoadedModel) -> None:
        self.model, self.name = model, model.name
        self.norms: dict[str, tuple[Array, Array]] = {}
        self.linears: dict[str, tuple[Array, Array]] = {}
        self.eps: set[float] = set()

    def read(self) -> Vit:
        trunk, pooling, projection, head = self._parts()
        self._same(trunk, VisionTransformer, "the model")
        self._computes_its_own(self.model.module)
        spec, width = self.model.preprocess, int(trunk.embed_dim)
        patch = self._patch(trunk)
        size = spec.size
        first = {"channels": int(spec.channels), "depth": len(trunk.blocks), "patch": patch, "size": size, "width": width}
        self._within(first)
        rows = self._rows(trunk, size, patch)
        self._absent(trunk.pos_drop, "pos_drop")
        self._absent(trunk.patch_drop, "patch_drop")
        pre_norm = self._norm(trunk.norm_pre, "pre_norm", width)
        shapes = [self._block(block, f"layers.{index}", width) for index, block in enumerate(trunk.blocks)]
        if not shapes or any(shape != shapes[0] for shape in shapes):
            self._refuse("layers that differ from each other, or none", "at least one, all of one shape")
        final_norm, pool = self._pooling(trunk, pooling, width)
        pooled = 2 * width if pool == "class+mean" else width
        if projection is not None:
            self._linear(projection, "projection")
            pooled = projection.out_features
        if head is not None:
            self._linear(head, "head")
        if head is not None and head.in_features != pooled:
            self._refuse(f"a classifier of {head.in_features} inputs", str(pooled))
        if len(self.eps) != 1:
            self._refuse(f"norms with eps {sorted(self.eps)}", "the same eps in all")
        architecture = {
            **first,
            **shapes[0],
            "class_token": bool(trunk.has_class_token),
            "classes": 0 if head is None else head.out_features,
            "eps": self.eps.pop(),
            "final_norm": final_norm,
            "pooling": pool,
            "pre_norm": pre_norm,
            "prefix": len(rows["prefix"]),
            "projection": 0 if projection is None else projection.out_features,
        }
        self._within(architecture)
        return Vit(architecture=architecture, norms=self.norms, linears=self.linears, rows=rows)

    def _parts(self) -> tuple[Any, str, nn.Linear | None, nn.Linear | None]:
        """Trunk, kind of pooling, projection and classifier of what a loader made."""
        module: Any = self.model.module
        head: Any = None
        if type(module) is ProbeEncoder:
            module, head = module.base, module.head
        if type(module) is ImageTower:
            layers = [each for each in module.projection.modules() if not list(each.children())]
            layers = [each for each in layers if type(each) not in (nn.Identity, nn.Sequential)]
            if len(layers) > 1:
                self._refuse("a projection of several layers", "one linear layer")
            self._absent(module.trunk.head, "the trunk's head")
            return module.trunk, "own", layers[0] if layers else None, head
        if type(module) is not TimmEncoder:
            self._refuse(f"a {type(module).__name__}", "a model of timm's family of vision transformers")
        trunk, projection = module.model, None
        if module.pooling == "class+patches":
            return trunk, module.pooling, None, head
        if trunk.num_classes and module.pooling == "projected":
            projection = trunk.get_classifier()
        elif trunk.num_classes and head is None and self.model.task.kind != "embedding":
            head = trunk.get_classifier()
        return trunk, "own", projection, head

    def _patch(self, trunk: Any) -> int:
        embed = trunk.patch_embed
        self._same(embed, PatchEmbed, "patch_embed")
        self._absent(embed.norm, "patch_embed.norm")
        proj = embed.proj
        self._same(proj, nn.Conv2d, "patch_embed.proj")
        high, wide = proj.kernel_size
        if high != wide or proj.stride != (high, wide) or proj.padding != (0, 0) or proj.groups != 1 or proj.dilation != (1, 1):
            self._refuse(f"patches of {proj}", "squares side by side")
        if self.model.preprocess.size % high and embed.dynamic_img_pad:
            self._refuse("an image that is padded to whole patches", f"a size that is a multiple of {high}")
        weight = _array(proj.weight).reshape(proj.out_channels, -1)
        bias = np.zeros(len(weight), np.float32) if proj.bias is None else _array(proj.bias)
        self.linears["patch"] = weight, bias
        return int(high)

    def _rows(self, trunk: Any, size: int, patch: int) -> dict[str, Array]:
        """What the model makes of patches that are all zeros: its prefix and its positions, as its own code places them."""
        side, prefix = size // patch, int(trunk.num_prefix_tokens)
        if side * side + prefix > MOST_TOKENS:
            self._refuse(f"{side * side + prefix} tokens", f"at most {MOST_TOKENS}")
        shape = (1, side, side) if trunk.dynamic_img_size else (1, side * side)
        with torch.no_grad():
            found = _array(trunk._pos_embed(torch.zeros(*shape, trunk.embed_dim)))[0]
        if found.shape != (prefix + side * side, trunk.embed_dim):
            self._refuse(f"positions of the shape {list(found.shape)}", str([prefix + side * side, trunk.embed_dim]))
        return {"prefix": found[:prefix], "position": found[prefix:] + self.linears["patch"][1]}

    def _block(self, block: Any, at: str, width: int) -> dict[str, Any]:
        """The shape of a layer, as fields of the architecture; its tensors are kept."""
        self._same(block, Block, at)
        attention, mlp = block.attn, block.mlp
        self._same(attention, Attention, f"{at}.attn")
        self._absent(attention.norm, f"{at}.attn.norm")
        if attention.gate is not None:
            self._refuse(f"{at}.attn has a gate", "none")
        heads, head_width = int(attention.num_heads), int(attention.head_dim)
        if head_width % 8 or not 32 <= head_width <= 128:
            self._refuse(f"attention heads of {head_width} channels", "a multiple of 8 from 32 to 128")
        if not math.isclose(attention.scale, head_width**-0.5, rel_tol=1e-6):
            self._refuse(f"{at}.attn.scale is {attention.scale:g}", f"1 / sqrt({head_width})")
        self._norm(block.norm1, f"{at}.norm1", width, needed=True)
        self._linear(attention.qkv, f"{at}.qkv")
        normed = self._norm(attention.q_norm, f"{at}.q_norm", head_width)
        if normed != self._norm(attention.k_norm, f"{at}.k_norm", head_width):
            self._refuse(f"{at}.attn normalises queries or keys alone", "both or neither")
        self._linear(attention.proj, f"{at}.proj", block.ls1)
        self._norm(block.norm2, f"{at}.norm2", width, needed=True)
        activation, hidden = self._mlp(mlp, at)
        self._linear(mlp.fc2, f"{at}.fc2", block.ls2)
        if activation == "swiglu":
            self.linears[f"{at}.fc1"] = tuple(map(gated, self.linears[f"{at}.fc1"]))  # type: ignore[assignment]
            weight, bias = self.linears[f"{at}.fc2"]
            filled = np.zeros((len(weight), hidden), np.float32)
            filled[:, : weight.shape[1]] = weight
            self.linears[f"{at}.fc2"] = filled, bias
        shape = {"activation": activation, "head_width": head_width, "heads": heads, "hidden": hidden, "qk_norm": normed}
        wanted = {"qkv": (3 * heads * head_width, width), "proj": (width, heads * head_width), "fc2": (width, hidden)}
        wanted["fc1"] = (2 * hidden if activation == "swiglu" else hidden, width)
        for name, expected in wanted.items():
            if self.linears[f"{at}.{name}"][0].shape != expected:
                self._refuse(f"{at}.{name} has the shape {list(self.linears[f'{at}.{name}'][0].shape)}", str(list(expected)))
        return shape

    def _mlp(self, mlp: Any, at: str) -> tuple[str, int]:
        """The activation and the columns that fc2 reads, with zeros behind those of a SwiGLU."""
        if type(mlp) not in (Mlp, GluMlp):
            self._refuse(f"{at}.mlp is a {type(mlp).__name__}", "Mlp or packed SwiGLU")
        self._absent(mlp.norm, f"{at}.mlp.norm")
        self._linear(mlp.fc1, f"{at}.fc1")
        hidden = int(mlp.fc2.in_features)
        if type(mlp) is GluMlp:
            if mlp.gate_last or type(mlp.act) is not nn.SiLU:
                self._refuse(f"{at}.mlp has the gate {mlp.act}, {'last' if mlp.gate_last else 'first'}", "SiLU, first")
            return "swiglu", -(-hidden // COLUMNS) * COLUMNS
        kind = GELU.get(type(mlp.act))
        if kind is None:
            self._refuse(f"{at}.mlp.act is {mlp.act}", "GELU, exact or by tanh")
        if type(mlp.act) is nn.GELU and mlp.act.approximate != "none":
            kind = "gelu_tanh"
        return kind, hidden

    def _pooling(self, trunk: Any, pooling: str, width: int) -> tuple[str, str]:
        """Where the last norm stands, and how tokens become one vector."""
        tokens = self._norm(trunk.norm, "final_norm", width)
        if pooling == "class+patches":
            if not trunk.has_class_token:
                self._refuse("the pooling class+patches without a class token", "a class token")
            return "tokens" if tokens else "none", "class+mean"
        if trunk.attn_pool is not None or trunk.global_pool not in ("token", "avg"):
            self._refuse(f"the pooling {trunk.global_pool!r}", "'token' or 'avg'")
        if trunk.global_pool == "avg" and trunk.pool_include_prefix and trunk.num_prefix_tokens:
            self._refuse("a mean over class token and patches", "a mean over patches")
        if not isinstance(trunk.fc_norm, nn.Identity):
            if tokens:
                self._refuse("a norm before pooling and one after it", "one of them")
            self._norm(trunk.fc_norm, "final_norm", width, needed=True)
            return "pooled", "class" if trunk.global_pool == "token" else "mean"
        return "tokens" if tokens else "none", "class" if trunk.global_pool == "token" else "mean"

    def _norm(self, norm: Any, name: str, width: int, *, needed: bool = False) -> bool:
        """Keep a LayerNorm; False where there is none."""
        if type(norm) is nn.Identity and not needed:
            return False
        if type(norm) not in NORMS or tuple(norm.normalized_shape) != (width,):
            self._refuse(f"{name} is {norm}", f"LayerNorm over {width} channels")
        gamma = np.ones(width, np.float32) if norm.weight is None else _array(norm.weight)
        beta = np.zeros(width, np.float32) if norm.bias is None else _array(norm.bias)
        self.norms[name] = gamma, beta
        self.eps.add(float(norm.eps))
        return True

    def _linear(self, layer: Any, name: str, scale: Any = None) -> None:
        """Keep a linear layer; `scale` is a LayerScale behind it, or nothing."""
        self._same(layer, nn.Linear, name)
        weight = _array(layer.weight)
        bias = np.zeros(len(weight), np.float32) if layer.bias is None else _array(layer.bias)
        if scale is not None and type(scale) is not nn.Identity:
            self._same(scale, LayerScale, f"{name}'s scale")
            gamma = _array(scale.gamma)
            weight, bias = weight * gamma[:, None], bias * gamma
        self.linears[name] = weight, bias

    def _same(self, part: Any, kind: type, name: str) -> None:
        # a subclass may compute otherwise
        if type(part) is not kind or nn.utils.parametrize.is_parametrized(part):
            self._refuse(f"{name} is a {type(part).__name__}", kind.__name__)

    def _computes_its_own(self, module: nn.Module) -> None:
        # what is hung on a module from outside, weight_norm of old among it, is no part of its type
        for name, part in module.named_modules():
            if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
                self._refuse(f"{name or 'the model'} has a hook or another forward", "neither")

    def _within(self, architecture: Mapping[str, Any]) -> None:
        wrong = out_of_bounds(architecture)
        if wrong is not None:
            self._refuse(*wrong)

    def _absent(self, part: Any, name: str) -> None:
        if type(part) not in ABSENT:
            self._refuse(f"{name} is a {type(part).__name__}", "nothing")

    def _refuse(self, found: str, expected: str) -> NoReturn:
        raise InputError(
            f"{self.name} cannot be a native variant: {found}",
            expected=expected,
            do="leave the engine native out; the others run it",
        )


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().float().cpu().numpy()

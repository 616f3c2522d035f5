"""A pipeline of diffusers as one file with the keys of the original training code.

Written from the names of that code (CompVis's latent-diffusion, StabilityAI's generative-models,
open_clip), for networks with one layer in each block of the U-Net.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from edgefusion.models.source import Source

Tensors = dict[str, torch.Tensor]
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_RESNET = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)


def _input(match: re.Match[str], place: str, behind: int = 0) -> str:
    return f"input_blocks.{1 + 2 * int(match[1]) + behind}.{place}"


def _output(match: re.Match[str], place: str, layer: int | None = None) -> str:
    return (
        f"output_blocks.{2 * int(match[1]) + (int(match[2]) if layer is None else layer)}.{place}"
    )


_UNET: Rules = (
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: _input(m, "0.op", behind=1)),
    (r"^down_blocks\.(\d)\.resnets\.0", lambda m: _input(m, "0")),
    (r"^down_blocks\.(\d)\.attentions\.0", lambda m: _input(m, "1")),
    (r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^up_blocks\.(\d)\.upsamplers\.0\.conv", lambda m: _output(m, "{n}.conv", layer=1)),
    (r"^up_blocks\.(\d)\.resnets\.(\d)", lambda m: _output(m, "0")),
    (r"^up_blocks\.(\d)\.attentions\.(\d)", lambda m: _output(m, "1")),
)
_VAE: Rules = (
    (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"up_blocks\.(\d)\.resnets\.", r"up.\1.block."),
    (r"up_blocks\.(\d)\.upsamplers\.0\.", r"up.\1.upsample."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_([qkv])", r"attn_1.\1"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)
_OPEN_CLIP: Rules = (
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^embeddings\.token_embedding", "token_embedding"),
    (r"^final_layer_norm", "ln_final"),
    (r"^encoder\.layers", "transformer.resblocks"),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn", "attn"),
)


def _renamed(weights: Mapping[str, torch.Tensor], rules: Rules) -> Tensors:
    found = {}
    for name, tensor in weights.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)  # noqa: PLW2901
        found[name] = tensor
    return found


def _unet(weights: Tensors) -> Tensors:
    found = _renamed(weights, _UNET)
    for name in tuple(found):
        if ".conv" in name and "{n}" in name:  # behind attention, where there is one
            block = name.split(".{n}")[0]
            behind = 2 if any(key.startswith(f"{block}.1.") for key in found) else 1
            found[name.replace("{n}", str(behind))] = found.pop(name)
        elif re.match(r"(in|out)put_blocks\.\d+\.0\.|middle_block\.[02]\.", name):
            (new,) = _renamed({name: found[name]}, _RESNET)
            found[new] = found.pop(name)
    return found


def _vae(weights: Tensors, levels: int) -> Tensors:
    """Levels on the way up are counted from the image; attention is of 1x1 convolutions."""
    found = {}
    for name, tensor in _renamed(weights, _VAE).items():
        new = re.sub(r"\.up\.(\d)\.", lambda m: f".up.{levels - 1 - int(m[1])}.", name)
        matrix = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", new)
        found[new] = tensor[:, :, None, None] if matrix else tensor
    return found


def _open_clip(weights: Tensors) -> Tensors:
    """The three projections into attention are one, and that of the pooled state is turned."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    found = _renamed(plain, _OPEN_CLIP)
    if "text_projection.weight" in found:
        found["text_projection"] = found.pop("text_projection.weight").T
    for name in [key for key in found if ".attn.q_proj." in key]:
        rows = [found.pop(name.replace("q_proj", f"{each}_proj")) for each in "qkv"]
        found[name.replace("q_proj.", "in_proj_")] = torch.cat(rows)
    return found


def single_file(source: Source, path: Path, *, open_clip: bool = False) -> Path:
    """All weights of ``source``, a small pipeline of Stable Diffusion v1 (with ``open_clip`` its
    text encoder as v2 has it) or XL, written to ``path``."""
    found: Tensors = {}

    def add(prefix: str, tensors: Tensors) -> None:
        found.update({prefix + name: x.clone().contiguous() for name, x in tensors.items()})

    def weights(component: str) -> Tensors:
        return dict(source.load_whole(component).state_dict())

    levels = len(source.load_whole("vae_decoder").config.block_out_channels)  # type: ignore[union-attr,arg-type]
    add("model.diffusion_model.", _unet(weights("unet")))
    add("first_stage_model.", _vae(weights("vae_decoder"), levels))
    text = weights("text_encoder")
    clip = {f"text_model.{name.removeprefix('text_model.')}": x for name, x in text.items()}
    if "text_encoder_2" in source.components:
        add("conditioner.embedders.0.transformer.", clip)
        add("conditioner.embedders.1.model.", _open_clip(weights("text_encoder_2")))
    elif open_clip:
        add("cond_stage_model.model.", _open_clip(text))
    else:
        add("cond_stage_model.transformer.", clip)
    save_file(found, path)
    return path

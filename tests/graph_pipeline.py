"""A pipeline's folder as optimum exports it: an ONNX graph and its configuration for each network,
with the names and open sizes of ``optimum.exporters.onnx.model_configs``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import nn

IMAGE = {0: "batch_size", 2: "height", 3: "width"}
TEXT = {0: "batch_size", 1: "sequence_length"}


class _Plain(nn.Module):
    """A network with plain tensors, as ``run`` calls it."""

    def __init__(self, network: Any, run: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.run = network, run

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.run(self.network, *inputs)


def _export(
    path: Path,
    module: nn.Module,
    inputs: Mapping[str, tuple[torch.Tensor, Mapping[int, str]]],
    outputs: Mapping[str, Mapping[int, str]],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: dict(open_) for name, (_, open_) in inputs.items()}
    with catch_warnings(), torch.no_grad():
        simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(value for value, _ in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={**axes, **{name: dict(open_) for name, open_ in outputs.items()}},
            opset_version=17,
            dynamo=False,
        )


def _text_encoder(folder: Path, encoder: Any, *, hidden: bool) -> None:
    ids = torch.zeros(1, 9, dtype=torch.int32)
    projected = hasattr(encoder, "text_projection")
    names = ["text_embeds" if projected else "last_hidden_state"]
    names.append("last_hidden_state" if projected else "pooler_output")
    count = encoder.config.num_hidden_layers + 1 if hidden else 0

    def run(network: Any, ids: torch.Tensor) -> Any:
        made = network(input_ids=ids, output_hidden_states=hidden)
        return (*(made[name] for name in names), *(made.hidden_states or ())[:count])

    outputs = {name: TEXT if name == "last_hidden_state" else {0: "batch_size"} for name in names}
    outputs |= {f"hidden_states.{i}": TEXT for i in range(count)}
    _export(folder / "model.onnx", _Plain(encoder, run), {"input_ids": (ids, TEXT)}, outputs)
    encoder.config.save_pretrained(folder)


def _unet(folder: Path, unet: Any) -> None:
    config = unet.config
    sized = config.addition_embed_type == "text_time"
    latent = torch.randn(2, config.in_channels, 16, 16)
    states = torch.randn(2, 9, config.cross_attention_dim)
    inputs: dict[str, tuple[torch.Tensor, Mapping[int, str]]] = {
        "sample": (latent, {**IMAGE, 1: "num_channels"}),
        "timestep": (torch.tensor(3), {}),
        "encoder_hidden_states": (states, TEXT),
    }
    if sized:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["text_embeds"] = torch.randn(2, pooled), {0: "batch_size"}
        inputs["time_ids"] = torch.ones(2, 6), {0: "batch_size"}

    def run(network: Any, *given: torch.Tensor) -> Any:
        added = dict(zip(list(inputs)[3:], given[3:], strict=True))
        return network(*given[:3], added_cond_kwargs=added, return_dict=False)[0]

    _export(folder / "model.onnx", _Plain(unet, run), inputs, {"out_sample": IMAGE})
    unet.save_config(folder)


def _decoder(folder: Path, vae: Any) -> None:
    latent = torch.randn(1, vae.config.latent_channels, 4, 4)

    def run(network: Any, latent: torch.Tensor) -> Any:
        return network.decode(latent, return_dict=False)[0]

    inputs = {"latent_sample": (latent, IMAGE)}
    _export(folder / "model.onnx", _Plain(vae, run), inputs, {"sample": IMAGE})
    vae.save_config(folder)


def graph_pipeline(folder: Path, made: Path, *, saved: bool = False) -> Path:
    """The pipeline in ``folder`` as graphs in ``made``; model_index.json is that of optimum's
    export, or as its own pipeline classes write it when they are ``saved``."""
    from diffusers import DiffusionPipeline

    pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    encoders = [name for name in ("text_encoder", "text_encoder_2") if hasattr(pipeline, name)]
    for name in encoders:
        _text_encoder(made / name, getattr(pipeline, name).eval(), hidden=len(encoders) > 1)
    _unet(made / "unet", pipeline.unet.eval())
    _decoder(made / "vae_decoder", pipeline.vae.eval())
    for name in (*(n.replace("text_encoder", "tokenizer") for n in encoders), "scheduler"):
        shutil.copytree(folder / name, made / name)
    index = json.loads((folder / "model_index.json").read_text())
    if saved:
        index["_class_name"] = f"ORT{index['_class_name']}"
        classes = {"unet": "ORTUnet", "vae": "ORTVae", **dict.fromkeys(encoders, "ORTTextEncoder")}
        index |= {
            part: ["optimum.onnxruntime.modeling_diffusion", name] for part, name in classes.items()
        }
    (made / "model_index.json").write_text(json.dumps(index))
    return made

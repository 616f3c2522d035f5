"""Networks that metrics see through: InceptionV3 by torch-fidelity, CLIP, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefusion.models.checkpoint import as_input_error
from edgefusion.models.clip import ClipPair, clip_from_folder
from edgefusion.models.plug_ins import (
    NamedFunction,
    is_object_name,
    named_function,
    named_object,
)
from edgefusion.runtime.errors import UsageError

FEATURES, LOGITS = "2048", "logits_unbiased"
"""Outputs of InceptionV3: what FID and IS are defined on."""


def image_network(name: str | None, output: str, weights: Path | None = None) -> nn.Module:
    """A network on bytes [n, 3, h, w] that gives [n, width].

    ``name`` is package.module:attribute: an nn.Module, a function of no arguments that makes one
    (a class, say), or a function of the images. None stands for InceptionV3, of which ``output`` is
    wanted; ``weights`` is its file (torch-fidelity fetches it otherwise). Raises UsageError where
    torch-fidelity is not installed and for a name of something else.
    """
    if name is None:
        return _inception(output, weights)
    found = named_object(name)
    if not isinstance(found, nn.Module) and callable(found) and not _required(found):
        found = NamedFunction(name, found)()
    if isinstance(found, nn.Module):
        return found.eval()
    if callable(found):
        return _Function(NamedFunction(name, found)).eval()
    raise UsageError(f"{name} is a {type(found).__name__}; expected an nn.Module or a callable.")


def clip_pair(name: str) -> ClipPair:
    """Model and processor: of a CLIP model's folder, or what the callable package.module:attribute
    returns, as torchmetrics' CLIPScore takes it."""
    if is_object_name(name):
        pair: ClipPair = named_function(name)()
        return pair
    return clip_from_folder(name)


class _Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a call cannot leave out."""
    return [
        p.name
        for p in signature(function).parameters.values()
        if p.default is Parameter.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def _inception(output: str, weights: Path | None) -> nn.Module:
    if find_spec("torch_fidelity") is None:
        raise UsageError(
            "IS and FID on InceptionV3 need torch-fidelity, of the extra `inception`: "
            "pip install 'edgefusion[inception]' (it brings torchvision). Or name networks of your "
            "own with --features and --logits, or choose other --metrics."
        )
    from torchmetrics.image.fid import NoTrainInceptionV3

    with as_input_error(weights or "the weights of InceptionV3"):
        network: nn.Module = NoTrainInceptionV3(
            "inception-v3-compat",
            [output],
            feature_extractor_weights_path=str(weights) if weights else None,
        )
    return network

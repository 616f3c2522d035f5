"""A source's networks in torch, and pictures made with them: what the compiler starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network, Sampling, generate
from edgefusion.models.trajectories import Denoising, token_ids

Arrays = Mapping[str, npt.NDArray[Any]]


def torch_network(source: Source, component: str) -> Network:
    """A component in torch, by the names of its kind."""
    part, module = source.family.part(component), source.load(component)
    ports = part.kind.signature(module.config, source.sizes)
    graph = part.kind.graph(module).eval()

    def run(inputs: Arrays) -> Arrays:
        given = [torch.from_numpy(np.array(inputs[port.name])) for port in ports.inputs]
        assert [tuple(value.shape) for value in given] == [port.shape for port in ports.inputs]
        with torch.no_grad():
            made = graph(*given)
        results = made if isinstance(made, tuple) else (made,)
        assert [tuple(value.shape) for value in results] == [port.shape for port in ports.outputs]
        return {p.name: value.numpy() for p, value in zip(ports.outputs, results, strict=True)}

    return run


def torch_picture(source: Source, prompt: str, steps: int, seed: int) -> npt.NDArray[np.uint8]:
    """What the source's networks draw: [h, w, 3], bytes."""
    family, config = source.family, Denoising.of(source, steps).config
    denoiser: Any = source.load(family.denoiser.component)
    ports = family.denoiser.kind.signature(denoiser.config, source.sizes)
    sampling = Sampling(
        {port.name: port.shape for port in ports.inputs},
        config.scheduler,
        config.scaling_factor,
        family=family,
    )
    length = source.sizes.context_tokens
    ids = {
        part.component: token_ids(source, part.component, (prompt,), length)[0]
        for part in family.encoders
    }
    made = generate(
        lambda component: torch_network(source, component), sampling, ids, seed=seed, steps=steps
    )
    return made.image

"""A source's networks in torch, and pictures made with them: what the compiler starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgefusion.models.guidance import guided, negative_ids
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Generation, Network, Networks, Sampling, generate
from edgefusion.models.tokenization import PromptReader, ids_of
from edgefusion.models.trajectories import Denoising, tokenizer_of

Arrays = Mapping[str, npt.NDArray[Any]]


def torch_network(source: Source, component: str) -> Network:
    """A component in torch, by the names of its kind."""
    part, module = source.part(component), source.load(component)
    ports = source.signature(component, module.config)
    graph = part.kind.graph(module).eval()

    def run(inputs: Arrays) -> Arrays:
        given = [torch.from_numpy(np.array(inputs[port.name])) for port in ports.inputs]
        assert [tuple(value.shape) for value in given] == [port.shape for port in ports.inputs]
        assert [str(value.dtype) for value in given] == [f"torch.{p.dtype}" for p in ports.inputs]
        with torch.no_grad():
            made = graph(*given)
        results = made if isinstance(made, tuple) else (made,)
        assert [tuple(value.shape) for value in results] == [port.shape for port in ports.outputs]
        return {p.name: value.numpy() for p, value in zip(ports.outputs, results, strict=True)}

    return run


def generation(
    source: Source,
    networks: Networks,
    prompt: str,
    steps: int,
    seed: int,
    negative: str | None = None,
    pictures: Arrays | None = None,
) -> Generation:
    """Of ``prompt``, with a source's own scheduler and as it is guided."""
    family, denoising = source.family, Denoising.of(source, steps)
    shapes = {}
    for part in family.each_step:
        module: Any = source.load(part.component)
        ports = source.signature(part.component, module.config)
        shapes |= {port.name: port.shape for port in ports.inputs}
    sampling = Sampling(
        shapes,
        denoising.scheduler.at(source.strength),
        denoising.scaling_factor,
        family=family,
        guidance=source.deployment.guidance,
        control_scale=source.deployment.control_scale,
        shift_factor=denoising.shift_factor,
    )
    read = PromptReader(
        {
            part.component: tokenizer_of(
                source, part.component, part.sized(source.sizes).context_tokens
            )
            for part in family.encoders
        }
    )
    without = negative_ids(guided(sampling, None, negative), read, negative)
    ids = ids_of(read(prompt))
    return generate(
        networks, sampling, ids, negative=without, pictures=pictures, seed=seed, steps=steps
    )


def torch_picture(source: Source, prompt: str, steps: int, seed: int) -> npt.NDArray[np.uint8]:
    """What the source's networks draw: [h, w, 3], bytes."""
    made = generation(source, lambda name: torch_network(source, name), prompt, steps, seed)
    return made.image

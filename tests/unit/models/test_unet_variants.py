"""U-Nets of other kinds than the presets': what they compute after the passes is torch's own."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgefusion.compiler.graph.graph import Graph
from edgefusion.models.export import export_component
from edgefusion.models.families.family import Part
from edgefusion.models.networks.kind import Sizes
from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.outline import Outline
from edgefusion.models.source import Source
from edgefusion.passes.tabulate_timestep import TabulateTimestep
from tests.graph_cases import CONTEXT, execute

SIZES = Sizes(latent=(4, 8), context_tokens=5)
STEPS = (999, 499)


class _Given(Source):
    """A source of one U-Net."""

    unet: Any
    sizes = SIZES
    scheduler = NoiseScheduler()

    def outline(self, component: str) -> Outline:
        return Outline(deepcopy(self.unet), self.unet.state_dict().__getitem__)

    def part(self, component: str) -> Part:
        return self.family.part(component)


def test_values_are_those_of_torch(tmp_path: Path) -> None:
    """Scale and shift from a split time embedding, a projected context, a latent that is no
    square, and a prompt that is no 77 tokens."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=[4, 8],
        block_out_channels=(8,),
        norm_num_groups=2,
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        resnet_time_scale_shift="scale_shift",
        encoder_hid_dim=6,
        encoder_hid_dim_type="text_proj",
    ).eval()
    source = _Given("folder", "x", ("unet",), tmp_path)
    object.__setattr__(source, "unet", unet)
    model = onnx.load(export_component(source, "unet", tmp_path))
    graph = Graph.from_model(model)
    result = TabulateTimestep(STEPS).run(graph, replace(CONTEXT, component="unet"))
    assert result.matched == 2 * 3, "scale and shift of each residual block"
    rng = np.random.default_rng(1)
    feeds = {
        port.name: rng.standard_normal(shape).astype(np.float32)
        for port in model.graph.input
        if (shape := tuple(d.dim_value for d in port.type.tensor_type.shape.dim)) != (1,)
    }
    assert feeds["sample"].shape == (1, 4, 4, 8)
    assert feeds["encoder_hidden_states"].shape == (1, 5, 6)
    for timestep in STEPS:
        (found,) = execute(graph.to_model(), feeds | {"timestep": np.array([timestep])})
        given = {name: torch.from_numpy(value) for name, value in feeds.items()}
        with torch.no_grad():
            wanted = unet(timestep=timestep, return_dict=False, **given)[0].numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())

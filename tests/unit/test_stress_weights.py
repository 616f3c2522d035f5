from __future__ import annotations

import torch

from edgefusion.models.source import resolve_source
from edgefusion.passes.quantize_w8a16 import channel_scales, expected_sqnr_db


def test_stressed_weights_are_harder_to_quantize_and_repeatable() -> None:
    plain, stress = resolve_source("tiny-test"), resolve_source("tiny-test-stress")
    assert plain.digest != stress.digest
    soft = dict(plain.load("unet").named_parameters())
    hard = dict(stress.load("unet").named_parameters())
    again = dict(stress.load("unet").named_parameters())
    name = "down_blocks.1.resnets.0.conv1.weight"
    assert torch.equal(hard[name], again[name])

    def sqnr(values: torch.Tensor) -> float:
        array = values.numpy()
        return expected_sqnr_db(array, channel_scales(array, 0))

    assert sqnr(hard[name]) < sqnr(soft[name]) - 4
    norm = "down_blocks.1.resnets.0.norm1.weight"
    assert float(hard[norm].max()) > 8 > float(soft[norm].max())


def test_only_the_unet_is_stressed() -> None:
    plain, stress = resolve_source("tiny-test"), resolve_source("tiny-test-stress")
    for component in ("text_encoder", "vae_decoder"):
        soft = plain.load(component).state_dict()  # type: ignore[arg-type]
        hard = stress.load(component).state_dict()  # type: ignore[arg-type]
        assert all(torch.equal(soft[name], hard[name]) for name in soft)

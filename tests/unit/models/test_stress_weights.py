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


def test_stress_is_for_quantizers_not_for_arithmetic() -> None:
    """What attention does with outliers must not amplify every rounding by 40 dB."""
    unet = resolve_source("tiny-test-stress").load("unet")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 16, 16, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    context = torch.randn(1, 77, 32, generator=generator)
    with torch.no_grad():
        clean = unet(x, torch.tensor(999), context).sample
        noisy = unet(x + 1e-3 * noise, torch.tensor(999), context).sample
    assert 10 * torch.log10(clean.square().mean() / (noisy - clean).square().mean()) > 50


def test_only_the_unet_is_stressed() -> None:
    plain, stress = resolve_source("tiny-test"), resolve_source("tiny-test-stress")
    for component in ("text_encoder", "vae_decoder"):
        soft = plain.load(component).state_dict()  # type: ignore[arg-type]
        hard = stress.load(component).state_dict()  # type: ignore[arg-type]
        assert all(torch.equal(soft[name], hard[name]) for name in soft)

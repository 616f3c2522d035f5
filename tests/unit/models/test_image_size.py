"""Sizes of pictures, chosen in pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.models.image_size import chosen_latent
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from tests.model_folders import xl_pipeline_folder


def test_presets() -> None:
    source = resolve_source("sd-v1.5")
    assert chosen_latent(source, None, None) is None
    assert chosen_latent(source, 768, 512) == (96, 64)
    assert chosen_latent(source, None, 576) == (64, 72)
    assert chosen_latent(resolve_source("sdxl"), 1280, None) == (160, 128)
    assert chosen_latent(resolve_source("bk-sdm-tiny"), 32, 96) == (4, 12)  # three levels
    assert replace(source, deployment=Deployment(latent=(96, 64))).sizes.latent == (96, 64)
    with pytest.raises(
        UsageError, match=r"--height is 520; expected a multiple of 64 pixels: 8 of"
    ):
        chosen_latent(source, 520, None)
    with pytest.raises(UsageError, match=r"--width is 32; .* the U-Net divides by 8"):
        chosen_latent(source, None, 32)


def test_folders(tmp_path: Path) -> None:
    folder = xl_pipeline_folder(tmp_path)
    source = resolve_source(str(folder))
    assert chosen_latent(source, 32, 48) == (4, 6)
    with pytest.raises(UsageError, match="multiple of 16 pixels"):
        chosen_latent(source, 40, None)
    alone = replace(source, components=("unet",))
    assert chosen_latent(alone, 32, 48) == (4, 6)  # 8, where there is no VAE to ask
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": 8}))
    with pytest.raises(InputError, match="block_out_channels is 8; expected a list"):
        chosen_latent(source, 32, 48)


def test_what_is_no_pipeline() -> None:
    with pytest.raises(UsageError, match="set with --shape"):
        chosen_latent(Source("onnx", "unet", ("unet",), Path("unet.onnx")), 64, None)

"""Files that are no source are told what they are, and what to do with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import InputError

UNET, VAE = "model.diffusion_model.out.2.bias", "first_stage_model.decoder.conv_in.bias"
CLIP = "cond_stage_model.transformer.text_model.final_layer_norm.bias"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ((UNET, VAE, CLIP),
         r"whole Stable Diffusion v1 in one file .*: StableDiffusionPipeline.from_single_file\("),
        ((UNET, VAE, "cond_stage_model.model.ln_final.bias"), "whole Stable Diffusion v2 in one"),
        ((UNET, VAE, "conditioner.embedders.1.model.ln_final.bias"),
         r"whole Stable Diffusion XL .*: StableDiffusionXLPipeline.from_single_file\('a.safet"),
        ((UNET, CLIP), r"no checkpoint that is known here.*model.diffusion_model\. and first"),
        ((UNET, VAE, "text_encoders.clip_l.transformer.bias"), "the first found are first_stage_"),
        (("lora_unet_conv_in.lora_up.weight",), r"is a LoRA.*--lora .*a.safetensors\.$"),
        (("unet.conv_in.lora_A.weight",), r"is a LoRA"),
        (("conv_in.weight", "conv_in.bias"), "weights of one component.*model_index.json"),
        (("text_model.final_layer_norm.bias",), "weights of one component"),
        (("weight",), "the first found are weight"),
        ((), "the first found are none"),
    ],
)  # fmt: skip
def test_a_file_is_told_what_it_is(keys: tuple[str, ...], told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({key: torch.ones(1) for key in keys}, path)
    with pytest.raises(InputError, match=told) as error:
        resolve_source(str(path))
    assert str(path) in str(error.value)
    assert "expected an .onnx file or a diffusers pipeline folder" in str(error.value)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x" * 20)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        resolve_source(str(path))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_nothing_of_a_pickle_is_read(suffix: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path / "executed").touch, ()

    path = tmp_path / f"model{suffix}"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(InputError, match="A pickle may run code where it is loaded"):
        resolve_source(str(path))
    assert not (tmp_path / "executed").exists()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("x")
    with pytest.raises(InputError, match=r"type \(none\); expected an .onnx file"):
        resolve_source(str(path))

"""Folders whose parts do not fit are refused by name, before anything is loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.models.networks.kind import Sizes
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import InputError
from tests.model_folders import pipeline_folder

Change = Callable[[Path], object]
UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
INDEX = "model_index.json"
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to change; links to its files, of which changes make new ones."""
    return Path(shutil.copytree(pristine, tmp_path / "pipeline", copy_function=os.link))


def checked(folder: Path, *wanted: str) -> tuple[tuple[str, ...], Sizes, str]:
    """Components and sizes of a folder that passes, and what was said."""
    said: list[str] = []
    source = checked_source(resolve_source(str(folder)), wanted or None, said.append)
    return source.components, source.sizes, "\n".join(said)


def write(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def with_keys(name: str, **keys: Any) -> Change:
    def change(folder: Path) -> None:
        write(folder / name, json.dumps(json.loads((folder / name).read_text()) | keys))

    return change


def with_weights(name: str, *drop: str, **more: torch.Tensor) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        weights = load_file(path) if path.exists() else {}
        path.unlink(missing_ok=True)
        kept = {key: value for key, value in weights.items() if key not in drop}
        save_file(kept | more, path, metadata={"format": "pt"})

    return change


def beside(name: str) -> Change:
    return lambda folder: write(folder / name, "")


def renamed(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def test_a_whole_pipeline_passes_and_its_scheduler_is_told(folder: Path) -> None:
    components, sizes, said = checked(folder)
    assert components == ("text_encoder", "unet", "vae_decoder")
    assert sizes == Sizes((8, 8), 77)
    assert "warning" not in said
    assert "denoised by its own DDIMScheduler" in said
    chosen = replace(resolve_source(str(folder)), deployment=Deployment("LCMScheduler"))
    told: list[str] = []
    assert checked_source(chosen, None, told.append).scheduler.name == "LCMScheduler"
    assert told[0].startswith("warning: pipeline: the folder's scheduler DDIMScheduler is replaced")
    with_keys(INDEX, scheduler=["diffusers", "LCMScheduler"])(folder)
    assert checked(folder)[2] == ""


ONE = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # Parts
        (with_keys(INDEX, unet=[None, None], transformer=["d", "FluxTransformer2DModel"]),
         r"model_index.json names the part transformer \(FluxTransformer2DModel\)"),
        (with_keys(INDEX, text_encoder_2=["transformers", "CLIPTextModelWithProjection"]),
         "the part text_encoder_2"),
        (with_keys(INDEX, controlnet=["diffusers", "ControlNetModel"]), "the part controlnet"),
        (with_keys(INDEX, adapter=["diffusers", "T2IAdapter"]), "the part adapter"),
        (with_keys(INDEX, prior=["diffusers", "PriorTransformer"]), "the part prior"),
        (with_keys(INDEX, vae=["diffusers", "AutoencoderDC"]), "AutoencoderDC for vae"),
        # Adapters
        (beside("unet/adapter_config.json"), "adapter_config.json is an adapter"),
        (beside("hypernetwork.pt"), "hypernetwork.pt is an adapter"),
        (beside("learned_embeds.bin"), "textual inversion"),
        (beside("ip-adapter_sd15.bin"), "adapter"),
        (with_weights("style.safetensors", **{"unet.to_q.lokr_w1": ONE}), "style.* an adapter"),
        # Weights
        (with_weights(UNET_WEIGHTS, **{"extra.weight": ONE}), "first extra.weight"),
        (with_weights(UNET_WEIGHTS, "conv_in.weight"), "not in the files, first conv_in.weight"),
        (with_weights(UNET_WEIGHTS, **{"conv_in.bias": ONE}), r"conv_in.bias: \[1\], expected"),
        (with_keys(UNET, mid_block_type=None), "first mid_block"),
        (with_keys(VAE, use_quant_conv=False), "first quant_conv"),
        (renamed(UNET_WEIGHTS, "unet/model.ema.safetensors"), "expected diffusion_pytorch_model"),
        (lambda folder: (folder / UNET_WEIGHTS).unlink(), "holds no weights"),
        (with_keys(UNET, quantization_config={"bits": 4}), "quantization_config"),
        # Sizes
        (with_keys(UNET, sample_size=None), "sample_size is null"),
        (with_keys(UNET, sample_size=[8, 8, 8]), "sample_size is"),
        (with_keys(UNET, in_channels=9), "in_channels is 9; expected 4.*inpainting"),
        (with_keys(UNET, out_channels=8), "out_channels is 8; expected 4"),
        (with_keys(VAE, latent_channels=16), "in_channels is 4.*latent_channels 16"),
        (with_keys(VAE, out_channels=4), "vae/config.json: out_channels is 4; expected 3"),
        (with_keys(TEXT, hidden_size=16), "cross_attention_dim is 8.*hidden_size 16"),
        (with_keys(UNET, cross_attention_dim=[8, 16]), "cross_attention_dim is"),
        (with_keys(TEXT, max_position_embeddings=32),
         "model_max_length is 77; expected .* 2 to 32, which is max_position_embeddings"),
        (with_keys(TOKENIZER, model_max_length=128), "model_max_length is 128"),
        # What a U-Net would need
        (with_keys(UNET, addition_embed_type="text_time"), "addition_embed_type is 'text_time'"),
        (with_keys(UNET, class_embed_type="timestep"), "class_embed_type"),
        (with_keys(UNET, num_class_embeds=1000), "num_class_embeds"),
        (with_keys(UNET, encoder_hid_dim_type="ip_image_proj"), "encoder_hid_dim_type"),
        (with_keys(UNET, dual_cross_attention=True), "dual_cross_attention"),
        (with_keys(UNET, attention_type="gated"), "attention_type"),
        (with_keys(UNET, time_cond_proj_dim=2), "time_cond_proj_dim is 2"),
        (with_keys(UNET, act_fn="sily"), "sily not found"),
        (with_keys(UNET, layers_per_block="two"), "unet cannot be loaded"),
        # Latents
        (with_keys(VAE, shift_factor=0.1), "shift_factor is 0.1"),
        (with_keys(VAE, latents_mean=[0.1] * 4), "latents_mean"),
        (with_keys(VAE, scaling_factor=0), "scaling_factor is 0"),
        (with_keys(VAE, scaling_factor=True), "scaling_factor is True"),
        # Scheduler and tokenizer
        (with_keys(INDEX, scheduler=["d", "FlowMatchEulerDiscreteScheduler"]), "FlowMatch"),
        (with_keys(SCHEDULER, use_flow_sigmas=True), "use_flow_sigmas"),
        (with_keys(SCHEDULER, prediction_type="flow_prediction"), "prediction_type is 'flow_pred"),
        (with_keys(SCHEDULER, rescale_betas_zero_snr=True), "rescale_betas_zero_snr"),
        (both(with_keys(SCHEDULER, num_train_timesteps=30),
              with_keys(INDEX, scheduler=["d", "LCMScheduler"])),
         "original_inference_steps is 50.*30"),
        (with_keys(INDEX, scheduler=["d", "DPMSolverSDEScheduler"]), "does not depend on the seed"),
        (with_keys(SCHEDULER, timestep_spacing="even"), "no DDIMScheduler.*even is not supported"),
        (with_keys(SCHEDULER, trained_betas=[0.1]), "trained_betas has 1 of 1000"),
        (with_keys(SCHEDULER, beta_end=3), "beta_end is 3"),
        (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json is missing"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "names the tokenizer CLIPTokenizer"),
        (with_keys(INDEX, tokenizer=["transformers", "T5Tokenizer"]), "T5Tokenizer"),
        # Files
        (lambda folder: write(folder / UNET, "["), "unet/config.json cannot be read"),
        (lambda folder: write(folder / UNET, "[]"), "unet/config.json holds a list"),
        (lambda folder: (folder / UNET).unlink(), "unet/config.json is missing"),
    ],
)  # fmt: skip
def test_refused_by_name(folder: Path, change: Change, told: str) -> None:
    change(folder)
    with pytest.raises(InputError, match=told):
        checked(folder)


@pytest.mark.parametrize(
    ("change", "wanted", "components", "told"),
    [
        (with_keys(INDEX, vae=["diffusers", "AutoencoderDC"]), "unet", "text_encoder unet",
         "only unet of this pipeline"),
        (with_keys(INDEX, unet=[None, None], transformer=["d", "SD3Transformer2DModel"]),
         "vae_decoder", "text_encoder vae_decoder", "transformer"),
        (with_keys(UNET, addition_embed_type="text_time"), "vae_decoder",
         "text_encoder vae_decoder", "unet is not used to calibrate others.*addition_embed_type"),
        (beside("pytorch_lora_weights.bin"), "vae_decoder", "text_encoder unet vae_decoder", ""),
    ],
)  # fmt: skip
def test_what_is_not_asked_for_is_left_out_with_a_remark(
    folder: Path, change: Change, wanted: str, components: str, told: str
) -> None:
    change(folder)
    found, _, said = checked(folder, wanted)
    assert " ".join(found) == components
    assert re.search(told, said)


def test_other_files_are_told(folder: Path) -> None:
    beside("v1-5-pruned.safetensors")(folder)
    beside("my-lora/weights.safetensors")(folder)
    with_weights("style.safetensors", **{"unet.to_q.lora_A.weight": ONE})(folder)
    with_weights("unet/diffusion_pytorch_model.fp16.safetensors", x=ONE)(folder)
    with_keys(UNET, sampel_size=4)(folder)
    with_keys(INDEX, safety_checker=["s", "StableDiffusionSafetyChecker"])(folder)
    _, _, said = checked(folder)
    for told in (
        "my-lora/weights.safetensors is a LoRA and is not applied",
        "style.safetensors is a LoRA and is not applied: pictures are those without it",
        f"Apply it with --lora {folder / 'style.safetensors'}",
        "not read, for no part is in them: my-lora/weights.safetensors, style.safetensors, v1-5-",
        f"weights from {Path(UNET_WEIGHTS).name}, for full precision goes before fp16",
        "not read: diffusion_pytorch_model.fp16",
        "no meaning is known for sampel_size",
        "safety_checker (StableDiffusionSafetyChecker) is not compiled: pictures are not filtered",
    ):
        assert told in said


def old_names(folder: Path) -> None:
    """As the libraries wrote them some years ago."""
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    names = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    weights = load_file(path)
    for new, old in names:
        weights = {key.replace(f".{new}.", f".{old}."): x for key, x in weights.items()}
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})
    path = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{key}": value for key, value in load_file(path).items()}
    path.unlink()
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(weights | ids, path, metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (with_keys(VAE, sample_size=256), Sizes((8, 8), 77)),
        (with_keys(VAE, sample_size=[16, 16]), Sizes((8, 8), 77)),
        (with_keys(UNET, sample_size=[8, 12]), Sizes((8, 12), 77)),
        (with_keys(TOKENIZER, model_max_length=32), Sizes((8, 8), 32)),
        (with_keys(TOKENIZER, model_max_length=10**30), Sizes((8, 8), 77)),
        (with_keys(UNET, cross_attention_dim=[8]), Sizes((8, 8), 77)),
        (with_keys(UNET, projection_class_embeddings_input_dim=56), Sizes((8, 8), 77)),
        (with_keys(SCHEDULER, prediction_type="v_prediction"), Sizes((8, 8), 77)),
        (renamed(UNET_WEIGHTS, "unet/diffusion_pytorch_model.fp16.safetensors"),
         Sizes((8, 8), 77)),
        (old_names, Sizes((8, 8), 77)),
        (as_pickle, Sizes((8, 8), 77)),
    ],
)  # fmt: skip
def test_what_fits_passes(folder: Path, change: Change, sizes: Sizes) -> None:
    change(folder)
    components, found, _ = checked(folder)
    assert components == ("text_encoder", "unet", "vae_decoder")
    assert found == sizes


def test_pickles_are_not_executed(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return write, (folder / "executed", "")

    path = folder / UNET_WEIGHTS
    path.unlink()
    torch.save({"conv_in.weight": Evil()}, path.with_suffix(".bin"))
    with pytest.raises(InputError, match="cannot be read as weights"):
        checked(folder)
    assert not (folder / "executed").exists()


def test_a_class_that_is_asked_for_must_be_known(folder: Path) -> None:
    with_keys(INDEX, vae=["diffusers", "AutoencoderDC"])(folder)
    with pytest.raises(InputError, match=r"AutoencoderDC .* expected AutoencoderKL"):
        checked(folder, "vae_decoder")

"""Tiny models with random weights, in the layouts that their libraries save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny
    from transformers import CLIPTextConfig, T5EncoderModel, T5Tokenizer

WORDS = ("<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b")


def tokenizer_files() -> dict[str, bytes]:
    """A CLIP tokenizer that knows two words."""
    special = {
        "bos_token": WORDS[0],
        "eos_token": WORDS[1],
        "unk_token": WORDS[1],
        "pad_token": WORDS[1],
        "model_max_length": 77,
    }
    return {
        "vocab.json": json.dumps({word: i for i, word in enumerate(WORDS)}).encode(),
        "merges.txt": b"#version: 0.2\n",
        "tokenizer_config.json": json.dumps(special).encode(),
    }


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer_files().items():
        (folder / name).write_bytes(content)


def clip_folder(folder: Path) -> Path:
    """A CLIP model of images at 32 pixels."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **size,
            "num_hidden_layers": 1,
            "vocab_size": len(WORDS),
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**size, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def blip_folder(folder: Path) -> Path:
    """A BLIP captioner."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "red", "blue", "hill", "lake"]
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={
            **size,
            "encoder_hidden_size": 16,
            "num_hidden_layers": 1,
            "vocab_size": len(words),
            "bos_token_id": 5,
            "eos_token_id": 3,
            "pad_token_id": 0,
            "sep_token_id": 3,
        },
        vision_config={**size, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def _text_config(layers: int) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=8,
        intermediate_size=8,
        projection_dim=8,
        num_attention_heads=2,
        num_hidden_layers=layers,
        vocab_size=len(WORDS),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _autoencoder(levels: int, **more: Any) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        norm_num_groups=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **more,
    )


def _tiny_autoencoder(levels: int) -> AutoencoderTiny:
    from diffusers import AutoencoderTiny

    blocks, channels = (1,) * levels, (8,) * levels
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    )


def with_tiny_autoencoder(folder: Path) -> Path:
    """The pipeline of ``folder``, with an autoencoder as TAESD's of as many levels."""
    torch.manual_seed(1)
    levels = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    for old in (folder / "vae").iterdir():
        old.unlink()
    made = _tiny_autoencoder(levels)
    with torch.no_grad():
        made.decoder.layers[-1].weight.mul_(8)  # pictures are grey otherwise
    made.save_pretrained(folder / "vae")
    index = folder / "model_index.json"
    content = json.loads(index.read_text()) | {"vae": ["diffusers", "AutoencoderTiny"]}
    index.write_text(json.dumps(content))
    return folder


def pipeline_folder(folder: Path) -> Path:
    """A Stable Diffusion pipeline of images at 16 pixels, without safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    _write_tokenizer(folder / "given")
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        vae=_autoencoder(2),
        text_encoder=CLIPTextModel(_text_config(1)),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "given"),
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8,),
            norm_num_groups=2,
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def xl_pipeline_folder(folder: Path) -> Path:
    """A Stable Diffusion XL pipeline of images at 32 pixels."""
    from diffusers import LCMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    _write_tokenizer(folder / "given")
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline(
        vae=_autoencoder(4),
        text_encoder=CLIPTextModel(_text_config(2)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(2)),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "given"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "given", pad_token="a"),
        unet=UNet2DConditionModel(
            sample_size=4,
            block_out_channels=(8, 16),
            norm_num_groups=2,
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=(1, 2),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 + 6 * 8,
        ),
        scheduler=LCMScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def _t5(width: int) -> T5EncoderModel:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(T5_WORDS),
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def _t5_tokenizer() -> T5Tokenizer:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=[(word, -1.0) for word in T5_WORDS], extra_ids=0)


T5_WORDS = ("<pad>", "</s>", "<unk>", "▁", "▁a", "▁b")


def pixart_pipeline_folder(folder: Path, sample_size: int = 8) -> Path:
    """A PixArt pipeline; one of latents at 128 pixels is told the picture's sizes."""
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    torch.manual_seed(0)
    pipeline = PixArtAlphaPipeline(
        vae=_autoencoder(4),
        text_encoder=_t5(16),
        tokenizer=_t5_tokenizer(),
        transformer=PixArtTransformer2DModel(
            sample_size=sample_size,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=16,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def sd3_pipeline_folder(folder: Path, *, t5: bool = True, later: bool = False) -> Path:
    """A Stable Diffusion 3 pipeline of images at 64 pixels; a ``later`` one, as 3.5, norms queries
    and keys, and attends twice in its first block."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    _write_tokenizer(folder / "given")
    torch.manual_seed(0)
    first = CLIPTextModelWithProjection(_text_config(2))
    second = CLIPTextModelWithProjection(_text_config(2))
    plain = {"use_quant_conv": False, "use_post_quant_conv": False}
    pipeline = StableDiffusion3Pipeline(
        vae=_autoencoder(4, scaling_factor=1.5, shift_factor=0.25, **plain),
        text_encoder=first,
        text_encoder_2=second,
        text_encoder_3=_t5(24) if t5 else None,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "given"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "given", pad_token="a"),
        tokenizer_3=_t5_tokenizer() if t5 else None,
        transformer=SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            joint_attention_dim=24,
            caption_projection_dim=16,
            pooled_projection_dim=16,
            pos_embed_max_size=64,
            **({"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if later else {}),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"

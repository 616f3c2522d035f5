"""Seventeen plain networks as people bring them: few layers, real structure, seeded weights.

Each entry makes a module in evaluation mode and one set of example inputs; ``plain_networks``
exports and measures them. Networks that a library has come from it (configured small), the others
are written as their papers draw them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import diffusers
import torch
import transformers as hf
from torch import Tensor, nn

SEED = 0


@dataclass(frozen=True, slots=True)
class PlainNetwork:
    """``make`` builds the module; ``inputs`` are examples in the order of its arguments; ``output``
    picks the tensor that counts of what a library's module returns (None: it is the result)."""

    name: str
    what: str
    make: Callable[[], Any]
    inputs: Callable[[], Mapping[str, Tensor]]
    output: str | None = None


class _Picked(nn.Module):
    """A library's module as a function of named tensors that gives one tensor."""

    def __init__(self, inner: nn.Module, names: tuple[str, ...], output: str) -> None:
        super().__init__()
        self.inner, self.names, self.output = inner, names, output

    def forward(self, *tensors: Tensor) -> Tensor:
        result: Any = self.inner(**dict(zip(self.names, tensors, strict=True)))
        tensor: Tensor = result[self.output]
        return tensor


def module_of(network: PlainNetwork) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """The module with seeded weights and statistics, and its example inputs by name."""
    torch.manual_seed(SEED)
    inner = network.make().eval()
    _settle(inner)
    inputs = network.inputs()
    if network.output is None:
        return inner, inputs
    return _Picked(inner, tuple(inputs), network.output).eval(), inputs


def _settle(module: nn.Module) -> None:
    """Running statistics as training leaves them: freshly made ones (0 and 1) hide a norm that is
    not computed."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)


def _image(batch: int = 1, side: int = 64) -> Callable[[], Mapping[str, Tensor]]:
    return lambda: {"pixel_values": torch.randn(batch, 3, side, side)}


def _tokens(length: int, vocabulary: int) -> Callable[[], Mapping[str, Tensor]]:
    def inputs() -> Mapping[str, Tensor]:
        ids = torch.randint(0, vocabulary, (1, length))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return inputs


class _DenseNet(nn.Sequential):
    """Densely connected layers of BatchNorm, ReLU, convolution (arXiv:1608.06993), DenseNet-BC."""

    def __init__(self, growth: int = 12, blocks: tuple[int, ...] = (6, 12, 8)) -> None:
        channels = 2 * growth
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for number, layers in enumerate(blocks):
            for _ in range(layers):
                parts.append(_DenseLayer(channels, growth))
                channels += growth
            if number + 1 < len(blocks):
                parts += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels // 2, 1),
                ]
                parts.append(nn.AvgPool2d(2))
                channels //= 2
        parts += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*parts, nn.Linear(channels, 100))


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(4 * growth)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], dim=1)


class _Conv1d(nn.Sequential):
    """Raw sound to classes by strided, separable and dilated convolutions (arXiv:1610.00087)."""

    def __init__(self) -> None:
        def block(ci: int, co: int, kernel: int, **more: Any) -> list[nn.Module]:
            return [nn.Conv1d(ci, co, kernel, **more), nn.BatchNorm1d(co), nn.ReLU()]

        super().__init__(
            *block(1, 64, 80, stride=4, padding=38),
            nn.MaxPool1d(4),
            *block(64, 64, 3, padding=1, groups=64),
            *block(64, 128, 1),
            nn.MaxPool1d(4),
            *block(128, 128, 3, padding=4, dilation=4),
            nn.AvgPool1d(4),
            *block(128, 128, 3, padding=1),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(128, 35),
        )


class _UNet(nn.Module):
    """Contracting and expanding path with copied maps (arXiv:1505.04597), with BatchNorm."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth + 1)]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(_twice(ci, co) for ci, co in [(3, width), *pairs])
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, f, 2, stride=2) for f, c in reversed(pairs))
        self.merge = nn.ModuleList(_twice(c, f) for f, c in reversed(pairs))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for block in self.down:
            x = block(nn.functional.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], dim=1))
        y: Tensor = self.head(x)
        return y


def _twice(ci: int, co: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for source in (ci, co):
        parts += [nn.Conv2d(source, co, 3, padding=1, bias=False), nn.BatchNorm2d(co), nn.ReLU()]
    return nn.Sequential(*parts)


class _Edsr(nn.Module):
    """Residual blocks without norms, then PixelShuffle (arXiv:1707.02921)."""

    def __init__(self, width: int = 32, blocks: int = 4, factor: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.up = nn.Conv2d(width, width * factor**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(factor)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.head(x)
        for block in self.blocks:
            x = x + 0.1 * block(x)
        y: Tensor = self.tail(self.shuffle(self.up(x + first)))
        return y


class _Lstm(nn.Module):
    """Two layers over a sequence, the last step to classes."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(64, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.lstm(x)[0][:, -1])
        return y


_ATTENTION: Mapping[str, Any] = {"hidden_size": 128, "num_attention_heads": 4}
_DEEP: Mapping[str, Any] = {**_ATTENTION, "num_hidden_layers": 4, "intermediate_size": 512}


def _vit() -> Any:
    return hf.ViTForImageClassification(hf.ViTConfig(**_DEEP, image_size=64, patch_size=8))


def _bert() -> Any:
    return hf.BertModel(hf.BertConfig(**_DEEP, vocab_size=1000))


def _gpt2() -> Any:
    config = hf.GPT2Config(vocab_size=1000, n_embd=128, n_layer=4, n_head=4, use_cache=False)
    return hf.GPT2LMHeadModel(config)


def _llama() -> Any:
    """Grouped queries (8 heads, 2 of keys), rotary embeddings, gated units, norms without mean."""
    settings = {**_DEEP, "num_attention_heads": 8, "num_hidden_layers": 2}
    config = hf.LlamaConfig(**settings, num_key_value_heads=2, vocab_size=1000, use_cache=False)
    return hf.LlamaForCausalLM(config)


def _conformer() -> Any:
    config = hf.Wav2Vec2ConformerConfig(
        **{**_DEEP, "num_hidden_layers": 2},
        conv_dim=(64,) * 5,
        conv_stride=(5, 2, 2, 2, 2),
        conv_kernel=(10, 3, 3, 3, 2),
        num_feat_extract_layers=5,
        position_embeddings_type="relative",
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )
    return hf.Wav2Vec2ConformerModel(config)


def _resnet() -> Any:
    config = hf.ResNetConfig(
        embedding_size=32, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]
    )
    return hf.ResNetForImageClassification(config)


def _convnext() -> Any:
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 4, 2])
    )


def _segformer() -> Any:
    config = hf.SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[32, 64, 128, 256])
    return hf.SegformerForSemanticSegmentation(config)


def _swin() -> Any:
    config = hf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return hf.SwinForImageClassification(config)


def _whisper() -> Any:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = hf.WhisperConfig(
        d_model=128,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=512,
        max_source_positions=200,
    )
    return WhisperEncoder(config)


def _mobilenet() -> Any:
    return hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.5))


class _Taesd(nn.Module):
    """The encoder and the decoder of TAESD, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.vae.decode(self.vae.encode(x).latents).sample
        return y


LOGITS, HIDDEN = "logits", "last_hidden_state"

NETWORKS: tuple[PlainNetwork, ...] = (
    PlainNetwork("resnet", "bottlenecks, 2-2-2-2", _resnet, _image(), LOGITS),
    PlainNetwork("densenet", "DenseNet-BC, growth 12, 6-12-8", _DenseNet, _image(side=32)),
    PlainNetwork("mobilenet_v2_batch2", "MobileNetV2, two images", _mobilenet, _image(2), LOGITS),
    PlainNetwork("vit", "4 layers, 65 tokens", _vit, _image(), LOGITS),
    PlainNetwork("bert", "4 layers, 64 tokens, padding mask", _bert, _tokens(64, 1000), HIDDEN),
    PlainNetwork("gpt2", "4 layers, 64 tokens, causal", _gpt2, _tokens(64, 1000), LOGITS),
    PlainNetwork("llama", "2 layers, GQA 8:2, RoPE, SwiGLU", _llama, _tokens(64, 1000), LOGITS),
    PlainNetwork(
        "conformer",
        "5 1-D convolutions, 2 blocks, relative positions",
        _conformer,
        lambda: {"input_values": torch.randn(1, 8000)},
        HIDDEN,
    ),
    PlainNetwork(
        "conv1d",
        "raw sound, separable and dilated",
        _Conv1d,
        lambda: {"x": torch.randn(1, 1, 8000)},
    ),
    PlainNetwork("unet", "transposed convolutions, BatchNorm", _UNet, _image()),
    PlainNetwork("taesd", "encoder and decoder, 32 channels", _Taesd, _image()),
    PlainNetwork("edsr", "4 blocks, PixelShuffle", _Edsr, _image(side=48)),
    PlainNetwork("convnext", "2-2-4-2, depthwise 7 x 7", _convnext, _image(), LOGITS),
    PlainNetwork("segformer", "4 stages, reduced keys", _segformer, _image(), LOGITS),
    PlainNetwork("swin", "2 stages, shifted windows", _swin, _image(), LOGITS),
    PlainNetwork(
        "whisper",
        "encoder, 4 layers, 200 frames",
        _whisper,
        lambda: {"input_features": torch.randn(1, 80, 400)},
        HIDDEN,
    ),
    PlainNetwork("lstm", "2 layers, 32 steps", _Lstm, lambda: {"x": torch.randn(1, 32, 64)}),
)

"""What turns a batch of data into what U-Nets see: a text encoder and an image codec, both frozen.

Either may be absent where the dataset gives encoded tensors. Any module with the two methods of
``ImageCodec`` is a codec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.training.batches import Batch
    from edgefusion.models.training.draws import Draws


class ImageCodec(Protocol):
    """Images [n, 3, h, w] in [-1, 1] to latents of about unit variance, and back."""

    def encode(self, pixels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Latents [n, c, h', w']."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images [n, 3, h, w]."""
        ...


class VaeCodec(nn.Module):
    """diffusers' AutoencoderKL as an ``ImageCodec``: latents are samples, times scaling_factor."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scaling_factor = float(autoencoder.config.scaling_factor)

    def encode(self, pixels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """See ``ImageCodec``."""
        posterior = self.autoencoder.encode(pixels, return_dict=False)[0]
        noise = draws.normal("posterior", tuple(posterior.mean.shape)).to(posterior.mean.dtype)
        latents: torch.Tensor = posterior.mean + posterior.std * noise
        return latents * self.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``ImageCodec``."""
        decoded = self.autoencoder.decode(latents / self.scaling_factor, return_dict=False)
        image: torch.Tensor = decoded[0]
        return image


class Encoders(nn.Module):
    """``text_encoder``: token ids, int64 [n, tokens] -> its output's first entry, the context
    [n, tokens, width]. ``null`` [1, tokens] are the ids of the empty caption, or, where they are
    real numbers [1, tokens, width], its context."""

    null: torch.Tensor

    def __init__(
        self, text_encoder: nn.Module | None, codec: nn.Module | None, null: torch.Tensor
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.codec: Any = codec
        self.register_buffer("null", null)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def latents(self, batch: Batch, draws: Draws) -> torch.Tensor:
        """The batch's ``latents``, or its encoded ``pixels``, float32."""
        if "latents" in batch:
            given: torch.Tensor = batch["latents"]
            return given.float()
        if self.codec is None or "pixels" not in batch:
            raise _missing("latents", "pixels", batch)
        dtype = next((p.dtype for p in self.codec.parameters()), torch.float32)
        encoded: torch.Tensor = self.codec.encode(batch["pixels"].to(dtype), draws)
        return encoded.float()

    @torch.no_grad()
    def context(self, batch: Batch) -> torch.Tensor:
        """The batch's ``context``, or its encoded ``input_ids``, float32."""
        if "context" in batch:
            given: torch.Tensor = batch["context"]
            return given.float()
        if self.text_encoder is None or "input_ids" not in batch:
            raise _missing("context", "input_ids", batch)
        return self.encode(batch["input_ids"])

    @torch.no_grad()
    def null_context(self, count: int) -> torch.Tensor:
        """Context of the empty caption, [count, tokens, width], float32."""
        context = self.null.float() if self.null.is_floating_point() else self.encode(self.null)
        return context.expand(count, -1, -1)

    @torch.no_grad()
    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        """Context of token ids, float32."""
        assert self.text_encoder is not None
        output = self.text_encoder(ids)
        context: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
        return context.float()

    def dropped(self, context: torch.Tensor, draws: Draws, share: float) -> torch.Tensor:
        """``context`` with a ``share`` of its samples, drawn at random, without caption."""
        if not share:
            return context
        count = len(context)
        drop = draws.uniform("caption_dropout", count) < share
        return torch.where(drop[:, None, None], self.null_context(count), context)


def _missing(encoded: str, raw: str, batch: Batch) -> InputError:
    return InputError(
        f"the dataset's samples have {', '.join(batch) or 'nothing'}; expected {encoded}, or {raw} "
        "and something that encodes them. Check what the dataset yields."
    )

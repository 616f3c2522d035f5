"""CLIP (Radford et al., 2021): how well images fit texts, by transformers' ``CLIPModel``.

``clip_from_folder`` gives the pair of model and processor that torchmetrics' ``CLIPScore`` works
with, so that crops are chosen and models evaluated with the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgefusion.models.local_weights import default_device, from_local_folder

if TYPE_CHECKING:
    import torch
    from PIL import Image


class ClipModel(Protocol):
    """What CLIPScore asks of a model; features are [n, width]."""

    @property
    def config(self) -> Any:
        """The library's configuration."""
        ...

    def to(self, device: Any) -> ClipModel:
        """Move to a device."""
        ...

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Of images [n, 3, h, w]."""
        ...

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Of tokens [n, length]."""
        ...


class ClipProcessor(Protocol):
    """What CLIPScore asks of a processor."""

    def __call__(
        self, text: Any = None, images: Any = None, **options: Any
    ) -> Mapping[str, torch.Tensor]:
        """pixel_values of images (tensors [3, h, w] of bytes, or PIL), or input_ids and
        attention_mask of texts."""
        ...


ClipPair = tuple[ClipModel, ClipProcessor]


def clip_from_folder(folder: Path | str) -> ClipPair:
    """The CLIP model in a local folder. Raises InputError where there is none."""
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = from_local_folder(CLIPModel.from_pretrained, folder).eval()
    images = from_local_folder(CLIPImageProcessorPil.from_pretrained, folder)
    tokenizer = from_local_folder(CLIPTokenizer.from_pretrained, folder)
    return _Features(model), _Processor(images, tokenizer)


@dataclass(slots=True)
class _Features:
    """Gives the features alone, without the library's record around them."""

    model: Any

    @property
    def config(self) -> Any:
        return self.model.config

    def to(self, device: Any) -> _Features:
        self.model.to(device)
        return self

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return _tensor(self.model.get_image_features(pixel_values=pixel_values))

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        return _tensor(
            self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        )


@dataclass(frozen=True, slots=True)
class _Processor:
    """Texts are cut at the model's length; tensors may be of images of any size."""

    images: Any
    tokenizer: Any

    def __call__(
        self, text: Any = None, images: Any = None, **_options: Any
    ) -> Mapping[str, torch.Tensor]:
        if images is not None:
            made: Mapping[str, torch.Tensor] = self.images(images=images, return_tensors="pt")
            return made
        ids: Mapping[str, torch.Tensor] = self.tokenizer(
            text, padding=True, truncation=True, return_tensors="pt"
        )
        return ids


def _tensor(output: Any) -> torch.Tensor:
    found: torch.Tensor = getattr(output, "pooler_output", output)
    return found


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """Cosines between images and a text: a scorer of crops (``models.data.plug_in_types``)."""

    pair: ClipPair
    device: str

    def __call__(self, crops: Sequence[Image.Image], caption: str) -> Sequence[float]:
        """The cosine of each image with the caption, in [-1, 1]."""
        import torch

        model, processor = self.pair
        with torch.inference_mode():
            pixels = processor(images=list(crops))["pixel_values"].to(self.device)
            tokens = processor(text=[caption])
            seen = model.get_image_features(pixels)
            told = model.get_text_features(
                tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            )
            cosines = torch.nn.functional.cosine_similarity(seen, told)
        scores: list[float] = cosines.tolist()
        return scores


def clip_scorer(folder: Path | str) -> ClipScorer:
    """A scorer with the CLIP model in a local folder, on the GPU where there is one."""
    model, processor = clip_from_folder(folder)
    device = default_device()
    return ClipScorer((model.to(device), processor), device)

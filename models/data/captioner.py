"""Captions by any image-to-text model of transformers, from a local folder (BLIP, GIT, LLaVA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import as_input_error
from edgefusion.models.local_weights import default_device, from_local_folder

if TYPE_CHECKING:
    from PIL import Image

MOST_TOKENS = 75
"""What CLIP's 77 leave beside the marks of begin and end."""


@dataclass(frozen=True, slots=True)
class ModelCaptioner:
    """A model with its processor. ``instruction`` is what models that take text are told,
    with their mark for the image (LLaVA's <image>); decoding is greedy, so that captions do not
    change from run to run."""

    model: Any
    processor: Any
    device: str
    instruction: str = ""
    most_tokens: int = MOST_TOKENS

    def __call__(self, images: Sequence[Image.Image]) -> Sequence[str]:
        """A caption for each image."""
        import torch

        text = {"text": [self.instruction] * len(images)} if self.instruction else {}
        with torch.inference_mode(), as_input_error(type(self.model).__name__):
            inputs = self.processor(images=list(images), return_tensors="pt", padding=True, **text)
            inputs = inputs.to(self.device)
            ids = self.model.generate(**inputs, max_new_tokens=self.most_tokens, do_sample=False)
            if not self.model.config.is_encoder_decoder and "input_ids" in inputs:
                echoed = inputs["input_ids"]
                if torch.equal(ids[:, : echoed.shape[1]], echoed):
                    ids = ids[:, echoed.shape[1] :]
            captions: list[str] = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [caption.strip() for caption in captions]


def captioner_from_folder(folder: Path | str, instruction: str = "") -> ModelCaptioner:
    """The captioning model in a local folder, on the GPU where there is one."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = from_local_folder(AutoModelForImageTextToText.from_pretrained, folder).eval()
    processor = from_local_folder(AutoProcessor.from_pretrained, folder)
    device = default_device()
    return ModelCaptioner(model.to(device), processor, device, instruction)

"""How large the experiment is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgefusion.models.miniature import names
from edgefusion.models.miniature.stages import CURATED, RAW


@dataclass(frozen=True, slots=True)
class Preset:
    """Steps of each training, data, and how much is drawn to judge by.

    ``guidance`` is that of diffusers' pipelines (1: none): for sampling teachers and students of
    25 steps, and what is distilled into those of few steps.
    """

    name: str
    channels: tuple[int, ...] = (32, 64, 96)
    """Of the teacher; the Tiny student lacks the last stage."""
    detail: float = 0.0
    """Of the image codec: 0 for pixels as they are, see ``CosineCodec``."""
    decoder_channels: tuple[int, ...] = (24, 32, 64)
    """Of the image decoder, at 32, 16 and 8 pixels."""
    decoder_steps: int = 2000
    text_encoder_steps: int = 500
    classifier_steps: int = 1200
    base_steps: int = 2500
    advanced_steps: int = 3000
    """That the advanced teacher goes on from the base one, on better data."""
    tiny_steps: int = 1000
    """Of the student of the base teacher on raw data."""
    tuning_steps: int = 300
    """That the student goes on, under the advanced teacher, on each dataset."""
    consistency_steps: int = 250
    batch_size: int = 64
    guidance: float = 3.0
    raw_pairs: int = 6000
    prompts_asked: int = 3200
    networks: tuple[str, ...] = ()
    """Those judged, by ``names``; () for all. What they need is trained too."""
    evaluation_prompts: int = 256
    many_steps: int = 25
    npu_prompts: int = 64
    """Prompts drawn by the compiled bundle; fewer, because a simulated NPU takes its time."""


_DEPLOYED = (names.BASE, names.ADVANCED, names.TINY, names.tuned(CURATED), names.EDGEFUSION)
"""The network that is deployed, and those it is made from."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("lean"),
            Preset(
                "long",
                channels=(64, 64, 96),
                detail=0.5,
                decoder_channels=(32, 64, 96),
                decoder_steps=4000,
                base_steps=500,
                advanced_steps=6000,
                tiny_steps=500,
                tuning_steps=4000,
                consistency_steps=1000,
                batch_size=32,
                networks=_DEPLOYED,
            ),
            Preset(
                "pilot",
                decoder_steps=600,
                text_encoder_steps=300,
                classifier_steps=400,
                base_steps=500,
                advanced_steps=250,
                tiny_steps=250,
                tuning_steps=100,
                consistency_steps=150,
                raw_pairs=2000,
                prompts_asked=1200,
                evaluation_prompts=96,
                npu_prompts=16,
            ),
            Preset(
                "smoke",
                channels=(16, 32, 48),
                decoder_steps=3,
                text_encoder_steps=3,
                classifier_steps=120,  # fewer, and its curator keeps nothing
                base_steps=2,
                advanced_steps=2,
                tiny_steps=2,
                tuning_steps=2,
                consistency_steps=2,
                batch_size=4,
                raw_pairs=40,
                prompts_asked=48,
                networks=(
                    *_DEPLOYED,
                    names.UNTUNED,
                    names.tuned(RAW),
                    names.few(RAW),
                    names.few(CURATED),
                    names.BY_BASE,
                    names.BY_ITSELF,
                ),
                evaluation_prompts=4,
                many_steps=3,
                npu_prompts=2,
            ),
        )
    }
)
"""``lean`` is the experiment; ``long`` trains the network that is deployed, and no other, until it
draws well; ``pilot`` shows in minutes where it goes, ``smoke`` that it runs."""

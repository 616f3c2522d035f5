"""The deployed student, in floating point and as the compiled bundle draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgefusion.models.miniature.claims import DEPLOYED_STEPS
from edgefusion.models.miniature.codec import SCALING_FACTOR
from edgefusion.models.miniature.distance import RESAMPLES
from edgefusion.models.miniature.evaluation import (
    NOISE_SEED,
    Judge,
    few_step_sampler,
    mean,
)
from edgefusion.models.miniature.names import FP32, NPU
from edgefusion.models.miniature.networks import LATENT_SHAPE
from edgefusion.models.miniature.pairs import as_pixels, token_ids
from edgefusion.models.miniature.pipeline import as_stored, write_miniature
from edgefusion.models.miniature.repetition import Judgements, Repetition, read_judgements
from edgefusion.models.miniature.store import Step
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.compiling.compile_source import compile_source
from edgefusion.toolchain.running.bundle_generator import bundle_generator
from edgefusion.toolchain.running.drawing import Wishes

if TYPE_CHECKING:
    from PIL.Image import Image

PIPELINE = "pipeline"
BUNDLE = "miniature.npub"
CALIBRATION_PROMPTS = 8


@dataclass(frozen=True, slots=True)
class Deployment:
    """Of one repetition. ``folder`` holds the pipeline."""

    folder: Path
    judgements: Judgements


def deploy(repetition: Repetition) -> Deployment:
    """Export the student of few steps, compile it, and judge pictures by both."""
    preset, tools = repetition.preset, repetition.tools
    trained = repetition.edgefusion
    step = Step(
        f"repetition-{repetition.seed}/deployed",
        {
            "prompts": preset.npu_prompts,
            "steps": DEPLOYED_STEPS,
            "distances": RESAMPLES,
            "weights": "float16",
        },
        (trained.step, tools.decoder),
    )
    texts = repetition.judge.prompts[: preset.npu_prompts]
    judge = Judge(tools.encoders, tools.judge, texts)

    def make(place: Path) -> dict[str, Any]:
        unet, autoencoder = as_stored(repetition.unet(trained)), as_stored(tools.autoencoder)
        in_float = judge.judgement(_decoded(unet, judge, autoencoder))
        share = mean(in_float.scores)
        facts = {
            "U-Net weights": f"{sum(p.numel() for p in unet.parameters()):,}",
            "preset, repetition": f"{preset.name}, {repetition.seed}",
            f"attributes right in {DEPLOYED_STEPS} steps": f"{share:.3f}, by a classifier",
        }
        encoder = tools.encoders.text_encoder
        write_miniature(place / PIPELINE, unet, encoder, autoencoder, facts)
        repetition.say(f"repetition {repetition.seed}: compiling")
        images = _on_npu(place, texts, repetition.say)
        steps = str(DEPLOYED_STEPS)
        on_npu = judge.judgement(as_pixels(images))
        return {FP32: {steps: asdict(in_float)}, NPU: {steps: asdict(on_npu)}}

    stored = repetition.store.result(step, make)
    judgements = {name: read_judgements(by_steps) for name, by_steps in stored.items()}
    return Deployment(repetition.store.place(step) / PIPELINE, judgements)


def _on_npu(place: Path, texts: Sequence[str], say: Say) -> Sequence[Image]:
    """Compile the pipeline in ``place`` to a bundle beside it, and draw ``texts`` with that."""
    bundle = place / BUNDLE
    compile_source(
        str(place / PIPELINE),
        output=bundle,
        steps=DEPLOYED_STEPS,
        calibration_prompts=CALIBRATION_PROMPTS,
        progress=say,
    )
    seeds = range(NOISE_SEED, NOISE_SEED + len(texts))
    return bundle_generator(bundle, Wishes(DEPLOYED_STEPS), say=say)(texts, seeds)


@torch.no_grad()
def _decoded(unet: Any, judge: Judge, autoencoder: Any) -> torch.Tensor:
    """As ``Judge.pictures``, but through the pipeline's decoder, as the bundle has it."""
    context = judge.encoders.encode(torch.stack([token_ids(text) for text in judge.prompts]))
    null = judge.encoders.null_context(len(context))
    latents = few_step_sampler().sample(
        unet, context, null, LATENT_SHAPE, DEPLOYED_STEPS, NOISE_SEED
    )
    pixels: torch.Tensor = autoencoder.decoder(latents / SCALING_FACTOR)
    return pixels.clamp(-1, 1)

"""What stands beside the U-Nets, the same in all repetitions: text encoder, image decoder, the
labeller that makes data, and the judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgefusion.models.miniature import classifier, codec, text_encoder
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.miniature.shapes import sample
from edgefusion.models.miniature.store import Step, Store
from edgefusion.models.training.encoders import Encoders
from edgefusion.runtime.progress import Say

TEXT_SEED, DECODER_SEED, LABELLER_SEED, JUDGE_SEED = 11, 22, 33, 44
_LABELLER_WIDTH, _JUDGE_WIDTH = 16, 24
_CHECK_SEED, _CHECKED = 55, 512


@dataclass(frozen=True, slots=True)
class Tools:
    """``step`` is what U-Nets and their data depend on, ``decoder`` what only pictures of the whole
    pipeline do; ``accuracy`` is the judge's on pictures that are right."""

    encoders: Encoders
    autoencoder: Any
    labeller: classifier.AttributeNet
    judge: classifier.AttributeNet
    step: Step
    decoder: Step
    accuracy: float


def make_tools(store: Store, preset: Preset, say: Say) -> Tools:
    """Train them, or load what was trained before."""
    text = Step("tools/text_encoder", {"steps": preset.text_encoder_steps, "seed": TEXT_SEED})
    image = Step(
        "tools/decoder",
        {
            "steps": preset.decoder_steps,
            "channels": preset.decoder_channels,
            "seed": DECODER_SEED,
            "detail": preset.detail,
        },
    )
    pixels = codec.codec_of(preset.detail)

    def classify(name: str, seed: int, width: int) -> tuple[Step, Any]:
        steps = preset.classifier_steps
        step = Step(f"tools/{name}", {"steps": steps, "seed": seed, "width": width})

        def make(_place: Path) -> classifier.AttributeNet:
            return classifier.trained_classifier(seed, width, steps, lambda t: say(f"{name}: {t}"))

        return step, store.network(step, classifier.AttributeNet(width), make)

    encoder = store.network(
        text,
        text_encoder.untrained(TEXT_SEED),
        lambda _place: text_encoder.trained_text_encoder(
            TEXT_SEED, preset.text_encoder_steps, lambda t: say(f"text encoder: {t}")
        ),
    )
    empty = codec.untrained_autoencoder(preset.decoder_channels, DECODER_SEED)
    autoencoder = store.network(
        image,
        empty,
        lambda _place: codec.train_decoder(
            empty, pixels, DECODER_SEED, preset.decoder_steps, lambda t: say(f"image decoder: {t}")
        ),
    )
    labelling, labeller = classify("labeller", LABELLER_SEED, _LABELLER_WIDTH)
    judging, judge = classify("judge", JUDGE_SEED, _JUDGE_WIDTH)
    return Tools(
        Encoders(encoder, pixels, token_ids("")[None]),
        autoencoder,
        labeller,
        judge,
        Step("tools", {"detail": preset.detail}, (text, labelling, judging)),
        image,
        _accuracy(judge),
    )


def _accuracy(judge: classifier.AttributeNet) -> float:
    drawn = [sample(_CHECK_SEED, index) for index in range(_CHECKED)]
    pixels = torch.stack([torch.from_numpy(image) for _, image in drawn]).permute(0, 3, 1, 2)
    found = classifier.seen(judge, pixels.float() / 127.5 - 1)
    return float((found == [scene.labels() for scene, _ in drawn]).mean())

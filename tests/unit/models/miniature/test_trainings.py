"""Each training of the recipe runs, resumes, and its result is the network it should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from edgefusion.models.miniature.classifier import AttributeNet
from edgefusion.models.miniature.codec import PixelCodec
from edgefusion.models.miniature.encoded import EncodedPairs
from edgefusion.models.miniature.evaluation import (
    Judge,
    few_step_sampler,
    many_step_sampler,
    prompts,
)
from edgefusion.models.miniature.networks import LATENT_SHAPE, student_of, teacher_unet, tiny_unet
from edgefusion.models.miniature.pairs import token_ids
from edgefusion.models.miniature.presets import PRESETS
from edgefusion.models.miniature.text_encoder import WIDTH, trained_text_encoder, untrained
from edgefusion.models.miniature.trainings import Lesson
from edgefusion.models.training.encoders import Encoders

SMOKE = PRESETS["smoke"]
CHANNELS = SMOKE.channels


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def lesson(folder: Path) -> Lesson:
    generator = torch.Generator().manual_seed(0)
    data = EncodedPairs(
        torch.randn((6, *LATENT_SHAPE), generator=generator),
        torch.randn((2, 77, WIDTH), generator=generator),
        (0, 1, 0, 1, 0, 1),
    )
    encoders = Encoders(None, PixelCodec(), torch.zeros(1, 77, WIDTH))
    return Lesson(SMOKE, encoders, data, 0, folder, lambda _text: None)


def test_sizes() -> None:
    teacher = teacher_unet(PRESETS["lean"].channels, 0)
    counts = [sum(p.numel() for p in net.parameters()) for net in (teacher, tiny_unet(teacher))]
    assert counts == [3_190_832, 846_768]


def test_the_chain_of_trainings(tmp_path: Path) -> None:
    teacher = lesson(tmp_path / "teacher").teach(teacher_unet(CHANNELS, 0), 2)
    student = student_of(teacher)
    assert torch.equal(student.conv_in.weight, teacher.conv_in.weight)
    inner, outer = student.up_blocks[1].resnets[1], teacher.up_blocks[2].resnets[2]
    assert torch.equal(inner.conv1.weight, outer.conv1.weight)
    distilled = lesson(tmp_path / "tiny").distil(teacher, student, 2)
    assert distilled.config["block_out_channels"] == CHANNELS[:-1]
    few = lesson(tmp_path / "few").reduce_steps(teacher, distilled, 2)
    assert few.config["time_cond_proj_dim"] is None  # guidance is baked in
    assert not torch.equal(few.conv_in.weight, distilled.conv_in.weight)


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lesson(tmp_path / "broken").teach(teacher_unet(CHANNELS, 0), 2)
    resumed = lesson(tmp_path / "broken").teach(teacher_unet(CHANNELS, 0), 4)
    whole = lesson(tmp_path / "whole").teach(teacher_unet(CHANNELS, 0), 2)
    again = lesson(tmp_path / "whole").teach(teacher_unet(CHANNELS, 0), 4)
    for first, second in zip(resumed.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(whole.conv_in.weight, again.conv_in.weight)


def test_judging_is_repeatable_and_each_picture_its_own() -> None:
    unet = tiny_unet(teacher_unet(CHANNELS, 0)).requires_grad_(False)
    encoders = Encoders(untrained(0), PixelCodec(), token_ids("")[None])
    three, two = (Judge(encoders, AttributeNet(8), prompts(n)) for n in (3, 2))
    for sampler, steps in ((few_step_sampler(), 2), (many_step_sampler(2.0), 3)):
        pictures = three.pictures(unet, sampler, steps)
        assert pictures.shape == (3, 3, 32, 32)
        alone = two.pictures(unet, sampler, steps)
        torch.testing.assert_close(pictures[:2], alone, rtol=1e-4, atol=1e-4)
    judgement = three.judgement(pictures)
    assert len(judgement.scores) == 3
    assert all(score * 5 == pytest.approx(round(score * 5)) for score in judgement.scores)
    assert all(distance >= 0 for distance in judgement.distances)


def test_the_text_encoder_learns_what_captions_say() -> None:
    said: list[float] = []
    trained_text_encoder(0, 60, lambda text: said.append(float(text.split("loss ")[1])))
    assert said[-1] < 0.5 * said[0]

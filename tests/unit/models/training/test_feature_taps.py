"""Every tap of every student carries gradient, with and without gradient checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from edgefusion.models.architectures import PRESETS
from edgefusion.models.training.block_removal import VARIANTS, Variant
from edgefusion.models.training.feature_taps import FeatureTaps, check_gradient, feature_pairs
from edgefusion.runtime.errors import InputError
from tests.training_cases import CONTEXT_WIDTH, TOKENS, student_unet, teacher_unet


def evaluate(network: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, TOKENS, CONTEXT_WIDTH, generator=generator)
    output: torch.Tensor = network(sample, torch.tensor([10, 900]), context, return_dict=False)[0]
    return output


def test_published_pairs_of_tiny() -> None:
    with torch.device("meta"):
        pairs = feature_pairs(
            PRESETS["sd-v1.4"].networks["unet"].build(),
            PRESETS["bk-sdm-tiny"].networks["unet"].build(),
        )
    assert [(pair.teacher, pair.student) for pair in pairs] == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2.attentions.1.proj_out", "down_blocks.2.attentions.0.proj_out"),
        ("up_blocks.1", "up_blocks.0"),
        ("up_blocks.2", "up_blocks.1"),
        ("up_blocks.3", "up_blocks.2"),
    ]


@pytest.mark.parametrize("variant", ["base", "small"])
def test_published_pairs_of_base_and_small(variant: str) -> None:
    with torch.device("meta"):
        student = PRESETS[f"bk-sdm-{variant}"].networks["unet"].build()
        pairs = feature_pairs(PRESETS["sd-v1.4"].networks["unet"].build(), student)
    names = [f"{side}_blocks.{i}" for side in ("down", "up") for i in range(4)]
    assert [(pair.teacher, pair.student) for pair in pairs] == [(name, name) for name in names]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_tap_teaches(variant: Variant, checkpointing: bool) -> None:
    teacher = teacher_unet().requires_grad_(False)
    student = student_unet(teacher, variant).train()
    if checkpointing:
        student.enable_gradient_checkpointing()
    pairs = feature_pairs(teacher, student)
    expected = FeatureTaps(teacher, [pair.teacher for pair in pairs])
    found = FeatureTaps(student, [pair.student for pair in pairs])
    for pair in pairs:
        with torch.no_grad(), expected.catching() as wanted:
            evaluate(teacher)
        with found.catching() as features:
            evaluate(student)
        assert set(features) == {each.student for each in pairs}
        assert features[pair.student].shape == wanted[pair.teacher].shape
        check_gradient(features)
        student.zero_grad()
        (features[pair.student] ** 2).mean().backward()
        layer = student.get_submodule(pair.student)
        reached = [p.grad for p in layer.parameters() if p.grad is not None]
        assert reached, pair
        assert all(bool(grad.abs().sum() > 0) for grad in reached), pair
        assert bool(student.conv_in.weight.grad.abs().sum() > 0), "and to the network's beginning"


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        student = student_unet(teacher_unet()).train()
        if checkpointing:
            student.enable_gradient_checkpointing()
        taps = FeatureTaps(student, ["down_blocks.1.attentions.0.proj_out", "up_blocks.0"])
        with taps.catching() as features:
            output = evaluate(student)
        total = (output**2).mean() + sum((each**2).mean() for each in features.values())
        total.backward()
        gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 100
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_reentrant_checkpointing_is_refused() -> None:
    """Inside a reentrant checkpoint the first forward builds no graph: the silent defect."""
    student = student_unet(teacher_unet()).train()
    taps = FeatureTaps(student, ["down_blocks.0.attentions.0.proj_out"])
    attention = student.down_blocks[0].attentions[0]
    forward = attention.forward

    def reentrant(hidden_states: torch.Tensor, **options: Any) -> Any:
        return checkpoint(lambda x: forward(x, **options), hidden_states, use_reentrant=True)

    attention.forward = reentrant
    with taps.catching() as features:
        evaluate(student)
    with pytest.raises(InputError, match=r"down_blocks\.0\.attentions\.0\.proj_out carries no"):
        check_gradient(features)


def test_names_of_a_wrapped_network_do_not_matter() -> None:
    class Wrapped(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any, **options: Any) -> Any:
            return self.module(*args, **options)

    student = student_unet(teacher_unet())
    taps = FeatureTaps(student, ["up_blocks.1"])
    with taps.catching() as features:
        evaluate(Wrapped(student))
    assert list(features) == ["up_blocks.1"]
    evaluate(student)
    assert len(features) == 1, "outside of catching nothing is kept"

from __future__ import annotations

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from edgefusion.models.training.moving_average import MovingAverage


def stepped(network: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by)


def test_formula() -> None:
    network = nn.Linear(2, 2, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = MovingAverage(network, 0.95)
    nn.init.constant_(network.weight, 3.0)
    average.update(network)
    assert average.network.get_parameter("weight").flatten().tolist() == pytest.approx([1.1] * 4)
    average.update(network)
    assert average.network.get_parameter("weight")[0, 0].item() == pytest.approx(1.195)
    assert average.updates == 2
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_warm_up_is_that_of_diffusers() -> None:
    network = nn.Linear(3, 3)
    ours, theirs = MovingAverage(network, 0.6, warm_up=True), EMAModel(network.parameters(), 0.6)
    for number in range(12):
        stepped(network, 0.3 * (number + 1))
        ours.update(network)
        theirs.step(network.parameters())
        for mine, shadow in zip(ours.network.parameters(), theirs.shadow_params, strict=True):
            torch.testing.assert_close(mine.data, shadow.data)

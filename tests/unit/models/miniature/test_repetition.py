"""The networks of a repetition, which hang together by their steps' keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefusion.models.miniature.claims import claims
from edgefusion.models.miniature.names import EDGEFUSION, FP32, NPU
from edgefusion.models.miniature.presets import PRESETS, Preset
from edgefusion.models.miniature.repetition import Repetition
from edgefusion.models.miniature.store import Step, Store


class NoTools:
    """Keys alone are asked for."""

    step = Step("tools", {})


def repetition(preset: Preset, folder: Path) -> Repetition:
    tools: Any = NoTools
    return Repetition(preset, Store(folder), tools, 0, lambda _text: None)


def ancestors(step: Step) -> set[str]:
    """Keys of all steps that one builds on."""
    return {parent.key for parent in step.parents}.union(*map(ancestors, step.parents))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_names_networks_that_there_are(preset: Preset, tmp_path: Path) -> None:
    networks = repetition(preset, tmp_path).networks()
    assert set(preset.networks) <= networks.keys()
    assert len({trained.step.key for trained in networks.values()}) == len(networks)


def test_every_claim_is_of_networks_that_there_are(tmp_path: Path) -> None:
    lean = PRESETS["lean"]
    named = {side[0] for claim in claims(lean) for side in (claim.first, claim.second)}
    assert named - {NPU, FP32} <= repetition(lean, tmp_path).networks().keys()


def test_the_long_preset_judges_what_the_deployed_network_is_made_from(tmp_path: Path) -> None:
    long = repetition(PRESETS["long"], tmp_path).networks()
    before = ancestors(long[EDGEFUSION].step)
    judged = {long[name].step.key for name in PRESETS["long"].networks}
    assert judged - {long[EDGEFUSION].step.key} <= before

"""Guidance: how it is chosen, what of it a bundle may change, and how the passes are combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefusion.compiler.bundle.deployment import Deployment, Guidance
from edgefusion.models.guidance import chosen_guidance, guided, negative_ids
from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.source import Source, resolve_source
from edgefusion.models.text_to_image import Sampling, denoise
from edgefusion.models.tokenization import HashingTokenizer, PromptReader
from edgefusion.models.trajectories import evaluations
from edgefusion.runtime.errors import UsageError

Arrays = Mapping[str, np.ndarray[Any, Any]]
SHAPES = {"sample": (1, 4, 2, 2)}
PLAIN = Sampling(SHAPES, NoiseScheduler(), 0.5)
GUIDED = replace(PLAIN, guidance=Guidance(5.0))
STUDENT = Sampling(SHAPES | {"timestep_cond": (1, 6)}, NoiseScheduler(), 0.5)
READ = PromptReader({"text_encoder": HashingTokenizer(512, 4)})


def test_how_a_source_is_guided() -> None:
    source = resolve_source("sd-v1.5")
    assert chosen_guidance(source, None) is None
    assert chosen_guidance(source, 1) is None
    assert chosen_guidance(source, 7.5) == Guidance(7.5)
    assert chosen_guidance(resolve_source("sdxl"), 5.0) == Guidance(5.0, zero_negative=True)
    assert chosen_guidance(resolve_source("bk-sdm-tiny-lcm"), 3.0) == Guidance(3.0, passes=1)
    for scale in (0.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--guidance is"):
            chosen_guidance(source, scale)
    with pytest.raises(UsageError, match="which is no pipeline with a denoiser"):
        chosen_guidance(Source("onnx", "unet", ("unet",), Path("unet.onnx")), 7.5)


@pytest.mark.parametrize(
    ("name", "scale", "counts"),
    [
        ("sd-v1.5", None, {"text_encoder": 1, "unet": 3, "vae_decoder": 1}),
        ("sd-v1.5", 7.5, {"text_encoder": 2, "unet": 6, "vae_decoder": 1}),
        ("sdxl", 7.5, {"text_encoder": 1, "text_encoder_2": 1, "unet": 6, "vae_decoder": 1}),
        ("bk-sdm-tiny-lcm", 7.5, {"text_encoder": 1, "unet": 3, "vae_decoder": 1}),
    ],
)
def test_passes_are_counted(name: str, scale: float | None, counts: Mapping[str, int]) -> None:
    source = resolve_source(name)
    source = replace(source, deployment=Deployment(guidance=chosen_guidance(source, scale)))
    assert {c: evaluations(source, c, 3) for c in source.components} == counts


def test_the_second_pass_is_gone_past() -> None:
    seen: list[float] = []

    def predict(inputs: Arrays) -> Arrays:
        seen.append(float(inputs["context"][0]))
        return {"noise_pred": np.full(SHAPES["sample"], seen[-1], np.float32)}

    with_prompt, without = ({"context": np.array([value])} for value in (0.5, 0.25))
    steps = denoise(predict, GUIDED, with_prompt, unconditional=without, steps=2)
    assert seen == [0.25, 0.5] * 2
    assert {float(value) for step in steps for value in step.noise.flat} == {0.25 + 5 * 0.25}
    assert [len(step.passes) for step in steps] == [2, 2]
    assert float(steps[0].inputs["context"][0]) == 0.5


def test_what_a_bundle_may_change() -> None:
    assert guided(PLAIN, None, None) == guided(PLAIN, 1, None) == PLAIN
    assert guided(GUIDED, 2.0, "ugly").guidance == Guidance(2.0)
    assert not guided(GUIDED, 1, None).is_guided
    assert guided(STUDENT, 3.0, None).guidance == Guidance(3.0, passes=1)
    assert not np.array_equal(
        guided(STUDENT, 3.0, None).conditions({})["timestep_cond"],
        STUDENT.conditions({})["timestep_cond"],
    )
    with pytest.raises(UsageError, match=r"compiled without.*Compile with --guidance 2"):
        guided(PLAIN, 2.0, None)
    for sampling, scale in ((PLAIN, None), (GUIDED, 1.0), (STUDENT, 2.0)):
        with pytest.raises(UsageError, match="--negative-prompt has no effect"):
            guided(sampling, scale, "ugly")


def test_what_a_prompt_is_told_apart_from() -> None:
    zeros = replace(GUIDED, guidance=Guidance(5.0, zero_negative=True))
    empty, ugly = READ("")["text_encoder"].ids, READ("ugly")["text_encoder"].ids
    assert negative_ids(PLAIN, READ, None) is negative_ids(zeros, READ, None) is None
    for sampling, text, expected in (
        (GUIDED, None, empty),
        (GUIDED, "ugly", ugly),
        (zeros, "ugly", ugly),
        (zeros, "", empty),
    ):
        found = negative_ids(sampling, READ, text)
        assert found is not None
        np.testing.assert_array_equal(found["text_encoder"], expected)

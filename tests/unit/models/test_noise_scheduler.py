"""Schedulers: what they do with a number of steps, whose keys count, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info

from edgefusion.models.families.registry import FAMILIES, STABLE_DIFFUSION
from edgefusion.models.noise_scheduler import (
    FLOW,
    SCHEDULERS,
    NoiseScheduler,
    plain_timestep,
    scheduler_named,
)
from edgefusion.models.onnx_component import check_timestep
from edgefusion.runtime.errors import InputError, UsageError


def own(name: str, **values: Any) -> NoiseScheduler:
    """With a configuration of its own class."""
    return NoiseScheduler(name, {"_class_name": name, **values})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_runs_are_counted_as_they_happen(name: str) -> None:
    scheduler = own(name)
    for steps in (1, 2, 5, 20, 50):
        if scheduler.does(steps):
            assert scheduler.runs(steps) == len(scheduler.timesteps(steps))
            assert scheduler.runs(steps) >= steps
    scheduler.check(5)


@pytest.mark.parametrize(
    ("scheduler", "steps", "runs"),
    [
        (own("PNDMScheduler", skip_prk_steps=True), 50, 51),
        (own("PNDMScheduler", skip_prk_steps=True), 1, 1),
        (own("PNDMScheduler"), 50, 59),
        (NoiseScheduler("PNDMScheduler", {"_class_name": "DDIMScheduler"}), 2, 3),
        (own("HeunDiscreteScheduler"), 20, 39),
        (own("KDPM2DiscreteScheduler"), 20, 39),
        (own("DPMSolverMultistepScheduler"), 25, 25),
        (NoiseScheduler(), 100, 100),  # what if: LCM has not so many, but would run as often
    ],
)
def test_runs(scheduler: NoiseScheduler, steps: int, runs: int) -> None:
    assert scheduler.runs(steps) == runs


def test_flow_matching() -> None:
    scheduler = own(FLOW, shift=3.0)
    assert scheduler.timesteps(1) == own(FLOW).timesteps(1) == (1000,)
    assert scheduler.timesteps(3)[1] > own(FLOW).timesteps(3)[1]
    assert scheduler.runs(28) == len(scheduler.timesteps(28)) == 28
    assert (scheduler.timestep_dtype, scheduler.predicts) == ("float32", "flow_prediction")
    scheduler.check(4)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting is True: timesteps would depend"),
        ({"stochastic_sampling": True}, "stochastic_sampling is True: its steps draw noise"),
        ({"invert_sigmas": True}, "invert_sigmas is True"),
        ({"shift": 0}, "shift is 0, no number above 0"),
        ({"shift": True}, "shift is True, no number above 0"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000, more than"),
    ],
)
def test_flow_matching_that_is_not_supported(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        own(FLOW, **values).check(2)


def test_timesteps_may_lie_between_whole_ones() -> None:
    euler = own("EulerDiscreteScheduler")
    assert euler.timesteps(3) == (999, 499.5, 0)
    assert [type(each) for each in euler.timesteps(3)] == [int, float, int]
    assert euler.timestep_dtype == "float32"
    assert own("DDIMScheduler").timestep_dtype == NoiseScheduler().timestep_dtype == "int64"
    assert own("PNDMScheduler").fewest_steps == 4  # Runge-Kutta needs them
    assert own("PNDMScheduler").timestep_dtype == "int64"
    assert plain_timestep(0.1) == pytest.approx(0.1)
    assert plain_timestep(0.1) != 0.1  # as float32 has it


def test_keys_count_as_diffusers_counts_them() -> None:
    """Those that are absent are the class's own, or Stable Diffusion's for another's file."""
    assert own("DDIMScheduler").make().config.beta_end == 0.02
    assert NoiseScheduler("DDIMScheduler", {}).make().config.beta_end == 0.012
    taken = NoiseScheduler("LCMScheduler", {"_class_name": "PNDMScheduler", "beta_end": 0.01})
    assert taken.make().config.beta_end == 0.01
    assert taken.make().config.beta_start == 0.00085
    stable_diffusion = STABLE_DIFFUSION.scheduler("DDIMScheduler", {"clip_sample": True}).make()
    assert (stable_diffusion.config.clip_sample, stable_diffusion.config.steps_offset) == (False, 1)
    xl = FAMILIES[1].scheduler("DDIMScheduler", {"clip_sample": True}).make()
    assert (xl.config.clip_sample, xl.config.steps_offset) == (True, 0)
    lcm = STABLE_DIFFUSION.scheduler("LCMScheduler", {"clip_sample": True}).make()
    assert (lcm.config.clip_sample, lcm.config.steps_offset) == (True, 0)


def test_what_was_prepared_is_not_shared() -> None:
    scheduler = own("UniPCMultistepScheduler")
    first, second = scheduler.prepared(5), scheduler.prepared(3)
    assert (len(first.timesteps), len(second.timesteps)) == (5, 3)


@pytest.mark.parametrize(
    ("scheduler", "told"),
    [
        (own("UniPCMultistepScheduler", use_flow_sigmas=True), "use_flow_sigmas is True"),
        (own("DDIMScheduler", prediction_type="flow_prediction"), "'flow_prediction', not epsilon"),
        (own("PNDMScheduler", prediction_type="sample"), "prediction_type given as sample"),
        (own("KDPM2DiscreteScheduler", prediction_type="sample"), "prediction_type"),
        (own("DDIMScheduler", timestep_spacing="even"), "even is not supported"),
        (own("DDIMScheduler", beta_schedule="bent"), "bent"),
        (own("DDIMScheduler", beta_start=0), "beta_start is 0"),
        (own("DDIMScheduler", num_train_timesteps=10**12, trained_betas=[1]), "100,000"),
        (own("DPMSolverMultistepScheduler", algorithm_type="dpmsolver", final_sigmas_type="zero"),
         "final_sigmas_type"),
        (own("EulerDiscreteScheduler", final_sigmas_type="none"), "final_sigmas_type"),
        (own("LCMScheduler", original_inference_steps=2000), "original_inference_steps is 2000"),
        (NoiseScheduler("DPMSolverSDEScheduler"), "expected one of DDIM"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_denoise(scheduler: NoiseScheduler, told: str) -> None:
    with pytest.raises(InputError, match=told):
        scheduler.check(scheduler.fewest_steps)


def test_steps_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"--steps is 51; expected 1 to 50.*distilled on"):
        own("TCDScheduler").timesteps(51)
    with pytest.raises(UsageError, match=r"--steps is 1001; expected 1 to 1000.*DDIMScheduler"):
        own("DDIMScheduler").timesteps(1001)
    with pytest.raises(UsageError, match="--steps is 3, which PNDMScheduler cannot do"):
        own("PNDMScheduler").runs(3)
    assert not own("PNDMScheduler").does(3)


def test_names() -> None:
    for text in ("PNDM", "pndm", "PNDMScheduler"):
        assert scheduler_named(text) == "PNDMScheduler"
    with pytest.raises(
        UsageError, match=r"--scheduler EulerDiscret: .* Did you mean EulerDiscrete\?"
    ):
        scheduler_named("EulerDiscret")


@pytest.mark.parametrize(("dtype", "refused"), [("INT64", True), ("FLOAT", False)])
def test_files_of_whole_timesteps_take_no_fractions(
    dtype: str, refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "unet.onnx"
    port = make_tensor_value_info("timestep", getattr(TensorProto, dtype), [1])
    made = make_tensor_value_info("made", getattr(TensorProto, dtype), [1])
    node = make_node("Identity", ["timestep"], ["made"])
    onnx.save(make_model(make_graph([node], "unet", [port], [made])), path)
    for name in ("DDIMScheduler", "LCMScheduler"):
        check_timestep(path, own(name))
    with pytest.raises(UsageError, match="whole numbers") if refused else nullcontext():
        check_timestep(path, own("EulerDiscreteScheduler"))

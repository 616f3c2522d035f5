"""The scheduler of a pipeline folder, against the one that denoises here: LCM's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.config_file import read_config
from edgefusion.models.text_to_image import OWN_SCHEDULER, PREDICTION_TYPES, lcm_scheduler
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.folder_index import PipelineIndex

_SAME_NOISE = frozenset(
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep"),
        *("DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete"),
        *("HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete"),
        *("PNDM", "SASolver", "TCD", "UniPCMultistep"),
    )
)
"""diffusers' schedulers of the discrete noise of DDPM, which LCM's takes over as it is."""
_OTHER_NOISE = ("use_flow_sigmas",)


def check_scheduler(folder: Path, index: PipelineIndex) -> str | None:
    """What to tell the user of how the folder's scheduler is replaced; None where it is not.

    Raises InputError, naming the key, for a scheduler whose noise LCM's cannot take over.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    named = index.parts.get("scheduler")
    if named is None:
        return (
            f"{index.path.name} names no scheduler; Stable Diffusion v1's noise schedule is taken, "
            f"denoised by {OWN_SCHEDULER}"
        )
    if not path.is_file():
        raise InputError(
            f"{path} is missing, though {index.path.name} names a {named}. Download the whole "
            "pipeline again."
        )
    config = read_config(path)
    _check_noise(path, named, config)
    if named == OWN_SCHEDULER:
        return None
    return (
        f"the folder's scheduler {named} is replaced by {OWN_SCHEDULER}, with the folder's noise "
        f"schedule and prediction_type {config.get('prediction_type', 'epsilon')}. Models that "
        "were not distilled for few steps make poor pictures so; distil this one (edgefusion "
        "train) if it was not"
    )


def _check_noise(path: Path, named: str, config: dict[str, Any]) -> None:
    if named not in _SAME_NOISE:
        raise InputError(
            f"{path.parent.parent / 'model_index.json'}: scheduler is {named}; expected one of "
            f"DDPM's discrete noise ({', '.join(sorted(_SAME_NOISE))}), for {OWN_SCHEDULER} "
            "denoises in its place. Take a pipeline that was trained with one."
        )
    for key in _OTHER_NOISE:
        if config.get(key):
            raise InputError(
                f"{path}: {key} is {config[key]!r}; expected false: {OWN_SCHEDULER} denoises in "
                f"the place of {named}, and knows no flow matching. Take a model of DDPM's noise."
            )
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise InputError(
            f"{path}: prediction_type is {kind!r}; expected one of {', '.join(PREDICTION_TYPES)}. "
            "Take another model, or correct it."
        )
    lcm_scheduler(config)

"""What training ends in: a diffusers pipeline folder, the base pipeline with one part replaced.

diffusers loads it, and ``edgefusion compile`` takes it. The other parts are copied as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import quiet_libraries
from edgefusion.models.folder_index import INDEX
from edgefusion.models.noise_scheduler import ORIGINAL_STEPS, STABLE_DIFFUSION_SCHEDULE
from edgefusion.models.pipeline_files import SCHEDULER_CONFIG
from edgefusion.models.training.disk import as_os_errors
from edgefusion.runtime.files import disk_errors, replacing_folder

if TYPE_CHECKING:
    from edgefusion.models.source import Source

_KEPT = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
_CLASSES = {
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
_LCM_SCHEDULER = ("diffusers", "LCMScheduler")


def write_pipeline(
    base: Source, folder: Path, replaced: Mapping[str, Any], *, consistency: bool
) -> None:
    """Write ``base`` to ``folder`` with parts ``replaced``, modules by name (``unet``, ``vae``).

    With ``consistency`` its scheduler becomes an LCMScheduler with the base's noise schedule. An
    existing folder is replaced when the new one is whole. Raises DoesNotFitError for a full disk
    and InputError for a place that cannot be written.
    """
    with (
        disk_errors(folder),
        as_os_errors(),
        quiet_libraries(),
        replacing_folder(folder, INDEX) as partial,
    ):
        parts = _copy_base(base, partial, leave_out=tuple(replaced))
        for name, module in replaced.items():
            module.save_pretrained(partial / name)
            parts[name] = _CLASSES[name]
        guided = getattr(replaced.get("unet"), "config", {}).get("time_cond_proj_dim")
        if consistency or "scheduler" not in parts:
            parts["scheduler"] = _write_scheduler(base, partial, consistency)
        name = "LatentConsistencyModelPipeline" if guided else "StableDiffusionPipeline"
        index: dict[str, Any] = {
            "_class_name": name,
            **{key: list(parts[key]) for key in sorted(parts)},
        }
        for absent in ("feature_extractor", "image_encoder", "safety_checker"):
            index[absent] = [None, None]
        index["requires_safety_checker"] = False
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def scheduler_config(source: Source) -> dict[str, Any]:
    """The source's scheduler_config.json; Stable Diffusion v1's where it has none."""
    path = source.path / SCHEDULER_CONFIG.removeprefix("pipeline/") if source.path else None
    if path is None or not path.is_file():
        return dict(STABLE_DIFFUSION_SCHEDULE)
    own = json.loads(path.read_text())
    return {key: value for key, value in own.items() if not key.startswith("_")}


def _copy_base(base: Source, to: Path, leave_out: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Copy the parts of a text-to-image pipeline; library and class of each, by name."""
    if base.path is None:
        text_encoder: Any = base.load("text_encoder")
        text_encoder.save_pretrained(to / "text_encoder")
        parts = {"text_encoder": _CLASSES["text_encoder"]}
        for name, component in (("unet", "unet"), ("vae", "vae_decoder")):
            if name not in leave_out:
                module: Any = base.load_whole(component)
                module.save_pretrained(to / name)
                parts[name] = _CLASSES[name]
        return parts
    index = json.loads((base.path / INDEX).read_text())
    parts = {}
    for name in _KEPT:
        if name not in leave_out and (base.path / name).is_dir() and index.get(name, [None])[0]:
            shutil.copytree(base.path / name, to / name)
            parts[name] = tuple(index[name])
    return parts


def _write_scheduler(base: Source, to: Path, consistency: bool) -> tuple[str, str]:
    from diffusers import DDIMScheduler, LCMScheduler

    config = {**STABLE_DIFFUSION_SCHEDULE, **scheduler_config(base)}
    kind: Any = LCMScheduler if consistency else DDIMScheduler
    if consistency:
        config |= {"original_inference_steps": ORIGINAL_STEPS, "timestep_spacing": "leading"}
    shutil.rmtree(to / "scheduler", ignore_errors=True)
    kind.from_config(config).save_pretrained(to / "scheduler")
    return _LCM_SCHEDULER if consistency else _CLASSES["scheduler"]

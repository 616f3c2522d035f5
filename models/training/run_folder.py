"""The folder of a run: its settings, and whether it may be begun or gone on with there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefusion.models.folder_index import INDEX
from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.models.training.settings_file import (
    RESOLVED,
    differences,
    load_settings,
    save_settings,
)
from edgefusion.runtime.claims import claim_outputs
from edgefusion.runtime.errors import EdgeFusionError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import check_folder, disk_errors, replacing

PIPELINE = "pipeline"
"""The folder that a run ends in."""
_MAY_CHANGE = (
    "data.workers",
    "run.steps",
    "run.log_every",
    "run.tensorboard",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.result",
    "validation.",
)
"""Settings that do not touch the numbers of the steps already done."""


def open_run_folder(folder: Path, settings: Any, *, resume: bool) -> None:
    """Make the folder and save the resolved settings in it.

    Raises UsageError for a folder that holds a run, unless it is resumed with the same settings,
    and for one in which something else would be replaced.
    """
    resolved = folder / RESOLVED
    _check_result(folder / PIPELINE, settings)
    if CheckpointStore(folder / "checkpoints").steps():
        if not resume:
            raise UsageError(
                f"{folder} holds a run already; go on with it by --resume, or name another folder."
            )
        before = load_settings(type(settings), resolved)
        changed = [d for d in differences(before, settings) if not d.startswith(_MAY_CHANGE)]
        if changed:
            raise UsageError(
                f"the run in {folder} was started with other settings: {'; '.join(changed[:3])}. "
                f"Resume it with {resolved}, or start another."
            )
    elif resolved.exists():
        try:
            load_settings(type(settings), resolved)
        except EdgeFusionError as error:
            raise UsageError(
                f"{resolved} would be replaced, but it holds no settings of this training: {error} "
                "Name another folder."
            ) from error
    with replacing((resolved,), Kind.TEXT) as (partial,), disk_errors(resolved):
        save_settings(settings, partial)


def _check_result(pipeline: Path, settings: Any) -> None:
    """Raises UsageError if writing ``pipeline`` would take away what the run reads, or something
    else than a pipeline."""
    check_folder(pipeline, INDEX)
    names = (settings.teacher, settings.data.path, getattr(settings, "student", settings.teacher))
    read = [Path(name) for name in names]
    claim_outputs([], read, [pipeline])
    for path in read:
        if path.exists() and path.resolve().is_relative_to(pipeline.resolve()):
            raise UsageError(
                f"{path} is read, and lies in {pipeline}, which the run replaces at its end. Name "
                "another folder for the run."
            )

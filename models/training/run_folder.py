"""The folder of a run: its settings, and whether it may be begun or gone on with there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.models.training.settings_file import (
    RESOLVED,
    differences,
    load_settings,
    save_settings,
)
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.files import disk_errors, replacing

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

    Raises UsageError for a folder that holds a run, unless it is resumed with the same settings.
    """
    resolved = folder / RESOLVED
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
    with replacing((resolved,)) as (partial,), disk_errors(resolved):
        save_settings(settings, partial)

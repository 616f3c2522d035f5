"""Checkpoints of a training run: each appears whole or not at all, and is checked when read.

A checkpoint is a folder ``step-00001000`` with a safetensors file a network, ``state.pt`` (the
optimizer and the like) and ``manifest.json`` with sizes and sha256 of the others. It is written
beside its place, brought to the disk, and renamed; older ones go only after that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgefusion.models.checkpoint import file_digest
from edgefusion.models.training.disk import FULL, as_os_errors
from edgefusion.runtime.errors import DoesNotFitError, InputError, in_brief
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from torch import nn

_NAME = re.compile(r"step-(\d{8})")
_PARTIAL = ".partial-"
_MANIFEST = "manifest.json"
_STATE = "state.pt"


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The checkpoints in ``folder``, of which the last ``keep`` are kept."""

    folder: Path
    keep: int = 2

    def steps(self) -> list[int]:
        """Of the checkpoints there are, ascending; they may turn out to be damaged."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def save(self, step: int, networks: Mapping[str, nn.Module], state: Mapping[str, Any]) -> None:
        """Write the checkpoint of ``step`` and drop old ones.

        Raises DoesNotFitError for a full disk and InputError for a place that cannot be written;
        the checkpoints that were there still are.
        """
        with self._telling_what_is_left(step):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._drop_partial()
            partial = self.folder / f"{_PARTIAL}{_name(step)}"
            partial.mkdir()
            for name, network in networks.items():
                tensors = {key: t.contiguous() for key, t in network.state_dict().items()}
                save_file(tensors, partial / f"{name}.safetensors")
            with (partial / _STATE).open("wb") as file:
                torch.save(dict(state), file)
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
                for path in sorted(partial.iterdir())
            }
            (partial / _MANIFEST).write_text(json.dumps({"step": step, "files": files}, indent=1))
            for path in (*partial.iterdir(), partial):
                _to_disk(path)
            final = self.folder / _name(step)
            if final.exists():  # a damaged one, which a resumed run passed over
                self._remove(final)
            partial.rename(final)
            _to_disk(self.folder)
            for old in self.steps()[: -self.keep]:
                self._remove(self.folder / _name(old))

    def latest(self, say: Say) -> int | None:
        """The last step whose checkpoint is whole, None if there are no checkpoints at all.

        What is wrong with later ones is said. Raises InputError where all are damaged.
        """
        reasons = []
        for step in reversed(self.steps()):
            reason = _defect(self.folder / _name(step))
            if reason is None:
                return step
            reasons.append(f"{_name(step)} {reason}")
            say(f"passing over a damaged checkpoint: {reasons[-1]}")
        if reasons:
            raise InputError(
                f"no checkpoint in {self.folder} is whole: {'; '.join(reasons)}. Start again in "
                "another folder, or restore one from a backup."
            )
        return None

    def load(self, step: int, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Fill ``networks`` from the checkpoint of ``step``; its state.

        Raises InputError for one that belongs to other networks.
        """
        folder = self.folder / _name(step)
        try:
            for name, network in networks.items():
                network.load_state_dict(load_file(folder / f"{name}.safetensors"))
            state: dict[str, Any] = torch.load(folder / _STATE, weights_only=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = in_brief(error)
            raise InputError(
                f"{folder} does not fit these networks: {reason}. Resume with the settings that "
                "the run was started with."
            ) from error
        return state

    @contextmanager
    def _telling_what_is_left(self, step: int) -> Iterator[None]:
        try:
            with as_os_errors():
                yield
        except OSError as error:
            self._drop_partial()
            whole = self.steps()
            left = f"{_name(whole[-1])} is as it was" if whole else "there is none before it"
            if error.errno in FULL:
                raise DoesNotFitError(
                    f"the disk is full: the checkpoint of step {step} was not written to "
                    f"{self.folder}; {left}. Free some space, and go on with --resume."
                ) from error
            raise InputError(
                f"the checkpoint of step {step} cannot be written to {self.folder}: "
                f"{error.strerror}; {left}. Check the place and its permissions, and go on "
                "with --resume."
            ) from error

    def _drop_partial(self) -> None:
        for path in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        """Renamed first, so that no half of it can be taken for a checkpoint."""
        away = path.with_name(f"{_PARTIAL}{path.name}-old")
        shutil.rmtree(away, ignore_errors=True)
        path.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _defect(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is whole."""
    try:
        files = json.loads((folder / _MANIFEST).read_text())["files"]
        for name, entry in files.items():
            path = folder / name
            found = path.stat().st_size
            if found != entry["bytes"]:
                return f"is cut off: {name} has {found:,} bytes of {entry['bytes']:,}"
            if file_digest(path) != entry["sha256"]:
                return f"is damaged: {name} has other content than was written"
    except OSError as error:
        return f"is incomplete: {Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"is incomplete: {_MANIFEST} is not readable"
    return None


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

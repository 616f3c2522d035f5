"""What the shell offers for a value, after ``edgefusion --install-completion``.

A shell that is given names adds no paths of its own, so where both may stand both are given.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgefusion.models.architectures import PRESETS
from edgefusion.models.shipped import SHIPPED


def sources(incomplete: str) -> list[str]:
    """What SOURCE takes: names, folders and .onnx files."""
    return _with_paths((*PRESETS, *SHIPPED), incomplete, ".onnx")


def presets(incomplete: str) -> list[str]:
    """Presets and shipped checkpoints."""
    return _beginning((*PRESETS, *SHIPPED), incomplete)


def targets(incomplete: str) -> list[str]:
    """Targets by name, and target files."""
    from edgefusion.runtime.target import list_targets

    return _with_paths(list_targets(), incomplete, ".toml")


def schedules(incomplete: str) -> list[str]:
    """Schedules by name."""
    from edgefusion.compiler.schedule.schedule import SCHEDULES

    return _beginning((schedule.name for schedule in SCHEDULES), incomplete)


def noise_schedulers(incomplete: str) -> list[str]:
    """What denoises: the pipeline's own, or a scheduler of diffusers."""
    from edgefusion.models.noise_scheduler import SCHEDULERS

    return _beginning(("own", *SCHEDULERS), incomplete)


def bundles(incomplete: str) -> list[str]:
    """Bundles, and folders on the way to them."""
    return _with_paths((), incomplete, ".npub")


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _with_paths(names: Iterable[str], incomplete: str, suffix: str) -> list[str]:
    """Names, then folders (with a slash) and files that end in ``suffix``; none that are hidden,
    unless their dot was typed."""
    base, slash, name = incomplete.rpartition("/")
    try:
        there = sorted(Path(base + slash).expanduser().iterdir())
    except (OSError, RuntimeError):  # no such folder, no such user
        there = []
    shown = [each for each in there if name.startswith(".") or not each.name.startswith(".")]
    paths = [
        f"{base}{slash}{each.name}{'/' if each.is_dir() else ''}"
        for each in shown
        if each.is_dir() or each.suffix == suffix
    ]
    return [*_beginning(names, incomplete), *_beginning(paths, incomplete)]

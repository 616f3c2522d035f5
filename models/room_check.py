"""Whether memory and disk have room for a network's weights, before they are read or written.

Safetensors are read a weight at a time, and so are presets' drawn; a pickle is read whole. A
machine with too little memory for it would swap for hours, or end the process without a word.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgefusion.runtime.errors import DoesNotFitError

_BESIDE_BYTES = 2_500_000_000
"""What compiling takes beside such weights: 2.0 GB with XL's U-Net."""
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(what: str, pickled_bytes: int) -> None:
    """Raises DoesNotFitError where a pickle of that size, of ``what``, has no room. A machine that
    does not say how much memory is free is taken to have enough."""
    free = free_bytes()
    if free is None or pickled_bytes + _BESIDE_BYTES <= free:
        return
    raise DoesNotFitError(
        f"{what} has pickled weights of {pickled_bytes / 1e9:.1f} GB, which are read whole, and "
        f"compiling takes about {_BESIDE_BYTES / 1e9:.1f} GB more; {free / 1e9:.1f} GB of memory "
        "are free. Take the checkpoint's safetensors, which are read one by one, end what else "
        "fills memory, or choose other networks with --components."
    )


def check_disk(what: str, needed_bytes: int, folder: Path) -> None:
    """Raises DoesNotFitError where so much, of ``what``, has no room on the disk of ``folder``,
    which need not be there yet."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if needed_bytes > free:
        raise DoesNotFitError(
            f"{what} has {needed_bytes / 1e9:.1f} GB of weights in float32, which are written "
            f"below {folder}; {free / 1e9:.1f} GB are free there. Make room, or name a folder on "
            "a larger disk (compile: --work-dir)."
        )


def free_bytes() -> int | None:
    """Memory that a new process can have; None where the system does not say."""
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        stated = dict(line.split(":", 1) for line in lines)
        free = int(stated["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        return min(free, int(_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no limit, or "max"
        return free

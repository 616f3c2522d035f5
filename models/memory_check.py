"""Whether a network's weights have room in memory, before they are loaded.

Weights are loaded whole, in float32, one component at a time. A machine that has too little memory
for them would swap for hours, or end the process without a word.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.runtime.errors import DoesNotFitError

if TYPE_CHECKING:
    from edgefusion.models.network_architectures import NetworkArchitecture

_FLOAT_BYTES = 4
_BESIDE_BYTES = 1_500_000_000
"""What compiling takes beside the weights: 0.9 GB with XL's U-Net, 1.4 GB with PixArt's."""
_MEMORY = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(what: str, parameters: int) -> None:
    """Raises DoesNotFitError where so many ``parameters`` of ``what`` have no room. A machine that
    does not say how much memory is free is taken to have enough."""
    weights, free = parameters * _FLOAT_BYTES, free_bytes()
    if free is None or weights + _BESIDE_BYTES <= free:
        return
    raise DoesNotFitError(
        f"{what} has {parameters:,} parameters, {weights / 1e9:.1f} GB as they are loaded "
        f"(float32), and compiling takes about {_BESIDE_BYTES / 1e9:.1f} GB more; "
        f"{free / 1e9:.1f} GB of memory are free. Compile on a machine with more, end what else "
        "fills it, or choose other networks with --components."
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


@lru_cache(maxsize=64)
def parameter_count(network: NetworkArchitecture) -> int:
    """Of a preset's network, with what is built beside the part that is compiled."""
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network.build().parameters())

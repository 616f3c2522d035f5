"""The elementwise functions as torch defines them, in float64, by the names of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

F64 = npt.NDArray[np.float64]

_TORCH: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "softplus": lambda x: functional.softplus(x, threshold=100.0),  # beyond it, x to the last bit
    "hardswish": functional.hardswish,
}


def reference(name: str, x: npt.NDArray[Any]) -> F64:
    """``name`` of every element of ``x``, float64 of its shape."""
    wide = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    made: F64 = _TORCH[name](wide).numpy()
    return made

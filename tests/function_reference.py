"""The elementwise functions as torch defines them and as exporters write them, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edgefusion.runtime.functions import UNARY

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
    "sqrt": lambda x: torch.sqrt(x.clamp(min=0.0)),
    "softplus": lambda x: functional.softplus(x, threshold=100.0),  # beyond it, x to the last bit
    "mish": functional.mish,
    "hard_swish": functional.hardswish,
    "hard_sigmoid": functional.hardsigmoid,
}


OF_ALL_NUMBERS = tuple(name for name in UNARY if name != "sqrt")
"""Those that ONNX defines for negative numbers, too."""


def reference(name: str, x: npt.NDArray[Any]) -> F64:
    """``name`` of every element of ``x``, float64 of its shape."""
    wide = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    made: F64 = _TORCH[name](wide).numpy()
    return made


_WRITTEN_OUT = {
    "silu": "s = Sigmoid(m) y = Mul(m, s)",
    "quick_gelu": "c = Mul(m, factor) s = Sigmoid(c) y = Mul(m, s)",
}
_SETTINGS = {"gelu_tanh": '<approximate = "tanh">', "hard_sigmoid": "<alpha = 0.16666667>"}
_OPERANDS = {"relu6": ", zero, six"}

SCALARS = "float zero = {0}, float six = {6}, float factor = {1.702}"
"""The constants that ``source`` reads."""


def source(name: str) -> str:
    """ONNX text of ``y = name(m)`` as a model comes with it: standard ops."""
    if name in _WRITTEN_OUT:
        return _WRITTEN_OUT[name]
    op = UNARY[name].operator.op_type
    return f"y = {op}{_SETTINGS.get(name, '')}(m{_OPERANDS.get(name, '')})"

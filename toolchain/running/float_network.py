"""Any ONNX graph as a callable, computed by ONNX Runtime: what it cannot run is an InputError.

Inputs come by name and are given the type, and for a scalar the rank, that the graph declares, so
that graphs which declare the same inputs differently can be asked the same question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.models.text_to_image import Network
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.ort_session import telling
from edgefusion.toolchain.running.segments import session

Array = npt.NDArray[Any]

_TYPES = {
    "float": "float32",
    "double": "float64",
    **{name: name for name in ("float16", "bool", *(f"{u}int{n}" for u in ("", "u")
                                                    for n in (8, 16, 32, 64)))},
}  # fmt: skip


def float_network(
    model: onnx.ModelProto | Path, folder: Path | None, what: str, *, as_written: bool = False
) -> Network:
    """``model`` in ONNX Runtime (see ``segments.session``); ``what`` names it in errors.

    Raises InputError, here and when called, for what ONNX Runtime refuses.
    """
    runner = session(model, folder, what, as_written=as_written)
    names = [info.name for info in runner.get_outputs()]
    ports = {info.name: (info.type, info.shape) for info in runner.get_inputs()}

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        missing = sorted(ports.keys() - feeds.keys())
        if missing:
            raise InputError(f"{what} takes the input {missing[0]}, which was not given.")
        given = {name: _fitted(feeds[name], *port, what) for name, port in ports.items()}
        with telling(f"run {what}"):
            results = runner.run(names, given)
        return dict(zip(names, map(np.asarray, results), strict=True))

    return run


def _fitted(value: Array, kind: str, shape: list[int | str | None], what: str) -> Array:
    name = kind.removeprefix("tensor(").removesuffix(")")
    if name not in _TYPES:
        raise InputError(f"{what} takes an input of type {kind}, which numpy has not.")
    array = np.asarray(value)
    if array.size == 1 and len(shape) != array.ndim:
        array = array.reshape([1] * len(shape))
    return array.astype(_TYPES[name], copy=False)

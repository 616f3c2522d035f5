"""Any ONNX graph as a callable, computed by ONNX Runtime: what it cannot run is an InputError.

Inputs come by name and are given the type, and for a scalar the rank, that the graph declares, so
that graphs which declare the same inputs differently can be asked the same question. A graph of
many gigabytes runs as a chain of parts, not all of them in memory (``segments``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.graph.functions import DOMAIN
from edgefusion.models.text_to_image import Network
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.ort_session import telling
from edgefusion.toolchain.running.ports import declared_ports
from edgefusion.toolchain.running.segments import (
    KEPT_WEIGHT_BYTES,
    SegmentedModel,
    float_weight_bytes,
    session,
)

Array = npt.NDArray[Any]

_TYPES = {
    "float": "float32",
    "double": "float64",
    **{name: name for name in ("float16", "bool", *(f"{u}int{n}" for u in ("", "u")
                                                    for n in (8, 16, 32, 64)))},
}  # fmt: skip
_NAMES = {ours: theirs for theirs, ours in _TYPES.items()}
"""Of types in ONNX Runtime, by numpy's."""


def float_network(
    model: onnx.ModelProto | Path, folder: Path | None, what: str, *, as_written: bool = False
) -> Network:
    """``model`` in ONNX Runtime (see ``segments.session``); ``what`` names it in errors.

    Raises InputError, here and when called, for what ONNX Runtime refuses.
    """
    runner = _chain(model, folder, as_written=as_written) or _whole(
        model, folder, what, as_written=as_written
    )

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        missing = sorted(runner.ports.keys() - feeds.keys())
        if missing:
            raise InputError(f"{what} takes the input {missing[0]}, which was not given.")
        given = {name: _fitted(feeds[name], *port, what) for name, port in runner.ports.items()}
        with telling(f"run {what}"):
            return runner.run(given)

    return run


@dataclass(frozen=True, slots=True)
class _Runner:
    """What computes, and its inputs: type, as ONNX Runtime calls it, and shape."""

    run: Network
    ports: Mapping[str, tuple[str, Sequence[int | str | None]]]


def _whole(
    model: onnx.ModelProto | Path, folder: Path | None, what: str, *, as_written: bool
) -> _Runner:
    """All in one session."""
    made = session(model, folder, what, as_written=as_written)
    names = [info.name for info in made.get_outputs()]

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, map(np.asarray, made.run(names, dict(given))), strict=True))

    return _Runner(run, {info.name: (info.type, info.shape) for info in made.get_inputs()})


def _chain(
    model: onnx.ModelProto | Path, folder: Path | None, *, as_written: bool
) -> _Runner | None:
    """Of a model with more weights than sessions are kept of; None for others, and for one that
    cannot be cut."""
    if isinstance(model, Path):
        model, folder = onnx.load(model, load_external_data=False), model.parent
    if folder is None or float_weight_bytes(model) <= KEPT_WEIGHT_BYTES:
        return None
    if any(function.domain != DOMAIN for function in model.functions):
        return None
    model = expand_functions(model)  # types of all values, too
    constants = {tensor.name for tensor in model.graph.initializer}
    stated = {info.name for info in (*model.graph.value_info, *model.graph.output)}
    made = {name for node in model.graph.node for name in node.output if name}
    nested = any(a.HasField("g") or a.graphs for n in model.graph.node for a in n.attribute)
    if nested or made - stated:
        return None
    ports = {
        port.name: (f"tensor({_NAMES.get(port.dtype.name, port.dtype.name)})", port.shape)
        for port in declared_ports(model.graph.input)
        if port.name not in constants
    }
    return _Runner(SegmentedModel(model, folder, (), as_written=as_written).run, ports)


def _fitted(value: Array, kind: str, shape: Sequence[int | str | None], what: str) -> Array:
    name = kind.removeprefix("tensor(").removesuffix(")")
    if name not in _TYPES:
        raise InputError(f"{what} takes an input of type {kind}, which numpy has not.")
    array = np.asarray(value)
    if array.size == 1 and len(shape) != array.ndim:
        array = array.reshape([1] * len(shape))
    return array.astype(_TYPES[name], copy=False)

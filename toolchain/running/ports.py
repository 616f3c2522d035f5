"""The border of a component: arrays as its graph declares them, with the NPU's numbers between.

What goes in is checked against the declared shapes and types, and never changed in silence; what
comes out has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    import onnx

    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output as the graph declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def input_shapes(bundle: Bundle, component: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a component's inputs by name."""
    return {
        port.name: port.shape for port in declared_ports(bundle.graph_model(component).graph.input)
    }


def checked_inputs(bundle: Bundle, component: str, found: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays that a component takes, in its shapes and types.

    Raises InputError for missing or unknown names, other shapes, NaN and infinite values, and
    values that the type cannot hold: fractions or numbers out of range where integers are expected,
    and anything but 0 and 1 for booleans. Floats are rounded to the type expected.
    """
    ports = {port.name: port for port in declared_ports(bundle.graph_model(component).graph.input)}
    missing, unknown = sorted(ports.keys() - found.keys()), sorted(found.keys() - ports.keys())
    if missing or unknown:
        what = [f"lacks {', '.join(missing)}"] if missing else []
        what += [f"has {', '.join(unknown)}, which {component} does not take"] if unknown else []
        raise InputError(f"the input {' and '.join(what)}; expected {', '.join(ports)}.")
    checked = {}
    for name, port in ports.items():
        value = np.asarray(found[name])
        if value.shape != port.shape:
            raise InputError(f"the input {name} has shape {value.shape}; expected {port.shape}.")
        checked[name] = _held(port, value)
    return checked


def declared_outputs(
    graph: onnx.GraphProto, inputs: Mapping[str, Array], made: Mapping[str, Array]
) -> dict[str, Array]:
    """The outputs that a component's ``graph`` declares, in its order, shapes and element types.

    ``made`` are the executor's results, among them memory of which an output is a view; an output
    that is one of ``inputs`` is handed back.
    """
    found = {}
    for port in declared_ports(graph.output):
        value = np.asarray(made[port.name] if port.name in made else inputs[port.name])
        with np.errstate(over="ignore"):  # what is beyond FP16 is infinite there
            found[port.name] = value.reshape(port.shape).astype(port.dtype)
    return found


def _held(port: Port, value: Array) -> Array:
    """``value`` in the type of ``port``. Raises InputError where that would change what it says."""
    if value.dtype.kind not in "biuf":
        raise InputError(
            f"the input {port.name} holds {value.dtype} values; expected {port.dtype} numbers."
        )
    if not np.isfinite(value).all():
        raise InputError(f"the input {port.name} holds NaN or infinite values; expected numbers.")
    with np.errstate(over="ignore", invalid="ignore"):
        held: Array = value.astype(port.dtype)
    if port.dtype.kind == "f":
        lost = ~np.isfinite(held)
    else:  # a round trip tells fractions; a wrapped number comes back in another type's range
        limits = (0, 1) if port.dtype.kind == "b" else _limits(port.dtype)
        lost = (value < limits[0]) | (value > limits[1]) | (held.astype(value.dtype) != value)
    if lost.any():
        raise InputError(
            f"the input {port.name} holds {value[lost].flat[0]} ({value.dtype}), which "
            f"{port.dtype} cannot hold; expected {port.dtype} values. Convert the array."
        )
    return held


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def declared_ports(values: Iterable[onnx.ValueInfoProto]) -> list[Port]:
    """The inputs or outputs of a graph, whose shapes are static."""
    from onnx.helper import tensor_dtype_to_np_dtype

    return [
        Port(
            value.name,
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
            tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in values
    ]

"""Typed views of graphsurgeon's nodes and tensors; part of the facade in ``compiler.graph``.

A view is created once for each underlying object and hangs on it, so ``is`` and ``==`` agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgefusion.compiler.graph.scope import common_scope, exported_scope
from edgefusion.compiler.graph.weights import Array, Values, raw_values
from edgefusion.runtime.errors import InputError

Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]

ORIGIN_KEY = "edgefusion.origin"
SCOPE_KEY = "edgefusion.scope"
PREFIX = "edgefusion."


class Tensor:
    """A value in the graph: an input, a constant, or what a node makes."""

    __slots__ = ("is_output", "raw")

    def __init__(self, raw: gs.Tensor) -> None:
        """Use ``Tensor.of``."""
        self.raw = raw
        self.is_output = False  # kept by Graph

    @staticmethod
    def of(raw: gs.Tensor) -> Tensor:
        """The one view of ``raw``."""
        view = raw.__dict__.get("view")
        if view is None:
            view = raw.__dict__["view"] = Tensor(raw)
        assert isinstance(view, Tensor)
        return view

    @property
    def name(self) -> str:
        """Unique in the graph; '' for an absent optional operand."""
        return str(self.raw.name)

    @property
    def is_absent(self) -> bool:
        """Whether this stands for an optional operand that was left out."""
        return not self.raw.name

    @property
    def has_shape(self) -> bool:
        """Whether shape and type are known and static."""
        shape = self.raw.shape
        return (
            shape is not None
            and self.raw.dtype is not None
            and all(isinstance(size, int | np.integer) for size in shape)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape."""
        if not self.has_shape:
            raise InputError(
                f"expected a static shape of '{self.name}', got {self.raw.shape}; "
                "export the model with fixed input sizes"
            )
        return tuple(int(size) for size in self.raw.shape)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        dtype = self.raw.dtype
        if isinstance(dtype, int):  # types that numpy lacks, such as bfloat16
            dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
        result: np.dtype[Any] = np.dtype(dtype)
        return result

    @property
    def is_constant(self) -> bool:
        """Whether the values are known at compile time."""
        return isinstance(self.raw, gs.Constant)

    @property
    def lazy(self) -> Values:
        """A constant's values, unread."""
        if not self.is_constant:
            raise TypeError(f"tensor '{self.name}' is not a constant")
        return raw_values(self.raw)

    def values(self) -> Array:
        """A constant's values (a view of the file where possible; not cached)."""
        return self.lazy.load()

    def scalar(self) -> float | None:
        """The one value of a constant with one element; None for anything else."""
        if not self.is_constant or self.lazy.nbytes != self.dtype.itemsize:
            return None
        return float(self.values().reshape(()))

    @property
    def producer(self) -> Node | None:
        """The node that makes this tensor; None for inputs and constants."""
        return Node.of(self.raw.inputs[0]) if self.raw.inputs else None

    @property
    def consumers(self) -> tuple[Node, ...]:
        """The nodes that read this tensor, each once."""
        return tuple({Node.of(raw): None for raw in self.raw.outputs})

    @property
    def only_consumer(self) -> Node | None:
        """The single node that reads this tensor, if nobody else wants it."""
        consumers = self.consumers
        return consumers[0] if len(consumers) == 1 and not self.is_output else None

    def __repr__(self) -> str:
        """For debuggers and assertion messages."""
        return f"Tensor({self.name!r}, {self.raw.dtype}{list(self.raw.shape or ())})"


class Node:
    """An op of the graph."""

    __slots__ = ("annotations", "origin", "raw", "removed", "scope")

    def __init__(self, raw: gs.Node) -> None:
        """Use ``Graph.add`` or ``Graph.fuse``."""
        self.raw = raw
        self.origin: tuple[str, ...] = (raw.name,)
        self.scope = ""
        self.annotations: dict[str, str] = {}
        self.removed = False
        raw.__dict__["view"] = self

    @staticmethod
    def of(raw: gs.Node) -> Node:
        """The view of ``raw``."""
        view = raw.__dict__["view"]
        assert isinstance(view, Node)
        return view

    @property
    def op(self) -> str:
        """Operator name."""
        return str(self.raw.op)

    @property
    def domain(self) -> str:
        """Operator domain: '' for the standard one, 'edgefusion' for fused ops."""
        return str(self.raw.domain or "")

    @property
    def name(self) -> str:
        """Unique in the graph."""
        return str(self.raw.name)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Operands; absent optional ones have ``is_absent``."""
        return tuple(Tensor.of(raw) for raw in self.raw.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Results."""
        return tuple(Tensor.of(raw) for raw in self.raw.outputs)

    @property
    def output(self) -> Tensor:
        """The first result."""
        return Tensor.of(self.raw.outputs[0])

    def input(self, index: int) -> Tensor | None:
        """Operand ``index``, or None if it was left out."""
        if index >= len(self.raw.inputs):
            return None
        tensor = Tensor.of(self.raw.inputs[index])
        return None if tensor.is_absent else tensor

    def set_input(self, index: int, tensor: Tensor) -> None:
        """Read ``tensor`` as operand ``index``. The caller keeps the graph in order."""
        self.raw.inputs[index] = tensor.raw

    @property
    def attrs(self) -> Mapping[str, Any]:
        """All attributes."""
        return dict(self.raw.attrs)

    def get_int(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""
        return int(self._attribute(name, default))

    def get_float(self, name: str, default: float | None = None) -> float:
        """A float attribute."""
        return float(self._attribute(name, default))

    def get_str(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        value = self._attribute(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def get_ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(int(value) for value in self._attribute(name, default))

    def _attribute(self, name: str, default: Any) -> Any:
        value = self.raw.attrs.get(name, default)
        if value is None:
            raise InputError(
                f"{self.op} '{self.name}' (from {', '.join(self.origin)}): attribute '{name}' is "
                "missing; check the model with onnx.checker"
            )
        return value

    def inherit(self, nodes: Sequence[Node]) -> None:
        """Stand for ``nodes``: their origins, the scope they share, annotations they agree on."""
        if not nodes:
            self.origin = ()
            return
        self.origin = tuple(dict.fromkeys(name for node in nodes for name in node.origin))
        self.scope = common_scope([node.scope for node in nodes])
        first, *rest = nodes
        self.annotations = {
            key: value
            for key, value in first.annotations.items()
            if all(node.annotations.get(key) == value for node in rest)
        }

    def metadata(self) -> dict[str, str]:
        """What is written to ``metadata_props``."""
        props = {PREFIX + key: value for key, value in self.annotations.items()}
        props[ORIGIN_KEY] = json.dumps(self.origin)
        props[SCOPE_KEY] = self.scope
        return dict(sorted(props.items()))

    def restore(self, props: Mapping[str, str]) -> None:
        """Take back what ``metadata`` gave, or read what exporters write."""
        for key, value in props.items():
            if key == ORIGIN_KEY:
                self.origin = _stored_origin(self.name, value)
            elif key == SCOPE_KEY:
                self.scope = value
            elif key.startswith(PREFIX):
                self.annotations[key.removeprefix(PREFIX)] = value
        if SCOPE_KEY not in props:
            self.scope = exported_scope(props)

    def __repr__(self) -> str:
        """For debuggers and assertion messages."""
        return f"Node({self.op} {self.name!r})"


def _stored_origin(node: str, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"node '{node}': its metadata {ORIGIN_KEY} is {text[:60]!r}; expected the source "
            "nodes' names as JSON. Remove the entry, or compile the model again."
        )
    return tuple(names)

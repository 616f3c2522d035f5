"""The ONNX graph as passes see it: typed nodes and tensors that keep their origin.

A facade over onnx-graphsurgeon, which calls a tensor's producers its ``inputs`` and reads weights
into memory for good; neither shows here. Weights stay in their files (``compiler.graph.weights``).

Invariants:
* shapes are static and known; ``Constant`` nodes have become constants; names are unique;
* an output is made by a node, or is an input;
* ``Node`` and ``Tensor`` objects are identity-stable: one object a node, compare with ``is``;
* every node knows the source ONNX nodes it stands for (``origin``), the module it came from
  (``scope``) and its ``annotations``; all three survive saving and loading, as ``metadata_props``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgefusion.compiler.graph import file as graph_file
from edgefusion.compiler.graph.named_outputs import make_constant_outputs
from edgefusion.compiler.graph.node import Attribute, Node, Tensor
from edgefusion.compiler.graph.order import topological
from edgefusion.compiler.graph.weights import Array, ArrayValues, DeferredValues, values_by_name
from edgefusion.runtime.errors import InputError, UnsupportedOpError

__all__ = ["Attribute", "Graph", "Node", "Tensor"]

DOMAIN = "edgefusion"


class Graph:
    """A mutable graph of nodes in topological order, with its constants and local functions."""

    def __init__(self, raw: gs.Graph, functions: Mapping[str, onnx.FunctionProto]) -> None:
        """Use ``Graph.load`` or ``Graph.from_model``."""
        self._raw = raw
        self._nodes: list[Node] = []
        self._sorted = False
        self._counter: dict[str, int] = {}
        self._names: set[str] = set()
        self.functions: dict[str, onnx.FunctionProto] = dict(functions)
        for node in raw.nodes:
            self._nodes.append(Node(node))
            self._names.add(node.name)
        self._names.update(raw.tensors())
        for tensor in raw.outputs:
            Tensor.of(tensor).is_output = True

    # Reading and writing

    @classmethod
    def load(cls, path: Path | str) -> Graph:
        """Open an ``.onnx`` file. Weights are not read.

        Raises:
            InputError: not an ONNX file, external data damaged, or shapes that are not static.
            UnsupportedOpError: control flow.
        """
        model, base = graph_file.read(Path(path))
        return cls.from_model(model, base)

    @classmethod
    def from_model(cls, model: onnx.ModelProto, base: Path | None = None) -> Graph:
        """Take over ``model``; ``base`` is the folder of its external data."""
        model = graph_file.normalized(model)
        make_constant_outputs(model)
        values = values_by_name(model.graph.initializer, base)
        metadata = {node.name: graph_file.metadata(node) for node in model.graph.node}
        functions = {function.name: function for function in model.functions}
        del model.functions[:]
        raw = gs.import_onnx(model)
        for tensor in raw.tensors().values():
            if isinstance(tensor, gs.Constant):
                tensor._values = values[tensor.name]
                tensor.data_location = None
        graph = cls(raw, functions)
        for node in graph._nodes:
            node.restore(metadata[node.name])
        graph.infer_missing_shapes()
        return graph

    def to_model(self, *, with_weights: bool = True) -> onnx.ModelProto:
        """An ONNX model that holds its weights, or only refers to the large ones.

        Without weights it is for checkers and shape inference: constants above 1 KiB have no bytes.
        """
        model = self._export()
        constants = {tensor.name: tensor for tensor in self.constants}
        for proto in model.graph.initializer:
            values = constants[proto.name].lazy
            if with_weights or values.nbytes < graph_file.INLINE_BYTES:
                graph_file.fill_inline(proto, values)
        return model

    def save(self, graph_path: Path | str, weights_path: Path | str) -> None:
        """Write the graph, and its weights as safetensors that the graph refers to.

        The weights stream through memory one tensor at a time. ONNX Runtime and Netron open the
        graph as it lies there; the weights must be in the graph's folder (or below).
        """
        graph_file.write(
            self._export(),
            {tensor.name: tensor.lazy for tensor in self.constants},
            Path(graph_path),
            Path(weights_path),
        )

    def _export(self) -> onnx.ModelProto:
        self._raw.nodes = [node.raw for node in self.nodes]
        model: onnx.ModelProto = gs.export_onnx(self._raw, do_type_check=False)
        for proto, node in zip(model.graph.node, self.nodes, strict=True):
            for key, value in node.metadata().items():
                proto.metadata_props.add(key=key, value=value)
        used = {node.op for node in self.nodes if node.domain == DOMAIN}
        model.functions.extend(self.functions[name] for name in sorted(used & set(self.functions)))
        model.producer_name = "edgefusion"
        return model

    # Looking

    @property
    def name(self) -> str:
        """Name of the graph, as its file says it."""
        return str(self._raw.name)

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return int(self._raw.opset)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, topologically sorted; a snapshot, so the graph may change while iterating."""
        if not self._sorted:
            self._nodes = topological(self._nodes)
            self._sorted = True
        return tuple(self._nodes)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The graph's inputs."""
        return tuple(Tensor.of(raw) for raw in self._raw.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The graph's outputs."""
        return tuple(Tensor.of(raw) for raw in self._raw.outputs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor that a node or the graph's interface names, in order of appearance."""
        seen: dict[Tensor, None] = dict.fromkeys(self.inputs)
        for node in self.nodes:
            seen.update(dict.fromkeys(t for t in (*node.inputs, *node.outputs) if not t.is_absent))
        seen.update(dict.fromkeys(self.outputs))
        return tuple(seen)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """Every constant that a node reads (or that is a graph output)."""
        return tuple(tensor for tensor in self.tensors if tensor.is_constant)

    def find(self, name: str) -> Node:
        """The node called ``name``; KeyError if there is none."""
        for node in self._nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    # Changing

    def unique_name(self, wish: str) -> str:
        """A name that nothing in the graph has: ``wish``, or ``wish_1`` and so on."""
        name = wish
        while name in self._names or not name:
            self._counter[wish] = self._counter.get(wish, 0) + 1
            name = f"{wish}_{self._counter[wish]}"
        self._names.add(name)
        return name

    def tensor(self, wish: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Tensor:
        """A new activation without producer or consumers."""
        return Tensor.of(gs.Variable(self.unique_name(wish), dtype, list(shape)))

    def constant(self, wish: str, values: Array) -> Tensor:
        """A new constant that holds ``values`` (shared, not copied)."""
        return Tensor.of(gs.Constant(self.unique_name(wish), ArrayValues(values)))

    def deferred_constant(
        self, wish: str, shape: Sequence[int], dtype: np.dtype[Any], compute: Callable[[], Array]
    ) -> Tensor:
        """A new constant whose values ``compute()`` makes each time they are read."""
        values = DeferredValues(tuple(shape), np.dtype(dtype), compute)
        return Tensor.of(gs.Constant(self.unique_name(wish), values))

    def reshaped_constant(self, wish: str, constant: Tensor, shape: Sequence[int]) -> Tensor:
        """A new constant: the values of ``constant`` under another shape, unread."""
        values = constant.lazy.reshaped(tuple(shape))
        return Tensor.of(gs.Constant(self.unique_name(wish), values))

    def add(
        self,
        op: str | onnx.FunctionProto,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        source: Iterable[Node] = (),
        name: str = "",
        domain: str = "",
        before: Node | None = None,
    ) -> Node:
        """Add a node that makes ``outputs``, which must have no producer yet.

        A FunctionProto as ``op`` is defined in the graph and called. ``source`` gives the origin,
        scope and annotations; ``before`` the place (default: the end), as far as the data allow.
        """
        if isinstance(op, onnx.FunctionProto):
            self.define(op)
            domain, op = op.domain, op.name
        source = list(source)
        raw = gs.Node(
            op,
            self.unique_name(name or f"{source[-1].name if source else op}"),
            dict(attrs or {}),
            [gs.Variable.empty() if tensor is None else tensor.raw for tensor in inputs],
            [tensor.raw for tensor in outputs],
            domain or None,
        )
        node = Node(raw)
        node.inherit(source)
        self._nodes.insert(self._nodes.index(before) if before else len(self._nodes), node)
        self._sorted = False
        return node

    def fuse(
        self,
        nodes: Sequence[Node],
        op: str | onnx.FunctionProto,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        domain: str = "",
        name: str = "",
    ) -> Node:
        """One new node takes the place of ``nodes`` and makes ``outputs`` in their stead.

        Origins are merged; the scope is the common prefix of the scopes. Those of ``nodes`` whose
        other results are still wanted by someone stay; the rest go.
        """
        ordered = sorted(nodes, key=self._nodes.index)
        last = ordered[-1]
        makers = [tensor.producer for tensor in outputs]
        for tensor in outputs:
            tensor.raw.inputs.clear()
        fused = self.add(
            op, inputs, outputs, attrs, source=ordered, name=name, domain=domain, before=last
        )
        self._drop_dead(ordered)
        alive = [maker for maker in makers if maker is not None and not maker.removed]
        if alive:
            raise ValueError(f"{alive[0]} makes more than what '{fused.name}' takes over")
        if not name and last.removed:
            self._names.discard(fused.name)
            fused.raw.name = self.unique_name(last.name)
        return fused

    def rewire(self, old: Tensor, new: Tensor) -> None:
        """Everything that read ``old`` reads ``new`` from now on.

        If ``old`` is a graph output, its producer keeps the name: ``new``'s producer writes ``old``
        itself, so that the graph's interface stays; this needs ``new`` to have a producer.
        """
        if old.is_output:
            producer = new.producer
            if producer is None or new.is_output:
                raise ValueError(f"graph output '{old.name}' cannot become '{new.name}'")
            old.raw.inputs.clear()
            position = producer.outputs.index(new)
            producer.raw.outputs[position] = old.raw
            old, new = new, old
        for raw in list(old.raw.outputs):
            for position, tensor in enumerate(raw.inputs):
                if tensor is old.raw:
                    raw.inputs[position] = new.raw
        self._sorted = False

    def rename(self, node: Node, wish: str) -> None:
        """Call ``node`` ``wish``, or as near to it as names that are taken allow."""
        self._names.discard(node.name)
        node.raw.name = self.unique_name(wish)

    def remove(self, node: Node) -> None:
        """Take ``node`` out; its outputs must have no readers left."""
        self._nodes.remove(node)
        self._names.discard(node.name)
        node.raw.inputs.clear()
        node.raw.outputs.clear()
        node.removed = True

    def prune(self) -> tuple[Node, ...]:
        """Remove the nodes whose results nobody reads; returns them."""
        before = self.nodes
        self._drop_dead(before)
        return tuple(node for node in before if node.removed)

    def define(self, function: onnx.FunctionProto) -> None:
        """Make a local function known; defining the same function again does nothing."""
        known = self.functions.setdefault(function.name, function)
        if known != function:
            raise ValueError(f"function '{function.name}' is defined already, with another body")

    def infer_missing_shapes(self) -> None:
        """Infer the shapes and types of tensors that have none; InputError if that fails."""
        unknown = [t for t in self.tensors if not t.has_shape]
        if not unknown:
            return
        inferred = graph_file.inferred_types(self.to_model(with_weights=False))
        for tensor in unknown:
            found = inferred.get(tensor.name)
            if found is None:
                raise _unknown_shape(tensor)
            tensor.raw.shape, tensor.raw.dtype = list(found[0]), found[1]

    def _drop_dead(self, candidates: Iterable[Node]) -> None:
        """Remove those candidates whose outputs nobody reads, consumers first."""
        for node in reversed(list(candidates)):
            if not node.removed and not any(t.is_output or t.consumers for t in node.outputs):
                self.remove(node)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.nodes)} nodes>"


def _unknown_shape(tensor: Tensor) -> InputError | UnsupportedOpError:
    by = tensor.producer
    if by is not None and by.domain not in ("", DOMAIN):
        return UnsupportedOpError(
            f"{by.domain}.{by.op} '{by.name}' is no standard op, and its results have no shapes; "
            "export the model with standard ops, or with shapes in its value_info"
        )
    return InputError(
        f"expected static shapes, but the shape of '{tensor.name}' "
        f"({f'made by {by.op} {by.name!r}' if by else 'a graph input'}) is not known; "
        "export the model with fixed input sizes"
    )

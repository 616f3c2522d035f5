"""A model run a block at a time, every wanted inner value shown once and then forgotten.

Asking ONNX Runtime for all inner values of a U-Net would keep them all (several gigabytes, most of
it attention scores), and it holds the weights of a whole graph in FP32, some of them twice. So the
graph is cut into segments whose shown values and weights stay below budgets, at the narrowest place
of each stretch; what crosses a cut is all that outlives its segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgefusion.runtime.ort_session import open_session, session_options, telling

Array = npt.NDArray[Any]
Observe = Callable[[str, Array], None]

DEFAULT_BUDGET_BYTES = 128 << 20
KEPT_WEIGHT_BYTES = 4 << 30
"""Of FP32 weights, those of sessions that are kept from one evaluation to the next."""
SEGMENT_WEIGHT_BYTES = 1 << 30
"""Of FP32 weights, those of one segment."""
_UNKNOWN_BYTES = 1 << 40
"""Of a value whose shape is not known: nowhere to cut, if there is another place."""


def session(
    model: onnx.ModelProto | Path,
    folder: Path | None = None,
    what: str = "the graph",
    *,
    as_written: bool = False,
) -> ort.InferenceSession:
    """An ONNX Runtime session that computes in FP32; ``folder`` holds the external data, ``what``
    names the model in errors.

    ``as_written`` runs the graph node by node, without ONNX Runtime's own rewriting.

    Without arena and patterns memory is given back between runs; threads that wait sleep, for the
    sessions of a chain run one after another. Raises InputError for what ONNX Runtime cannot load.
    """
    options = session_options()
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder.resolve())
        )
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return open_session(content, what, options)


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes ``first`` up to ``last`` of a graph: what they read from before, what they hand on
    (``kept``: needed later or an output of the graph), and which of their values are shown."""

    first: int
    last: int
    inputs: tuple[str, ...]
    kept: tuple[str, ...]
    shown: tuple[str, ...]


class SegmentedModel:
    """A model of standard ops as a chain of sessions, made when first run. The first of them are
    kept, as many as have ``kept_weight_bytes``; of the others one at a time is in memory."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        shown: Iterable[str],
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
        kept_weight_bytes: int = KEPT_WEIGHT_BYTES,
        *,
        as_written: bool = False,
    ) -> None:
        """``model`` with types of all values, its external data in ``folder``; see
        ``session`` for ``as_written``."""
        self._model, self._folder, self._as_written = model, folder, as_written
        nodes = model.graph.node
        self._types = {
            info.name: info
            for info in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        }
        self._weights = {t.name: _float_bytes(t) for t in model.graph.initializer}
        self._inputs = tuple(
            info.name for info in model.graph.input if info.name not in self._weights
        )
        self._shown = frozenset(shown)
        self._sessions: dict[Segment, ort.InferenceSession] = {}
        self.segments = _segments(
            model.graph,
            self._shown,
            self._nbytes,
            [
                [self._shown_bytes(n.output) / budget_bytes for n in nodes],
                [self._weight_bytes(n.input) / SEGMENT_WEIGHT_BYTES for n in nodes],
            ],
        )
        weights = accumulate(
            self._weight_bytes({name for node in nodes[s.first : s.last] for name in node.input})
            for s in self.segments
        )
        self._kept = {
            segment
            for segment, nbytes in zip(self.segments, weights, strict=True)
            if nbytes <= kept_weight_bytes
        }

    def run(
        self,
        feeds: Mapping[str, Array],
        observe: Observe | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Array]:
        """The graph's outputs by name; each shown value goes to ``observe``, inputs first."""
        wanted = {info.name for info in self._model.graph.output}
        alive = {name: feeds[name] for name in self._inputs}
        if observe is not None:
            for name in self._shown & alive.keys():
                observe(name, alive[name])
        for index, segment in enumerate(self.segments):
            if progress is not None:
                progress(index, len(self.segments))
            names = list(dict.fromkeys((*segment.kept, *segment.shown)))
            given = {name: alive[name] for name in segment.inputs}
            with telling("run the graph"):
                found = self._session(segment).run(names, given)
            results = dict(zip(names, found, strict=True))
            if observe is not None:
                for name in segment.shown:
                    observe(name, np.asarray(results[name]))
            alive |= {name: np.asarray(results[name]) for name in segment.kept}
            del results, found
            later = {name for s in self.segments[index + 1 :] for name in s.inputs} | wanted
            alive = {name: value for name, value in alive.items() if name in later}
        return alive

    def _session(self, segment: Segment) -> ort.InferenceSession:
        if segment in self._sessions:
            return self._sessions[segment]
        made = session(self._extract(segment), self._folder, as_written=self._as_written)
        if segment in self._kept:
            self._sessions[segment] = made
        return made

    def _shown_bytes(self, names: Iterable[str]) -> int:
        return sum(self._nbytes(name) or 0 for name in names if name in self._shown)

    def _weight_bytes(self, names: Iterable[str]) -> int:
        return sum(self._weights.get(name, 0) for name in names)

    def _extract(self, segment: Segment) -> onnx.ModelProto:
        source = self._model.graph
        part = onnx.ModelProto(
            ir_version=self._model.ir_version, opset_import=self._model.opset_import
        )
        part.graph.name = f"{source.name}:{segment.first}"
        part.graph.node.extend(source.node[segment.first : segment.last])
        read = {name for node in part.graph.node for name in node.input}
        part.graph.initializer.extend(t for t in source.initializer if t.name in read)
        part.graph.input.extend(self._types[name] for name in segment.inputs)
        names = dict.fromkeys((*segment.kept, *segment.shown))
        part.graph.output.extend(self._types[name] for name in names)
        return part

    def _nbytes(self, name: str) -> int | None:
        """None for a value whose shape is not known."""
        tensor = self._types[name].type.tensor_type
        if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)
        return itemsize * prod(int(dim.dim_value) for dim in tensor.shape.dim)


def _segments(
    graph: onnx.GraphProto,
    shown: frozenset[str],
    nbytes: Callable[[str], int | None],
    loads: Sequence[Sequence[float]],
) -> tuple[Segment, ...]:
    """Cut ``graph`` where little crosses, as soon as one of the ``loads``, by node as shares of
    budgets, exceeds its own."""
    nodes = graph.node
    outputs = {info.name for info in graph.output}
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    last_use = {name: len(nodes) if name in outputs else i for name, i in maker.items()}
    for index, node in enumerate(nodes):
        for name in node.input:
            if name in maker:
                last_use[name] = max(last_use[name], index)
    crossing = _crossing(len(nodes), maker, last_use, nbytes)
    cuts = [0]
    for index in range(1, len(nodes)):
        begin = cuts[-1]
        if _most(loads, begin, index + 1) > 1:
            # Not too early either: the first half of the budget belongs together.
            half = [i for i in range(begin + 1, index) if 2 * _most(loads, begin, i) >= 1]
            cuts.append(min([*half, index], key=lambda i: (crossing[i], -i)))
    bounds = list(zip(cuts, [*cuts[1:], len(nodes)], strict=True))
    return tuple(_segment(graph, first, last, maker, last_use, shown) for first, last in bounds)


def _most(loads: Sequence[Sequence[float]], first: int, last: int) -> float:
    return max(sum(load[first:last]) for load in loads)


def _float_bytes(tensor: onnx.TensorProto) -> int:
    """Of a constant, as the FP32 that INT8 weights become when a session is made."""
    return 4 * int(prod(tensor.dims))


def float_weight_bytes(model: onnx.ModelProto) -> int:
    """What the weights of ``model`` have in FP32."""
    return sum(map(_float_bytes, model.graph.initializer))


def _crossing(
    count: int,
    maker: Mapping[str, int],
    last_use: Mapping[str, int],
    nbytes: Callable[[str], int | None],
) -> list[int]:
    """Bytes made before node i and read from it on, for every i."""
    change = [0] * (count + 2)
    for name, made in maker.items():
        if last_use[name] > made:
            size = nbytes(name)
            size = _UNKNOWN_BYTES if size is None else size
            change[made + 1] += size
            change[last_use[name] + 1] -= size
    totals: list[int] = []
    for step in change[: count + 1]:
        totals.append(step + (totals[-1] if totals else 0))
    return totals


def _segment(
    graph: onnx.GraphProto,
    first: int,
    last: int,
    maker: Mapping[str, int],
    last_use: Mapping[str, int],
    shown: frozenset[str],
) -> Segment:
    nodes: Sequence[onnx.NodeProto] = graph.node[first:last]
    constants = {tensor.name for tensor in graph.initializer}
    external = {info.name for info in graph.input} - constants
    read = dict.fromkeys(name for node in nodes for name in node.input)
    made = [name for node in nodes for name in node.output if name]
    return Segment(
        first,
        last,
        tuple(n for n in read if n in external or maker.get(n, last) < first),
        tuple(name for name in made if last_use[name] >= last),
        tuple(name for name in made if name in shown),
    )

"""Networks that a pipeline's folder holds as ONNX graphs, one a folder, as optimum exports them.

They keep their exporter's names and open sizes in the file. Here inputs and results get the names
of their kind of network, and sizes are those of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgefusion.models.onnx_source import check_onnx, read_graph
from edgefusion.models.weight_files import SAFETENSORS
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from edgefusion.models.families.family import Part
    from edgefusion.models.networks.kind import Port, Signature

GRAPH_FILE = "model.onnx"
_WEIGHTS = (SAFETENSORS, ".bin")
_AGAIN = "Export the pipeline again with optimum, all sizes open, or compile its torch weights."


def given_as_graph(folder: Path, part: Part) -> Part | None:
    """``part`` as the graph that the pipeline in ``folder`` has in place of weights, in a folder
    called as the part's or as its component; None where there is none."""
    weights = (path.suffix for path in (folder / part.folder).glob("*"))
    if any(suffix in _WEIGHTS for suffix in weights):
        return None
    for name in dict.fromkeys((part.component, part.folder)):
        if (folder / name / GRAPH_FILE).is_file():
            return replace(part, folder=name, graph=GRAPH_FILE)
    return None


@dataclass(frozen=True, slots=True)
class GivenGraph:
    """The graph at ``path``, and what the pipeline expects of it: ``inputs`` and ``outputs`` by the
    graph's names, inputs with as many axes as there."""

    path: Path
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]

    @classmethod
    def of(cls, path: Path, part: Part, config: Any, signature: Signature) -> GivenGraph:
        """Checked by the graph's header: no weight is read.

        Raises InputError for a graph with other inputs, without a result that is needed, or made
        for other sizes.
        """
        graph = read_graph(path).graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = {value.name: value for value in graph.input if value.name not in weights}
        outputs = {value.name: value for value in graph.output}

        def by_their_name(ports: Iterable[Port], there: Iterable[str]) -> dict[str, Port]:
            names = set(there)
            return {
                p.name if p.name in names else part.kind.exported_name(p.name, config): p
                for p in ports
            }

        found = cls(
            path,
            by_their_name(signature.inputs, inputs),
            by_their_name(signature.outputs, outputs),
        )
        if set(inputs) != set(found.inputs):
            raise InputError(
                f"{path} has the inputs {_listed(inputs)}; expected {_listed(found.inputs)}, which "
                f"are what its config.json and the pipeline give it. {_AGAIN}"
            )
        if missing := [name for name in found.outputs if name not in outputs]:
            raise InputError(
                f"{path} makes {_listed(outputs)}, and not {_listed(missing)}, which the pipeline "
                f"needs of it. {_AGAIN}"
            )
        fitted = {name: _fitted(path, inputs[name], port) for name, port in found.inputs.items()}
        return replace(found, inputs=fitted)

    def imported(self) -> ir.Model:
        """The graph at our operator set, in float32, with the sizes, names and results of the
        pipeline alone; weights stay in their files. Raises InputError as ``check_onnx``."""
        shapes = {name: port.shape for name, port in self.inputs.items()}
        model = ir.from_proto(check_onnx(self.path, shapes=shapes))
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        outputs = {value.name: value for value in graph.outputs}
        graph.inputs[:] = [inputs[name] for name in self.inputs]
        graph.outputs[:] = [outputs[name] for name in self.outputs]
        RemoveUnusedNodesPass()(model)
        ports = {**self.inputs, **self.outputs}
        _rename(graph, {name: port.name for name, port in ports.items()})
        return model


def _rename(graph: ir.Graph, names: dict[str, str]) -> None:
    """Values by new names, and those that bore one of these by others."""
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph for value in node.outputs]
    taken = {value.name for value in values} | set(names.values())
    wanted = {new for old, new in names.items() if new != old}
    for value in values:
        if value.name in names:
            value.name = names[value.name]
        elif value.name in wanted:
            own, count = value.name, 1
            while (free := f"{own}.{count}") in taken:
                count += 1
            value.name = free
            taken.add(free)


def _fitted(path: Path, value: onnx.ValueInfoProto, port: Port) -> Port:
    """``port`` with the axes of ``value``. Open sizes may become anything; one number may stand
    without an axis. Raises InputError where sizes are others."""
    sizes = _sizes(value)
    if not sizes and port.shape == (1,):
        return replace(port, shape=())
    fit = len(sizes) == len(port.shape)
    if not fit or any(n not in (None, size) for n, size in zip(sizes, port.shape, strict=True)):
        stated = "x".join("?" if n is None else str(n) for n in sizes)
        raise InputError(
            f"{path} was exported for {value.name} of {stated}; expected "
            f"{'x'.join(map(str, port.shape))}, by the pipeline's configuration, and --height and "
            f"--width where they are given. {_AGAIN}"
        )
    return port


def _sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """None for open ones."""
    shape = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.dim_value > 0 else None for d in shape)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"

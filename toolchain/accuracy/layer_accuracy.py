"""Where a network loses accuracy: every op's error, alone and accumulated, and what causes it.

Three executions of the same inputs are compared, op by op:

* the FP32 reference with the source's weights, in ONNX Runtime;
* the program with every stored tensor replaced by the reference, rounded to its scale
  (``runtime.store_watch``): an op's **isolated** error, as it reads reference values;
* the program as it is: the **accumulated** error.

The isolated error is split by running the op in FP32 between the two, y being its result:

    y(x, w) -> y(x, w') -> y(x', w') -> rounded y(x', w') -> y without tables -> the program's y
          weights       inputs        output        requantization          tables

w' are the bundle's weights, x' the reference's inputs rounded as stored. The five differences add
up to the error exactly; their powers do so as far as they are uncorrelated. ``inputs`` and
``output`` are the rounding of activations; ``output`` includes what is clipped, whose own power is
``clipping``. ``y without tables`` is the program once more with every table replaced by its
function in float64 (``runtime.kernels.exact_tables``): what it lacks against the ideal rounding is
``requantization``, all integer roundings inside the op (multipliers of 15 bits, roundings between
an op and its epilogue, the fixed-point statistics of norms); what is left are the ``tables``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.lowering.lower import stripes
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.accuracy import NO_NOISE, Noise, noise_of
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.functions import UNARY
from edgefusion.runtime.isa import DType, Opcode
from edgefusion.runtime.kernels.exact_tables import exact_tables
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.opcodes import SPECIFICATIONS
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.program import Program, TensorRecord
from edgefusion.runtime.store_watch import StoreWatch, Whole, reference_name
from edgefusion.runtime.stored_values import from_real, to_real
from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph
from edgefusion.toolchain.accuracy.op_session import OpGraph
from edgefusion.toolchain.running.attention_parts import attention_in_parts
from edgefusion.toolchain.running.segments import DEFAULT_BUDGET_BYTES, SegmentedModel

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

CAUSES = ("weights", "inputs", "output", "requantization", "tables")
"""What an op's isolated error is made of; see above. ``clipping`` is a part of ``output``."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """Errors of one op at one timestep. ``causes`` are noise powers by name (``CAUSES`` and
    ``clipping``), empty where the op could not be run alone; ``clipped`` results of it saturate."""

    isolated: Noise = NO_NOISE
    accumulated: Noise = NO_NOISE
    causes: Mapping[str, float] = field(default_factory=dict)
    clipped: int = 0

    def own_noise(self, *, reads_input: bool = False) -> float:
        """Noise power that the op's arithmetic adds: not what its weights' rounding costs, nor what
        its operands' (which their makers answer for), unless it ``reads_input``s of the graph."""
        if not self.causes:
            return self.isolated.noise
        left_out = ("weights",) if reads_input else ("weights", "inputs")
        return sum(self.causes[name] for name in CAUSES if name not in left_out)

    def __add__(self, other: LayerError) -> LayerError:
        names = {**self.causes, **other.causes}
        return LayerError(
            self.isolated + other.isolated,
            self.accumulated + other.accumulated,
            {n: self.causes.get(n, 0.0) + other.causes.get(n, 0.0) for n in names},
            self.clipped + other.clipped,
        )


_TABLE_OPCODES = [code for code, each in SPECIFICATIONS.items() if each.tabulated]


class LayerProbe:
    """Measures one component; ``executor`` runs ``program``, which is that of ``network`` on
    ``machine``, ``graph`` is the bundle's."""

    def __init__(
        self,
        program: Program,
        executor: Executor,
        network: Network,
        machine: Machine,
        graph: onnx.ModelProto,
        constants: Mapping[str, Array],
        reference: ReferenceGraph,
    ) -> None:
        self._program, self._executor = program, executor
        self._stripes = stripes(program, network, machine, schedule_named(program.schedule))
        # A program may do several ops as one; whose result a tensor is, the network says.
        self._makers = {name: op.name for op in network.ops for name in op.outputs}
        self._ops = OpGraph(graph, constants)
        self._records = {record.name: record for record in program.tensors}
        self._tabulated = _ops_with_tables(program)
        model = expand_functions(attention_in_parts(reference.model, DEFAULT_BUDGET_BYTES)[0])
        shown = {name for node in graph.graph.node for name in node.output if name}
        shown &= {name for node in model.graph.node for name in node.output}
        shown |= {info.name for info in model.graph.input}
        self._reference = SegmentedModel(model, reference.folder, shown)

    def measure(
        self, exact: Inputs, found: Inputs | None = None
    ) -> tuple[dict[str, LayerError], Mapping[str, Array]]:
        """The errors of every op of the network on the reference's inputs ``exact``, accumulated
        from ``found`` (as they are in the program's own run; default the same); and the outputs of
        that run."""
        errors: dict[str, LayerError] = {}

        def add(op: str, error: LayerError) -> None:
            errors[op] = errors.get(op, LayerError()) + error

        with _values_on_disk() as values, _values_on_disk() as without_tables:
            self._reference.run(exact, values.put)

            def keep(op: str, record: TensorRecord, stored: Array) -> None:
                if op in self._tabulated:
                    without_tables.put(record.name, stored)

            def alone(_op: str, record: TensorRecord, stored: Array) -> None:
                op = self._makers[record.name]
                plain = without_tables.get(record.name, stored)
                add(op, self._isolated(op, record, stored, plain, values))

            def whole(_op: str, record: TensorRecord, stored: Array) -> None:
                exact_values = values[reference_name(record.name)].reshape(record.shape)
                noise = noise_of(exact_values, to_real(stored, record.numbers))
                add(self._makers[record.name], LayerError(accumulated=noise))

            if self._tabulated:
                watch = self._watch(values, keep, replace=True)
                with exact_tables():
                    self._executor.run(exact, observe=watch)
            watch = self._watch(values, alone, replace=True)
            self._executor.run(exact, observe=watch)
            watch = self._watch(values, whole, replace=False)
            outputs = self._executor.run(found or exact, observe=watch).outputs
        return errors, outputs

    def _watch(self, values: Inputs, whole: Whole, *, replace: bool) -> StoreWatch:
        return StoreWatch(self._program, values, whole, replace=replace, stripes=self._stripes)

    def _isolated(
        self,
        op: str,
        record: TensorRecord,
        stored: Array,
        without_tables: Array,
        values: Mapping[str, Array],
    ) -> LayerError:
        exact = np.asarray(values[reference_name(record.name)], np.float32).reshape(-1)
        found = to_real(stored, record.numbers).reshape(-1)
        noise = noise_of(exact, found)
        clipped = 0
        if record.dtype is DType.INT16:
            clipped = int(np.count_nonzero((stored == 32767) | (stored <= -32767)))
        if op not in self._ops or any(n not in values for n in self._ops.inputs(op)):
            return LayerError(isolated=noise, clipped=clipped)
        plain = {name: np.asarray(values[name]) for name in self._ops.inputs(op)}
        rounded = {name: self._rounded(name, v, record.dtype) for name, v in plain.items()}
        with_weights, with_inputs = (y.reshape(-1) for y in self._ops.run(op, plain, rounded))
        kept = from_real(with_inputs, record.dtype, record.numbers)
        final = to_real(kept, record.numbers)
        untabled = to_real(without_tables, record.numbers).reshape(-1)
        causes = {
            "weights": _power(with_weights, exact),
            "inputs": _power(with_inputs, with_weights),
            "output": _power(final, with_inputs),
            "requantization": _power(untabled, final),
            "tables": _power(found, untabled),
            "clipping": 0.0,
        }
        if record.dtype is DType.INT16:
            out = np.abs(with_inputs) > 32767.5 * record.numbers.step
            causes["clipping"] = _power(final[out], with_inputs[out])
        return LayerError(isolated=noise, causes=causes, clipped=clipped)

    def _rounded(self, name: str, values: Array, dtype: DType) -> Array:
        """``values`` as an op of type ``dtype`` reads them from memory."""
        if values.dtype != np.float32:
            return values
        converted = f"{name}:{dtype.name.lower()}"
        record = self._records.get(converted, self._records.get(name))
        if record is None or (record.dtype is DType.INT16 and record.numbers.scale is None):
            return values
        stored = from_real(values, record.dtype, record.numbers)
        return to_real(stored, record.numbers).astype(np.float32)


def _ops_with_tables(program: Program) -> frozenset[str]:
    """Names of the program's ops that look an integer function up."""
    columns = program.columns
    chosen = np.flatnonzero(np.isin(columns.opcode, _TABLE_OPCODES))
    return frozenset(
        program.ops[i.op].name
        for i in (program.instruction(int(index)) for index in chosen)
        if i.inputs[0].dtype is DType.INT16
        and (i.opcode is Opcode.SOFTMAX or dict(i.attrs).get("function") in UNARY)
    )


class _Values(Mapping[str, Array]):
    """Arrays by name in a folder, mapped when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}

    def put(self, name: str, values: Array) -> None:
        """Keep ``values``."""
        self._files[name] = self._folder / f"{len(self._files)}.npy"
        np.save(self._files[name], values)

    def __getitem__(self, name: str) -> Array:
        array: Array = np.load(self._files[name], mmap_mode="r")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def _values_on_disk() -> Iterator[_Values]:
    with partial_folder() as folder:
        yield _Values(folder)


def _power(one: Array, other: Array) -> float:
    difference = one.astype(np.float64) - other
    return float(difference @ difference)

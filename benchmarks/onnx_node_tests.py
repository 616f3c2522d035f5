"""ONNX's own node tests on the simulated NPU: python -m edgefusion.benchmarks.onnx_node_tests.

Every case is compiled and executed by ``edgefusion.onnx_backend`` and compared with the outputs
that ONNX gives, in three ways: as it is, with every input but the first made an initializer (as
exporters write it), and as it is with host functions compiled by TVM. The table of outcomes is
``results/onnx_node_tests.csv``, which tests compare with.

Names as arguments run those modules of ``onnx.backend.test.case.node`` alone, and print.
"""

from __future__ import annotations

import csv
import importlib
import io
import pkgutil
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.backend.test.case.node as suite
import onnxruntime as ort

from edgefusion.onnx_backend import prepare
from edgefusion.runtime.errors import EdgeFusionError
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.compiling.compile_source import DEFAULT_TARGET
from edgefusion.toolchain.compiling.in_process import (
    Hosts,
    InProcess,
    compiled_in_process,
    tvm_hosts,
)

Array = npt.NDArray[Any]

TABLE = Path(__file__).parent / "results" / "onnx_node_tests.csv"
FIELDS = ("case", "as_it_is", "initializers", "tvm", "db", "reason")

LEAST_DB = 40.0
"""Of floats: signal to error, all values of an output together."""
LARGEST_ERROR = 4e-3
"""Or each value's error by the largest value: a few roundings of FP16."""

WAYS = ("as_it_is", "initializers", "tvm")
_REASON_CHARACTERS = 240
_WRITTEN_OUT = "_expanded"
_BATCH = 64
"""Cases whose host functions TVM compiles together: starting it takes longer than most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind``: right, rounded (as far from ONNX's values as ONNX Runtime is on inputs rounded to
    FP16, which numbers like 10003 are not), refused, wrong or crashed; the worst output's ``db``,
    or the reason."""

    kind: str
    db: float = inf
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A case's outcomes, one for each of ``WAYS``; the first reason that any of them gives."""

    case: str
    outcomes: tuple[Outcome, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """As the table has it."""
        db = min((o.db for o in self.outcomes if o.kind in ("right", "rounded")), default=inf)
        reason = next((o.reason for o in self.outcomes if o.reason), "")
        shown = "" if db == inf else f"{db:.0f}"
        return (self.case, *(o.kind for o in self.outcomes), shown, reason)


def modules() -> tuple[str, ...]:
    """The suite's modules, each with the cases of an op."""
    return tuple(info.name for info in pkgutil.iter_modules(suite.__path__))


def cases(names: Iterable[str]) -> tuple[Any, ...]:
    """The cases of these modules, ordered by name. A module makes its cases when it is imported,
    from a seed of its own."""
    for name in names:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            importlib.import_module(f"{suite.__name__}.{name}")
    return tuple(sorted(suite._NodeTestCases, key=lambda case: str(case.name)))


def run_case(case: Any, way: str) -> Outcome:
    """Compile, execute, compare; nothing where the case has one input and another is wanted."""
    given = _given(case, way)
    if given is None:
        return Outcome("")
    model, inputs = given

    def found() -> Sequence[Array]:
        outputs: Sequence[Array] = prepare(model).run(list(inputs))
        return outputs

    return _judged(case, found)


def run_compiled_hosts(chosen: Sequence[Any]) -> list[Outcome]:
    """The outcomes of ``chosen`` as they are, with host functions made by TVM in one go."""
    machine = load_target(DEFAULT_TARGET).machine
    outcomes: list[Outcome | None] = []
    compiled: list[InProcess] = []

    def compile_(case: Any) -> Sequence[Array]:
        compiled.append(compiled_in_process(case.model, machine))
        return ()

    for case in chosen:
        outcome = _judged(case, lambda: compile_(case))  # noqa: B023  # called at once
        outcomes.append(None if outcome.kind == "right" else outcome)
    hosts = iter(zip(compiled, _tvm_hosts(compiled), strict=True))

    def execute(case: Any) -> Sequence[Array]:
        each, functions = next(hosts)
        if isinstance(functions, EdgeFusionError):
            raise functions
        names = [info.name for info in case.model.graph.input]
        feeds = dict(zip(names, case.data_sets[0][0], strict=False))
        return list(each.run_with(functions)(feeds).values())

    return [
        outcome or _judged(case, lambda: execute(case))  # noqa: B023
        for case, outcome in zip(chosen, outcomes, strict=True)
    ]


def _tvm_hosts(compiled: Sequence[InProcess]) -> list[Hosts | EdgeFusionError]:
    """The host functions of each; where they cannot be loaded together, made alone, or why not."""
    try:
        return list(tvm_hosts(compiled))
    except EdgeFusionError as error:
        if len(compiled) == 1:
            return [error]
        return [hosts for each in compiled for hosts in _tvm_hosts([each])]


def _given(case: Any, way: str) -> tuple[onnx.ModelProto, Sequence[Any]] | None:
    inputs = case.data_sets[0][0]
    if way == "as_it_is":
        return case.model, inputs
    made = with_initializers(case.model, inputs) if len(inputs) > 1 else None
    return (made, inputs[:1]) if made is not None else None


def _judged(case: Any, outputs: Callable[[], Sequence[Array]]) -> Outcome:
    """What comes of ``outputs()``, against what the case expects."""
    inputs, expected = case.data_sets[0]
    try:
        found = outputs()
    except EdgeFusionError as error:
        return Outcome("refused", reason=_in_short(str(error)))
    except Exception as error:  # noqa: BLE001  # what else escapes is a defect, to be listed
        return Outcome("crashed", reason=_in_short(f"{type(error).__name__}: {error}"))
    outcome = compare(found, expected)
    if outcome.kind == "wrong" and outcome.db > -inf:
        rounded = reference(case.model, inputs)
        if rounded is not None and compare(found, rounded).kind == "right":
            return Outcome("rounded", outcome.db, "inputs in FP16 give the same elsewhere")
    return outcome


def with_initializers(model: onnx.ModelProto, inputs: Sequence[Any]) -> onnx.ModelProto | None:
    """``model`` with all inputs but the first as initializers; None where one is no tensor."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {tensor.name for tensor in made.graph.initializer}
    infos = [info for info in made.graph.input if info.name not in weights]
    for info, value in list(zip(infos, inputs, strict=False))[1:]:
        if not isinstance(value, np.ndarray) or value.dtype.kind in "OUS":
            return None
        made.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
        made.graph.input.remove(info)
    return made


def reference(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Array] | None:
    """What ONNX Runtime makes of inputs rounded to FP16; None where it cannot."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
        feeds = {
            info.name: value.astype(np.float16).astype(value.dtype)
            if value.dtype.kind == "f"
            else value
            for info, value in zip(session.get_inputs(), inputs, strict=True)
        }
        return [np.asarray(value) for value in session.run(None, feeds)]
    except Exception as error:  # a reference that fails is none
        if isinstance(error, MemoryError):
            raise
        return None


def compare(found: Sequence[Array], expected: Sequence[Any]) -> Outcome:
    """Integers and booleans, types, shapes and what is not finite must be equal."""
    worst = inf
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        wanted = np.asarray(theirs)
        if ours.shape != wanted.shape or ours.dtype != wanted.dtype:
            reason = f"output {index} is {ours.dtype}{list(ours.shape)}, not "
            return Outcome("wrong", reason=f"{reason}{wanted.dtype}{list(wanted.shape)}")
        if wanted.dtype.kind in "iub":
            if not np.array_equal(ours, wanted):
                return Outcome("wrong", reason=f"output {index} has other whole numbers")
            continue
        db, largest = distance(ours.astype(np.float64), wanted.astype(np.float64))
        if db < LEAST_DB and largest > LARGEST_ERROR:
            return Outcome("wrong", db, f"output {index} at {db:.1f} dB")
        worst = min(worst, db)
    return Outcome("right", worst)


def distance(ours: Array, theirs: Array) -> tuple[float, float]:
    """Signal to error in dB, and the largest error by the largest value."""
    finite = np.isfinite(theirs)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return -inf, inf
    error, signal = ours[finite] - theirs[finite], theirs[finite]
    if not error.size or not error.any():
        return inf, 0.0
    if not np.isfinite(error).all() or not signal.any():
        return -inf, inf
    db = 10 * np.log10(np.square(signal).sum() / np.square(error).sum())
    return float(db), float(np.abs(error).max() / np.abs(signal).max())


def _in_short(text: str) -> str:
    """On one line, without what differs from run to run."""
    text = re.sub(r"0x[0-9a-f]+|/tmp/\S+", "…", " ".join(text.split()))
    return text[:_REASON_CHARACTERS]


def rows(chosen: Sequence[Any]) -> Iterator[Row]:
    """The outcomes of each of ``chosen``, in order. TVM is left out of cases that write another's
    operator out by its definition: compiling those takes most of an hour."""
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        whole = [case for case in batch if not case.name.endswith(_WRITTEN_OUT)]
        compiled = dict(zip((c.name for c in whole), run_compiled_hosts(whole), strict=True))
        for case in batch:
            outcomes = (run_case(case, way) for way in WAYS[:2])
            yield Row(case.name, (*outcomes, compiled.get(case.name, Outcome(""))))


def text_of(table: Iterable[Row]) -> str:
    """The table as it is committed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(row.fields for row in table)
    return out.getvalue()


def committed() -> dict[str, dict[str, str]]:
    """The committed table by case."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def main(names: Sequence[str]) -> None:
    """Run the suite, or the modules named."""
    chosen = cases(names or modules())
    table = []
    for number, row in enumerate(rows(chosen), 1):
        table.append(row)
        if names or number % 50 == 0:
            print(f"{number} of {len(chosen)}", *row.fields)
    if not names:
        TABLE.write_text(text_of(table), encoding="utf-8")
    for index, way in enumerate(WAYS):
        print(way, dict(Counter(row.outcomes[index].kind for row in table)))


if __name__ == "__main__":
    main(sys.argv[1:])

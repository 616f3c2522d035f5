"""Compiles ONNX models to one shared library with Apache TVM and tries it; a program of its own.

    python -m edgefusion.compiler.host.tvm FOLDER LINKER [--alone]

reads ``FOLDER/wanted.json`` (a host manifest: signatures and target) and ``FOLDER/NAME.onnx``,
writes ``FOLDER/host.so`` with a function for each that TVM compiles to what ONNX Runtime computes
(``compiler.host.trial``), and ``FOLDER/refusals.json`` with the reason for each of the others.

It runs in a process of its own (``compiler.host.library``) because TVM's compiler is 260 MB that
nothing else needs, talks on standard error, and because compiled code that is wrong may crash or
hang: ``FOLDER/doing.json`` then names the functions at hand. With ``--alone`` these are never more
than one until each has been tried.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgefusion.compiler.host.trial import faults
from edgefusion.runtime.child_process import end_with_parent
from edgefusion.runtime.host_signature import (
    HostSignature,
    HostTarget,
    host_manifest_from_json,
)
from edgefusion.runtime.host_tvm import first_line

if TYPE_CHECKING:
    import tvm

COMPILE_LIMIT_S = 300
TRIAL_LIMIT_S = 60
"""Longer than that, and the process ends itself by SIGALRM."""

LINK_OPTIONS = ("-shared", "-fPIC", "-Wl,--build-id=none", "-Wl,--strip-all", "-lm")
"""No build identity, no names of temporary files: equal input gives equal bytes."""


_OF_PYTHON = re.compile(rb"relax\.run\.\w+")
"""Functions that this process has and the runtime, which loads no compiler, has not."""


def main(arguments: Sequence[str]) -> None:
    """Compile what the folder wants, as long as the process lives that asked for it."""
    end_with_parent()
    place, linker = Path(arguments[0]), arguments[1]
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM would load it and not use it
    manifest = host_manifest_from_json(json.loads((place / "wanted.json").read_text()))
    assert manifest.target is not None
    models = {f.name: onnx.load(place / f"{f.name}.onnx") for f in manifest.functions}
    refusals = _Library(place, linker, manifest.target, models).refusals(
        manifest.functions, alone="--alone" in arguments
    )
    (place / "refusals.json").write_text(json.dumps(refusals))


@dataclass(frozen=True, slots=True)
class _Library:
    """``place``/host.so, made again without what turns out to be wrong."""

    place: Path
    linker: str
    target: HostTarget
    models: Mapping[str, onnx.ModelProto]

    def refusals(self, functions: Sequence[HostSignature], *, alone: bool) -> dict[str, str]:
        """Why the library lacks each of ``functions``, '' for those that it has."""
        found = dict.fromkeys((f.name for f in functions), "")
        if alone:
            found |= self._each_alone(functions)
        while wanted := [f for f in functions if not found[f.name]]:
            reasons = self._tried(wanted)
            if not any(reasons.values()):
                break
            found |= reasons
        if not wanted:
            (self.place / "host.so").unlink(missing_ok=True)
        return found

    def _tried(self, functions: Sequence[HostSignature]) -> dict[str, str]:
        """A library of ``functions``, made and tried: why each is refused, '' if it is not."""
        try:
            self._make(functions)
            return self._faults(functions)
        except Exception as error:  # noqa: BLE001  # TVM raises all kinds for what it lacks
            if len(functions) == 1:
                return {functions[0].name: f"TVM cannot compile it: {_reason(error)}"}
            return self._each_alone(functions) or {
                f.name: f"TVM cannot compile them together: {_reason(error)}" for f in functions
            }

    def _each_alone(self, functions: Sequence[HostSignature]) -> dict[str, str]:
        """Why each of ``functions`` is refused; none where all are well by themselves."""
        found: dict[str, str] = {}
        for function in functions:
            found |= self._tried([function])
        return found if any(found.values()) else {}

    def _make(self, functions: Sequence[HostSignature]) -> None:
        names = [f.name for f in functions]
        self._begins("compiles", names, COMPILE_LIMIT_S)
        converted = {name: _converted(self.models[name]) for name in names}
        _built(converted, self.target.triple, self.target.cpu).export_library(
            str(self.place / "host.so"),
            workspace_dir=str(self.place),
            options=list(LINK_OPTIONS),
            cc=self.linker,
        )

    def _faults(self, functions: Sequence[HostSignature]) -> dict[str, str]:
        names = [f.name for f in functions]
        self._begins("loads", names, TRIAL_LIMIT_S)
        library = (self.place / "host.so").read_bytes()
        if missing := _OF_PYTHON.search(library):
            raise RuntimeError(f"it calls {missing[0].decode()}, which TVM has in Python alone")
        found = faults(
            functions, library, self.models, lambda n: self._begins("runs", [n], TRIAL_LIMIT_S)
        )
        signal.alarm(0)
        return found

    def _begins(self, what: str, names: Sequence[str], limit_s: int) -> None:
        """Leave word of what is at hand, should it be the last thing that this process does."""
        signal.alarm(limit_s)
        (self.place / "doing.json").write_text(json.dumps({"doing": what, "names": list(names)}))


def _reason(error: Exception) -> str:
    return first_line(error.__cause__ or error)


def _converted(model: onnx.ModelProto) -> tvm.IRModule:
    from tvm.relax.frontend.onnx import from_onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the frontend edits what it reads
    return from_onnx(copy)


def _built(modules: Mapping[str, tvm.IRModule], triple: str, cpu: str) -> Any:
    """One executable, in which the main function of each module has the module's name."""
    import tvm

    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})
    with target:
        return tvm.compile(_merged(modules), target=target)


def _merged(modules: Mapping[str, tvm.IRModule]) -> tvm.IRModule:
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Redirected(PyExprMutator):  # type: ignore[misc]
        """Calls the helpers of ``modules`` where they lie now."""

        def __init__(self, module: Any, places: Mapping[Any, Any]) -> None:
            super().__init__(module)
            self.places = places

        def visit_global_var_(self, op: Any) -> Any:
            return self.places[op]

    builder = relax.BlockBuilder()
    for name, module in modules.items():
        helpers = {
            variable: function
            for variable, function in module.functions_items()
            if not isinstance(function, relax.Function)
        }
        places = {
            variable: builder.add_func(helpers[variable], f"{name}_{variable.name_hint}")
            for variable in sorted(helpers, key=lambda each: str(each.name_hint))
        }
        function = module["main"]
        if places:
            function = Redirected(module, places).visit_expr(function)
        builder.add_func(function.with_attr("global_symbol", name), name)
    return builder.get()


if __name__ == "__main__":
    main(sys.argv[1:])

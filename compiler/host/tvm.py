"""Compiles ONNX models to one shared library with Apache TVM; a program of its own.

    python -m edgefusion.compiler.host.tvm FOLDER LINKER TRIPLE CPU NAME...

reads ``FOLDER/NAME.onnx``, writes ``FOLDER/host.so`` with a function for each NAME that TVM can
compile, and ``FOLDER/refusals.json`` with the reason for each of the others. It runs in a process
of its own (``compiler.host.library``) because TVM's compiler is 260 MB that nothing else needs,
talks on standard error, and a fault in it must not take a compilation along.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm

LINK_OPTIONS = ("-shared", "-fPIC", "-Wl,--build-id=none", "-Wl,--strip-all", "-lm")
"""No build identity, no names of temporary files: equal input gives equal bytes."""


def main(arguments: Sequence[str]) -> None:
    """Compile what the command line names, as long as the process lives that asked for it."""
    Thread(target=_end_with_input, daemon=True).start()
    folder, linker, triple, cpu, *names = arguments
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM would load it and not use it
    place = Path(folder)
    converted: dict[str, tvm.IRModule] = {}
    refusals = dict.fromkeys(names, "")
    for name in names:
        try:
            converted[name] = _converted(place / f"{name}.onnx")
            _built({name: converted[name]}, triple, cpu)
        except Exception as error:  # noqa: BLE001  # TVM raises all kinds for what it lacks
            converted.pop(name, None)
            refusals[name] = f"TVM cannot compile it: {_first_line(error)}"
    if converted:
        executable = _built(converted, triple, cpu)
        executable.export_library(
            str(place / "host.so"),
            workspace_dir=str(place),
            options=list(LINK_OPTIONS),
            cc=linker,
        )
    (place / "refusals.json").write_text(json.dumps(refusals))


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _converted(path: Path) -> tvm.IRModule:
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    return from_onnx(onnx.load(path))


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What is compiled runs once: values of small programs, kernels and outputs of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host.functions import host_models, signatures
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from edgefusion.runtime.host_signature import HostManifest
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.program import Program, TensorRecord
from edgefusion.toolchain.compiling.dry_run import (
    check_kernels,
    check_outputs,
    dry_component,
    executing_s,
)
from edgefusion.toolchain.compiling.hosting import HostFiles
from tests.graph_cases import CONTEXT, execute, parse

MACHINE = CONTEXT.machine
MIXED = (
    "g (float[2, 8] x, int64[2, 3] i) => (float[2, 3] z, float[2, 8] y) "
    "{ y = Relu(x) z = GatherElements<axis = 1>(y, i) }"
)


def compiled(text: str, folder: Path) -> tuple[Graph, Program, HostFiles]:
    graph = Graph.from_model(parse(text))
    PassManager(default_passes("fp16")).run(graph, CONTEXT)
    program = lower(
        network_from_graph(graph, "model"), MACHINE, schedule_named("pipelined"), print
    ).program
    models = host_models(graph)
    files = {}
    for model in models:
        path = folder / f"{model.signature.name}.onnx"
        path.write_bytes(model.model)
        files[f"model/{path.name}"] = path
    return graph, program, HostFiles(files, HostManifest(signatures(models), None, "untried"))


def test_values_are_those_of_the_source(tmp_path: Path) -> None:
    graph, program, host = compiled(MIXED, tmp_path)
    found = dry_component(graph, program, MACHINE, host)
    assert found is not None
    feeds = {name: np.asarray(value) for name, value in found.inputs.items()}
    for name, wanted in zip(("z", "y"), execute(parse(MIXED), feeds), strict=True):
        np.testing.assert_allclose(found.outputs[name], wanted, rtol=1e-3, atol=1e-3)
    assert dry_component(graph, program, MACHINE, host, has_values=False) is None


def test_one_of_the_inputs_has_to_suit(tmp_path: Path) -> None:
    text = "g (int32[64] x, int32[64] d) => (int32[64] y) { y = Mod(x, d) }"
    found = dry_component(*compiled_with_machine(text, tmp_path))
    assert found is not None
    assert found.inputs["d"].all()


def test_none_of_them_does(tmp_path: Path) -> None:
    text = (
        "g (float[4] x, int64[4, 1] i) => (float[4] y) <int64[1] h = {1000}> "
        "{ b = Max(i, h) y = GatherND(x, b) }"
    )
    with pytest.raises(
        UnsupportedOpError, match=r"^model compiles, but does not run: .*host0.*ind"
    ):
        dry_component(*compiled_with_machine(text, tmp_path))


def compiled_with_machine(text: str, folder: Path) -> tuple[Any, ...]:
    graph, program, host = compiled(text, folder)
    return graph, program, MACHINE, host


def test_large_programs_are_not_executed(tmp_path: Path) -> None:
    small = "g (float[1, 64, 64] x) => (float[1, 64, 64] y) { y = MatMul(x, x) }"
    large = small.replace("64, 64", "2048, 2048")
    graph, program, host = compiled(large, tmp_path)
    assert executing_s(compiled(small, tmp_path)[1]) < 0.1 < 0.5 < executing_s(program)
    assert dry_component(graph, program, MACHINE, host) is None


def test_kernels_and_outputs(tmp_path: Path) -> None:
    _, program, _ = compiled("g (float[2, 8] x) => (float[2, 8] y) { y = Exp(x) }", tmp_path)
    check_kernels(program)
    check_outputs(program, {"y": (2, 8)})
    with pytest.raises(InputError, match="nothing makes the output 'z'"):
        check_outputs(program, {"z": (2, 8)})
    with pytest.raises(InputError, match=r"'y' has shape \[2, 8\] in memory; expected \[2, 9\]"):
        check_outputs(program, {"y": (2, 9)})
    view = TensorRecord("z", DType.FP16, (8, 2), Role.ACTIVATION, 0, 32)
    with pytest.raises(InputError, match="nothing makes the output 'z'"):
        check_outputs(replace(program, tensors=(*program.tensors, view)), {"z": (8, 2)})

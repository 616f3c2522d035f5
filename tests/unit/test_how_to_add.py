"""What ARCHITECTURE.md says of adding things is true: its lists are followed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.target import load_target, target_path
from tests.lowering_cases import attention_case

SOURCE = ("runtime", "compiler", "passes", "models", "toolchain", "benchmarks", "edgefusion")
SPELLINGS = {
    "mish": r"\bmish\b",
    "RMSNorm": r"rms_?norm",
    "Opcode.RMS_NORM": r"(?-i:\bRMS_NORM\b)|def rms_norm\(op",
    "EngineKind.HOST": r"\bEngineKind\.HOST\b",
}
"""How each example is spelt, without regard to case."""


def rows(root: Path) -> dict[str, tuple[set[str], set[str]]]:
    """By example, the source files and the other files that its row names."""
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text[text.index("## How to add") :]
    found = {}
    for line in re.findall(r"^\| an? .*\|$", section, re.MULTILINE):
        _, _, example, source, besides, _ = (cell.strip() for cell in line.split("|"))
        files = [set(re.findall(r"`([\w./]+\.(?:py|md|toml))`", c)) for c in (source, besides)]
        found[example.strip("`")] = (files[0], files[1])
    return found


def mentioning(root: Path, pattern: str) -> set[str]:
    search = re.compile(pattern, re.IGNORECASE).search
    files = [file for folder in SOURCE for file in (root / folder).rglob("*.py")]
    return {str(f.relative_to(root)) for f in files if search(f.read_text(encoding="utf-8"))}


def test_the_lists_name_files_that_there_are(repository_root: Path) -> None:
    found = rows(repository_root)
    assert set(found) == set(SPELLINGS)
    for files in found.values():
        assert all((repository_root / file).is_file() for file in files[0] | files[1])


@pytest.mark.parametrize("example", SPELLINGS)
def test_an_example_stands_where_the_list_says_and_nowhere_else(
    example: str, repository_root: Path
) -> None:
    every = rows(repository_root)
    listed, besides = every[example]
    if example == "RMSNorm":  # it brought an opcode
        listed = listed | every["Opcode.RMS_NORM"][0]
    found = mentioning(repository_root, SPELLINGS[example])
    assert found - besides <= listed
    if example != "EngineKind.HOST":  # whose costs are named for the host, not for the enumeration
        assert listed <= found


ROW = '        Unary("softsign", Operator("Softsign"), lambda x: x / (1.0 + np.abs(x))),\n'
PROGRAM = """
import sys
import numpy as np
import onnx
import onnxruntime as ort
from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import assign_scales, measured_tensors, with_scales
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.passes.pass_base import PassContext
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.target import load_target

machine = load_target("exynos2400").machine
text = '<ir_version: 9, opset_import: ["" : 20]> g (float[1, 64] x) => (float[1, 64] y)'
model = onnx.parser.parse_model(text + " { y = Softsign(x) }")
x = np.linspace(-6, 6, 64, dtype=np.float32).reshape(1, 64)
expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
for precision, least in (("fp16", 60), ("w8a16", 75)):
    graph = Graph.from_model(model)
    PassManager(default_passes(precision)).run(graph, PassContext(machine))
    network = network_from_graph(graph, "model")
    assert [op.kind.name for op in network.ops] == ["unary"], network.ops
    program = lower(network, machine, schedule_named("pipelined")).program
    wanted = measured_tensors(network)
    program = with_scales(program, assign_scales(network, {n: Range(-6, 6) for n in wanted}))
    found = Executor(program, machine, {}).run({"x": x}).outputs["y"]
    noise = np.square(found - expected).mean() / np.square(expected).mean()
    assert -10 * np.log10(noise) > least, (precision, -10 * np.log10(noise))
print("followed")
"""


def test_a_function_is_one_row(repository_root: Path, tmp_path: Path) -> None:
    """Softsign, added to a copy of the tree, runs on the NPU in FP16 and INT16."""
    package = tmp_path / "edgefusion"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for folder in ("runtime", "compiler", "passes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository_root / folder, package / folder, ignore=ignored)
    table = package / "runtime" / "functions.py"
    text = table.read_text(encoding="utf-8")
    anchor = '        Unary("mish"'
    assert text.count(anchor) == 1
    table.write_text(text.replace(anchor, ROW + anchor), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "followed\n", result.stderr


def test_two_of_every_engine_are_three_numbers(tmp_path: Path) -> None:
    text = target_path("exynos2400").read_text(encoding="utf-8")
    text, changed = re.subn(r"(_engines = \{ value = )1\b", r"\g<1>2", text)
    assert changed == 3
    file = tmp_path / "twice.toml"
    file.write_text(text, encoding="utf-8")
    machine = load_target(str(file)).machine
    network = attention_case(1024, 1024, heads=8, depth=40)
    program = lower(network, machine, schedule_named("pipelined")).program
    used = set(zip(program.columns.engine.tolist(), program.columns.unit.tolist(), strict=True))
    kinds = (EngineKind.DMA, EngineKind.TENSOR, EngineKind.VECTOR)
    assert used == {(kind, unit) for kind in kinds for unit in (0, 1)}

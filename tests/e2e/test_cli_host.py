"""What runs on the host, from the command line to the call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.host import host_manifest, open_host
from edgefusion.runtime.isa import Opcode
from tests.e2e.conftest import Cli
from tests.graph_cases import assert_same, execute, parse, random_feeds

TOP = (
    "g (float[1, 600, 8] x) => (float[1, 600, 3] y) <int64[1] k = {3}> "
    "{ m = MatMul(x, w) e = Erf(m) y, i = TopK(e, k) }"
)


@pytest.fixture(scope="module")
def top_model() -> onnx.ModelProto:
    return parse(TOP, {"w": (8, 8)})


@pytest.fixture
def compiled(cli: Cli, tmp_path: Path, top_model: onnx.ModelProto) -> tuple[Bundle, dict]:  # type: ignore[type-arg]
    onnx.save(top_model, tmp_path / "top.onnx")
    out = tmp_path / "top.npub"
    outcome = cli("compile", tmp_path / "top.onnx", "-o", out, "--json", "-")
    assert outcome.code == 0, outcome.err
    return Bundle.open(out), outcome.json


def test_report_and_call(
    cli: Cli,
    compiled: tuple[Bundle, dict],
    top_model: onnx.ModelProto,  # type: ignore[type-arg]
) -> None:
    bundle, document = compiled
    # Reports: which ops, why, and every byte that the CALL instructions pass
    assert [op["function"] for op in document["host_ops"]] == ["host0", "host0"]
    assert [op["reason"] for op in document["host_ops"]] == [
        "the NPU has no Erf", "the NPU has no TopK",
    ]  # fmt: skip
    (call,) = document["host_calls"]
    instructions = list(bundle.program("model").instructions())
    (made,) = (i for i in instructions if i.opcode is Opcode.CALL)
    sizes = [[o.elements * o.dtype.nbytes for o in side] for side in (made.inputs, made.outputs)]
    assert call["input_bytes"] == sum(sizes[0]) == 600 * 8 * 2
    assert call["output_bytes"] == sum(sizes[1]) == 600 * 3 * 4
    assert (call["calls"], call["backend"], call["remark"]) == (1, "tvm", "")
    shown = cli("inspect", bundle.path, "--json", "-").json
    assert shown["host_calls"] == document["host_calls"]
    assert shown["host_ops"] == document["host_ops"]
    remarks = [{"component": "model", **each.to_json()} for each in bundle.remarks("model")]
    assert remarks == document["remarks"]
    assert "Erf runs on the host (host0): the NPU has no Erf" in [r["reason"] for r in remarks]
    text = cli("inspect", bundle.path).out
    assert "the NPU has no TopK" in text
    assert "4,800" not in text
    assert "9,600" in text
    # Values: the whole graph is w and the host function
    feeds = random_feeds(top_model)
    wanted = execute(top_model, feeds)
    w = onnx.numpy_helper.to_array(top_model.graph.initializer[-1])
    for backend, compiled_names in (("tvm", {"host0"}), ("ort", set())):
        functions = open_host(bundle, "model", backend)
        assert functions.compiled == compiled_names
        found = functions.functions["host0"]([np.asarray(feeds["x"] @ w)])
        assert_same(found[:1], wanted, 1e-5)


def test_members(compiled: tuple[Bundle, dict]) -> None:  # type: ignore[type-arg]
    bundle, _ = compiled
    names = {name for name in bundle.manifest.members if name.startswith("model/host")}
    assert names == {"model/host.json", "model/host.so", "model/host0.onnx"}
    assert bundle.read("model/host.so")[:4] == b"\x7fELF"
    manifest = host_manifest(bundle, "model")
    assert manifest.target is not None
    assert [f.name for f in manifest.functions] == ["host0"]

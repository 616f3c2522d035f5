"""Host functions: extraction, TVM and ONNX Runtime against each other and against the source."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host import library as host_library
from edgefusion.compiler.host.functions import host_models
from edgefusion.compiler.host.library import building
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_manager import PassManager
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime import host as runtime_host
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.host import HostFunctions, load_host
from edgefusion.runtime.host_signature import HostManifest, host_manifest_from_json
from tests.graph_cases import CONTEXT, assert_same, execute, parse, random_feeds

USER = (
    "g (float[1, 600, 8] x, int64[1, 5] i) => (float[1, 600, 3] y, float[1, 5, 64] e, "
    "float[1, 600, 8] p) <int64[1] k = {3}> { y, t = TopK(x, k) s = Gather(table, i) "
    'r = Erf(s) e = Einsum<equation = "bik,bik->bik">(s, r) m = MatMul(x, w) p = Mish(m) }'
)
WEIGHTS = {"table": (40, 64), "w": (8, 8)}
COMPUTED = (
    "g (float[1, 600, 8] x) => (float[1, 600, 3] z) <int64[1] k = {3}> "
    "{ y, t = TopK(x, k) z = GatherElements<axis = 2>(x, t) }"
)
UNKNOWN_TO_TVM = "g (float[3, 600, 600] x) => (float[3] y) { y = Det(x) }"


def partitioned(text: str, weights: Any = None) -> Graph:
    graph = Graph.from_model(parse(text, weights))
    PassManager([PartitionHost()]).run(graph, CONTEXT)
    return graph


def built(graph: Graph, folder: Path) -> HostManifest:
    with building(folder, host_models(graph)) as build:
        manifest = build.finish()
        assert set(build.files(manifest)) <= {path.name for path in folder.iterdir()}
    return manifest


def loaded(manifest: HostManifest, folder: Path, graph: Graph, backend: str) -> HostFunctions:
    constants = {tensor.name: tensor.values() for tensor in graph.constants}
    return load_host(manifest, lambda name: (folder / name).read_bytes(), constants, backend)


def assert_equals_source(
    graph: Graph, source: onnx.ModelProto, feeds: dict[str, Any], folder: Path
) -> None:
    """Every host function, in both backends, gives what the source model gives at that place."""
    manifest = built(graph, folder)
    assert manifest.target is not None, manifest.remark
    names = [t.name for f in manifest.functions for t in (*f.inputs, *f.outputs)]
    shown = {info.name for info in (*source.graph.output, *source.graph.input)}
    for name in dict.fromkeys(names):
        if name not in shown:
            source.graph.output.add().name = name
    session = ort.InferenceSession(source.SerializeToString())
    values = feeds | dict(
        zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True)
    )
    for backend in ("tvm", "ort"):
        functions = loaded(manifest, folder, graph, backend)
        assert functions.remarks == ()
        in_library = {f.name for f in manifest.functions} if backend == "tvm" else set()
        assert functions.compiled == in_library
        for f in manifest.functions:
            found = functions.functions[f.name]([values[t.name] for t in f.inputs])
            assert_same(found, [values[t.name] for t in f.outputs], 1e-5)


def test_user_graph(tmp_path: Path) -> None:
    graph, source = partitioned(USER, WEIGHTS), parse(USER, WEIGHTS)
    assert_equals_source(graph, source, random_feeds(source), tmp_path)


@pytest.mark.parametrize("component", ["text_encoder", "unet"])
def test_components(tiny_exports: Path, tmp_path: Path, component: str) -> None:
    path = tiny_exports / f"{component}.onnx"
    graph = Graph.load(path)
    PassManager(default_passes("fp16")).run(graph, CONTEXT)
    feeds = random_feeds(onnx.load(path, load_external_data=False))
    assert_equals_source(graph, onnx.load(path), feeds, tmp_path)


def test_large_constants_are_arguments_and_small_ones_code() -> None:
    (first, *_) = host_models(partitioned(USER, WEIGHTS))
    models = {m.signature.inputs[0].name: m for m in host_models(partitioned(USER, WEIGHTS))}
    gather = models["i"]
    assert [t.name for t in gather.signature.constants] == ["table"]
    assert gather.signature.inputs[0].extent == 40
    assert len(gather.model) < 40 * 64 * 4
    parsed = onnx.ModelProto.FromString(models["x"].model)
    assert [entry.name for entry in parsed.graph.initializer] == ["k"]
    assert first == host_models(partitioned(USER, WEIGHTS))[0]


def test_indices_out_of_bounds_are_refused(tmp_path: Path) -> None:
    graph = partitioned(USER, WEIGHTS)
    manifest = built(graph, tmp_path)
    (name,) = (f.name for f in manifest.functions if f.inputs[0].name == "i")
    for backend in ("tvm", "ort"):
        call = loaded(manifest, tmp_path, graph, backend).functions[name]
        call([np.array([[-40, 0, 1, 2, 39]])])
        for bad in (40, -41):
            with pytest.raises(InputError, match=rf"'i' holds indices .*{bad}"):
                call([np.array([[0, 1, bad, 2, 3]])])
        with pytest.raises(InputError, match=r"expected 'i' of shape \[1, 5\], got \[1, 4\]"):
            call([np.zeros((1, 4), np.int64)])


def test_computed_indices_stay_with_onnx_runtime(tmp_path: Path) -> None:
    graph, source = partitioned(COMPUTED), parse(COMPUTED)
    manifest = built(graph, tmp_path)
    assert manifest.target is None
    assert not (tmp_path / "host.so").exists()
    functions = loaded(manifest, tmp_path, graph, "tvm")
    assert functions.compiled == frozenset()
    assert "TVM is trusted with none of them" in functions.remarks[0]
    feeds = random_feeds(source)
    assert_same(functions.functions["host0"]([feeds["x"]]), execute(source, feeds))


def test_op_that_tvm_lacks_beside_one_that_it_has(tmp_path: Path) -> None:
    text = (
        "g (float[3, 60, 60] x, float[1, 600, 8] u) => (float[3] y, float[1, 600, 8] v) "
        "{ y = Det(x) v = Erf(u) }"
    )
    graph = partitioned(text)
    manifest = built(graph, tmp_path)
    refusals = {f.inputs[0].name: f.refusal for f in manifest.functions}
    assert refusals["u"] == ""
    assert refusals["x"].startswith("TVM cannot compile it: ")
    functions = loaded(manifest, tmp_path, graph, "tvm")
    assert len(functions.compiled) == 1
    assert len(functions.remarks) == 1


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [("linker", "no linker was there"), ("package", "apache-tvm"), ("crash", "TVM failed")],
)
def test_without_tvm_onnx_runtime_runs_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str, reason: str
) -> None:
    if obstacle == "linker":
        monkeypatch.setattr("shutil.which", lambda _: None)
    elif obstacle == "package":
        monkeypatch.setattr(host_library, "own_target", lambda: None)
    else:
        script = tmp_path / "crash"
        script.write_text("#!/bin/sh\nexit 139\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
    graph = partitioned(USER, WEIGHTS)
    manifest = built(graph, tmp_path)
    functions = loaded(manifest, tmp_path, graph, "tvm")
    (remark,) = functions.remarks
    assert remark.startswith("host functions run in ONNX Runtime: ")
    assert reason in remark
    assert set(functions.functions) == {f.name for f in manifest.functions}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("triple", "riscv64-unknown-linux-gnu", "host.so is for riscv64-unknown-linux-gnu"),
        ("cpu", "skylake-avx512", "host.so is for .*skylake-avx512"),
        ("tvm_version", "0.9", "host.so needs TVM 0.9, installed is "),
    ],
)
def test_library_for_another_machine(tmp_path: Path, field: str, value: str, reason: str) -> None:
    graph = partitioned(UNKNOWN_TO_TVM)
    with building(tmp_path, host_models(graph)) as build:
        functions = tuple(model.signature for model in build.models)
    here = runtime_host.own_target()
    assert here is not None
    manifest = HostManifest(functions, replace(here, **{field: value}))
    (remark,) = loaded(manifest, tmp_path, graph, "tvm").remarks  # host.so is not even read
    assert "\n" not in remark
    assert re.search(reason, remark)


def test_manifest_round_trips_and_unknown_backend(tmp_path: Path) -> None:
    graph = partitioned(USER, WEIGHTS)
    with building(tmp_path, host_models(graph)) as build:
        functions = tuple(model.signature for model in build.models)
    manifest = HostManifest(functions, runtime_host.own_target(), "why")
    assert host_manifest_from_json(manifest.to_json()) == manifest
    newer = manifest.to_json() | {"schema_version": 99}
    with pytest.raises(InputError, match=r"host\.json has version 99"):
        host_manifest_from_json(newer)
    damaged = manifest.to_json() | {"functions": [{"name": "f", "inputs": [{"shape": ["x"]}]}]}
    with pytest.raises(
        InputError, match=r"host\.json is damaged: functions\.0\.inputs\.0\.name is m"
    ):
        host_manifest_from_json(damaged)
    for nothing in ([], "x", None, 3):
        with pytest.raises(InputError, match=r"host\.json is damaged"):
            host_manifest_from_json(nothing)
    with pytest.raises(UsageError, match="expected one of tvm, ort"):
        loaded(manifest, tmp_path, graph, "cuda")

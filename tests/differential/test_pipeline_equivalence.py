"""After every pass, the exported models compute in ONNX Runtime what they computed before.

Also counts what the passes must find. ``full`` does so for the full-size models, from the folder in
EDGEFUSION_FULL_EXPORTS, or exported for the occasion.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.passes.pass_manager import PassManager, PassRecord
from edgefusion.passes.pipeline import default_passes, recognition_passes
from tests.graph_cases import CONTEXT, assert_same, execute, random_feeds

COMPONENTS = ("text_encoder", "unet", "vae_decoder")


def source_ops(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def found(records: tuple[PassRecord, ...]) -> dict[str, int]:
    return {record.name: record.matched for record in records if record.name.startswith("fuse-")}


def missed(records: tuple[PassRecord, ...]) -> list[str]:
    return [str(r) for record in records for r in record.remarks if r.kind == "missed"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_pass_keeps_the_values(tiny_exports: Path, component: str) -> None:
    path = tiny_exports / f"{component}.onnx"
    model = onnx.load(path)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    compared = []

    def compare(name: str, graph: Graph) -> None:
        compared.append(name)
        assert_same(execute(graph.to_model(), feeds), wanted, 1e-4)

    graph = Graph.load(path)
    before = source_ops(graph)
    passes = recognition_passes()
    records = PassManager(passes, observe=compare).run(graph, replace(CONTEXT, component=component))
    assert compared == [each.name for each in passes]
    assert missed(records) == []
    counts = found(records)
    assert counts["fuse-attention"] == before["Softmax"] > 0
    assert counts["fuse-group-norm"] == before["InstanceNormalization"]
    assert counts["fuse-layer-norm"] == before["LayerNormalization"]
    assert counts["fuse-silu"] == before["Sigmoid"] > 0
    assert counts["fuse-geglu"] == before["Gelu"]
    after = source_ops(graph)
    gone = {"Softmax", "InstanceNormalization", "Sigmoid", "Gelu", "Split", "Gemm"}
    assert not gone & set(after), f"left over: {gone & set(after)}"


@pytest.mark.parametrize("component", COMPONENTS)
def test_deployment_changes_values_only_where_precision_does(
    tiny_exports: Path, component: str
) -> None:
    path = tiny_exports / f"{component}.onnx"
    model = onnx.load(path)
    feeds = random_feeds(model)
    wanted = execute(model, feeds)
    tolerance = 1e-4

    def compare(name: str, graph: Graph) -> None:
        nonlocal tolerance
        if name == "assign-precision":
            tolerance = 5e-3  # FP16 results, 11 bits
        if name == "quantize-w8a16":
            tolerance = 5e-2  # INT8 weights, 8 bits over some hundred layers
        assert_same(execute(graph.to_model(), feeds), wanted, tolerance)

    graph = Graph.load(path)
    passes = default_passes(timesteps=(999, int(feeds.get("timestep", [0])[0])))
    PassManager(passes, observe=compare).run(graph, replace(CONTEXT, component=component))


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_source_op_is_accounted_for(tiny_exports: Path, component: str) -> None:
    """Origins of the final graph name source nodes, and none of the heavy ones is lost."""
    graph = Graph.load(tiny_exports / f"{component}.onnx")
    sources = {node.name: node.op for node in graph.nodes}
    PassManager(recognition_passes(timesteps=(999, 499))).run(
        graph, replace(CONTEXT, component=component)
    )
    origins = [name for node in graph.nodes for name in node.origin]
    assert set(origins) <= set(sources)
    heavy = {name for name, op in sources.items() if op in ("Conv", "MatMul", "Gemm", "Softmax")}
    assert heavy <= set(origins)
    assert all(node.scope for node in graph.nodes if node.domain == "edgefusion")


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_saved_graph_runs_from_its_files(
    tiny_exports: Path, tmp_path: Path, component: str
) -> None:
    model = onnx.load(tiny_exports / f"{component}.onnx")
    feeds = random_feeds(model)
    graph = Graph.load(tiny_exports / f"{component}.onnx")
    PassManager(recognition_passes()).run(graph, replace(CONTEXT, component=component))
    graph.save(tmp_path / "graph.onnx", tmp_path / "weights.safetensors")
    onnx.checker.check_model(tmp_path / "graph.onnx")
    session = ort.InferenceSession(tmp_path / "graph.onnx")
    values = [np.asarray(value) for value in session.run(None, feeds)]
    assert_same(values, execute(model, feeds), 1e-4)
    again = Graph.load(tmp_path / "graph.onnx")
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]
    assert [n.origin for n in again.nodes] == [n.origin for n in graph.nodes]


FULL = {
    "unet": {
        "fuse-attention": 18,
        "fuse-layer-norm": 27,
        "fuse-rms-norm": 0,
        "fuse-group-norm": 28,
        "fuse-geglu": 9,
        "fuse-silu": 21,
        "fuse-gelu": 0,
    },
    "text_encoder": {
        "fuse-attention": 12,
        "fuse-layer-norm": 25,
        "fuse-rms-norm": 0,
        "fuse-group-norm": 0,
        "fuse-geglu": 0,
        "fuse-silu": 12,
        "fuse-gelu": 0,
    },
    "vae_decoder": {
        "fuse-attention": 1,
        "fuse-layer-norm": 0,
        "fuse-rms-norm": 0,
        "fuse-group-norm": 30,
        "fuse-geglu": 0,
        "fuse-silu": 29,
        "fuse-gelu": 0,
    },
}
"""Rewrites in bk-sdm-tiny (U-Net: 9 blocks, each with self- and cross-attention and a GEGLU)."""


@pytest.fixture(scope="module")
def full_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """<component>.onnx of bk-sdm-tiny."""
    given = os.environ.get("EDGEFUSION_FULL_EXPORTS")
    if given:
        return Path(given)
    from edgefusion.models.export import export_component
    from edgefusion.models.source import resolve_source

    folder = tmp_path_factory.mktemp("full-exports")
    source = resolve_source("bk-sdm-tiny")
    for component in source.components:
        export_component(source, component, folder)
    return folder


@pytest.mark.full
@pytest.mark.parametrize("component", COMPONENTS)
def test_full_size_counts(full_exports: Path, component: str) -> None:
    graph = Graph.load(full_exports / f"{component}.onnx")
    records = PassManager(recognition_passes()).run(graph, replace(CONTEXT, component=component))
    assert missed(records) == []
    assert found(records) == FULL[component]
    assert sum(record.duration_s for record in records) < 3
    attentions = [
        r.reason for record in records for r in record.remarks if "attention," in r.reason
    ]
    if component == "unet":
        assert sum(reason.startswith("self") for reason in attentions) == 9
        assert sum(reason.startswith("cross") for reason in attentions) == 9

"""Seventeen plain networks through the front door: what the NPU runs of each, and what it leaves.

Each network of ``plain_models`` is exported by ``torch.onnx.export`` with its defaults, as a user
does, and its .onnx file is compiled, timed and verified like any other: ops on the NPU and on the
host with the reasons, latency and the host's share of it, decibels against ONNX Runtime in FP32.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

from edgefusion.benchmarks.plain_models import NETWORKS, SEED, PlainNetwork, module_of
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.graph.functions import kind_and_tokens
from edgefusion.runtime.progress import silent
from edgefusion.toolchain.accuracy.verification import Request, verify_bundle
from edgefusion.toolchain.compiling.compile_source import (
    DEFAULT_SCHEDULE,
    CompileResult,
    compile_source,
)


def exported(network: PlainNetwork, folder: Path) -> Path:
    """``network`` as an .onnx file in ``folder``."""
    import torch

    from edgefusion.models.export import quiet_exporter

    module, inputs = module_of(network)
    path = folder / f"{network.name}.onnx"
    with quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=True,
            input_names=list(inputs),
            output_names=["y"],
            verbose=False,
        )
    return path


def measured(network: PlainNetwork, folder: Path) -> dict[str, Any]:
    """One row: compiled for the default target and schedule, in FP16 as .onnx files are."""
    source, output = exported(network, folder), folder / f"{network.name}.npub"
    begin = time.perf_counter()
    result = compile_source(source, output=output)
    seconds = time.perf_counter() - begin
    bundle = Bundle.open(output)
    request = Request(("",), seed=SEED, layers=(), host="ort")
    verification = verify_bundle(bundle, request, silent)
    row = {"network": network.name, "what": network.what, **_placement(bundle)}
    decibels = [value.source.db for value in verification.values if value.source is not None]
    worst = min(decibels)
    return {
        **row,
        **_latency(result),
        "source_db": round(worst, 1) if isfinite(worst) else None,
        "compile_s": round(seconds, 1),
    }


def _placement(bundle: Bundle) -> dict[str, Any]:
    """Ops of the deployed graph on either side, and why those of the host are there."""
    (component,) = bundle.manifest.components
    nodes = bundle.graph_model(component.name).graph.node
    kinds = {node.name: kind_and_tokens(node.op_type)[0] for node in nodes}
    reasons = Counter((kinds[op.op], op.reason) for op in component.host_ops)
    return {
        "npu_ops": len(nodes) - len(component.host_ops),
        "host_ops": len(component.host_ops),
        "host_calls": len({op.function for op in component.host_ops}),
        "on_host": [
            {"op": op, "count": count, "reason": reason}
            for (op, reason), count in reasons.most_common()
        ],
    }


def _latency(result: CompileResult) -> dict[str, Any]:
    latency = result.latencies[DEFAULT_SCHEDULE]
    ops = [op for component, _ in latency.components for op in component.ops]
    host_ms = sum(op.latency_ps for op in ops if op.kind == "host") / 1e9
    return {
        "latency_ms": round(latency.total_ms, 4),
        "host_ms": round(host_ms, 4),
        "host_share": round(host_ms / latency.total_ms, 3),
    }


def main() -> dict[str, Any]:
    """All networks, one after the other; some three minutes of two cores."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            row = measured(network, Path(folder))
            print(_line(row), flush=True)
            rows.append(row)
    return {
        "rows": rows,
        "host_ops": sum(row["host_ops"] for row in rows),
        "npu_ops": sum(row["npu_ops"] for row in rows),
    }


def _line(row: dict[str, Any]) -> str:
    """A row of the table in README.md."""
    left = Counter[str]()
    for each in row["on_host"]:
        left[each["op"]] += each["count"]
    named = ", ".join(f"{count} {op}" if count > 1 else op for op, count in left.most_common())
    return (
        f"| {row['network']}: {row['what']} | {row['npu_ops']} | {row['host_ops']} | {named} | "
        f"{row['latency_ms']:.3f} | {100 * row['host_share']:.0f} % | {row['source_db']} |"
    )

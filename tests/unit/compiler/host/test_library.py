"""What TVM computes otherwise than ONNX Runtime, or crashes at, is refused; the rest is trusted."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.frontend.placement import host_groups
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host.functions import HostModel, host_models
from edgefusion.compiler.host.library import building
from edgefusion.compiler.host.reference import check_reference
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pass_manager import PassManager
from edgefusion.runtime.errors import UnsupportedOpError
from edgefusion.runtime.host import HostFunctions, load_host
from edgefusion.runtime.host_signature import HostManifest
from tests.graph_cases import CONTEXT, execute, parse, random_feeds

SIX = "float[1, 4, 6, 6]"
CASES = {
    "linear": (
        (
            f"g ({SIX} x) => (float[1, 4, 10, 10] y) <float[4] s = {{1, 1, 1.7, 1.7}}> "
            '{ y = Resize<mode = "linear">(x, , s) }'
        ),
        "differently: 'y' at ",
    ),
    "antialias": (
        (
            f"g ({SIX} x) => (float[1, 4, 3, 3] y) <float[4] s = {{1, 1, 0.5, 0.5}}> "
            '{ y = Resize<mode = "cubic", antialias = 1>(x, , s) }'
        ),
        "differently: 'y' at ",
    ),
    "nearest": (
        (
            f"g ({SIX} x) => (float[1, 4, 12, 18] y) <float[4] s = {{1, 1, 2, 3}}> "
            '{ y = Resize<mode = "nearest">(x, , s) }'
        ),
        "",
    ),
    "transposed": (
        (
            "g (float[1, 1, 6, 6] x) => (float[1, 4, 12, 12] y) "
            "{ y = ConvTranspose<strides = [2, 2], output_shape = [12, 12]>(x, w) }"
        ),
        r"'y' has shape \[1, 4, 13, 13\] instead of \[1, 4, 12, 12\]",
    ),
    "layer_norm": (
        (
            "g (float[1, 6, 8] x, float[6, 8] g) => (float[1, 6, 8] y, float[1, 1, 1] m) "
            "{ y, m = LayerNormalization<axis = 1>(x, g) }"
        ),
        "'m' ",
    ),
    "batch_norm": (
        (
            "g (float[2, 3, 4] x, float[3] s, float[3] b, float[3] m, float[3] v) => "
            "(float[2, 3, 4] y, float[3] n, float[3] w) "
            "{ y, n, w = BatchNormalization<training_mode = 1>(x, s, b, m, v) }"
        ),
        "differently: ",
    ),
    "one_hot": (
        (
            "g (int64[3] i) => (float[3, 8] y) <int64 d = {8}, float[2] v = {0, 1}> "
            "{ y = OneHot(i, d, v) }"
        ),
        "'y' holds float64 instead of float32",
    ),
    "shape": ("g (float[1, 6, 8] x) => (int64[2] y) { y = Shape<start = 1>(x) }", "code by TVM"),
    "size": ("g (float[1, 6, 8] x) => (int64 y) { y = Size(x) }", ""),
    "scalar": ("g (int64 t, float[8] x) => (float[8] y) { a = Sin(x) y = Clip(a, l, h) }", ""),
    "scalar_out": ("g (float[8] x) => (float y) { y = ReduceProd<keepdims = 0>(x) }", ""),
    "empty": ("g (int64[1, 6] x) => (int64[1, 6] y) { y = Concat<axis = 1>(x, z) }", "size 0"),
    "divided": ("g (int64[6] x, int64[6] z) => (int64[6] y) { y = Mod(x, z) }", "a divisor that"),
    "whole_quotient": ("g (int32[6] x) => (int32[6] y) { y = Div(x, q) }", ""),
    "six_axes": (
        (
            "g (float[2, 4, 2, 2, 2, 3] x) => (float[2, 4, 2, 2, 3, 2] y) "
            "{ y = Transpose<perm = [0, 1, 4, 2, 5, 3]>(x) }"
        ),
        "",
    ),
    "three_dimensions": (
        "g (float[1, 1, 4, 4, 4] x) => (float[1, 4, 2, 2, 2] y) { y = Conv(x, w) }",
        "",
    ),
    "groups": (
        (
            "g (float[1, 4, 6, 6] x, float[4] s, float[4] b) => (float[1, 4, 6, 6] y) "
            "{ y = GroupNormalization<num_groups = 2>(x, s, b) }"
        ),
        "",
    ),
    "masked": (
        "g (bool[2, 3] c, float[2, 3] x) => (float[2, 3] y) { a = Neg(x) y = Where(c, x, a) }",
        "",
    ),
}
"""A graph of the host's, and what is said of TVM's code for it: '' where it computes the same."""

CONSTANTS = {
    "transposed": {"w": (1, 4, 3, 3)},
    "three_dimensions": {"w": (4, 1, 3, 3, 3)},
    "scalar": {"l": np.array(-0.5, "f"), "h": np.array(0.5, "f")},
    "empty": {"z": np.zeros((1, 0), np.int64)},
    "whole_quotient": {"q": np.array([1, 2, 3, -4, 5, 7], np.int32)},
}


def source(name: str) -> onnx.ModelProto:
    return parse(CASES[name][0], CONSTANTS.get(name), 21 if name == "groups" else 20)


def hosted(name: str) -> HostModel:
    """The one host function of a case, named after it."""
    graph = Graph.from_model(source(name))
    PassManager([PartitionHost()]).run(graph, CONTEXT)
    (model,) = host_models(graph)
    return replace(model, signature=replace(model.signature, name=name))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostManifest, HostFunctions]:
    folder = tmp_path_factory.mktemp("library")
    with building(folder, [hosted(name) for name in CASES]) as build:
        manifest = build.finish()
    return manifest, loaded(manifest, folder)


def loaded(manifest: HostManifest, folder: Path) -> HostFunctions:
    return load_host(manifest, lambda name: (folder / name).read_bytes(), {}, "tvm")


@pytest.mark.parametrize("name", CASES)
def test_what_tvm_is_trusted_with(built: tuple[HostManifest, HostFunctions], name: str) -> None:
    manifest, functions = built
    signature = next(f for f in manifest.functions if f.name == name)
    reason = CASES[name][1]
    assert re.search(reason, signature.refusal) if reason else not signature.refusal
    assert (name in functions.compiled) == (not reason)
    model = source(name)
    feeds = random_feeds(model)
    feeds |= {"z": np.array([1, 2, 3, -4, 5, 7])} if name == "divided" else {}
    found = functions.functions[name]([feeds[tensor.name] for tensor in signature.inputs])
    for ours, theirs in zip(found, execute(model, feeds), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_code_that_crashes_takes_nothing_along(tmp_path: Path) -> None:
    crashing = hosted("divided")
    trusted = replace(crashing, signature=replace(crashing.signature, refusal=""))
    with building(tmp_path, [hosted("masked"), trusted, hosted("size")]) as build:
        manifest = build.finish()
    refusals = {f.name: f.refusal for f in manifest.functions}
    assert refusals == {"masked": "", "divided": "the compiled code crashes (SIGFPE)", "size": ""}
    assert loaded(manifest, tmp_path).compiled == {"masked", "size"}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ('{"doing": "runs", "names": ["size"]}', "the compiled code takes too long"),
        ('{"doing": "compiles", "names": ["size"]}', "TVM takes too long"),
        ('{"doing": "compiles", "names": ["size", "masked"]}', None),
    ],
)
def test_time_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, reason: str | None
) -> None:
    script = tmp_path / "hanging"
    script.write_text(f"#!/bin/sh\necho '{last}' > {tmp_path}/doing.json\nkill -ALRM $$\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", os.fspath(script))
    with building(tmp_path, [hosted("size")]) as build:
        manifest = build.finish()
    assert manifest.target is None
    if reason is None:  # not even alone
        assert manifest.remark == "TVM failed: it takes too long"
    else:
        assert manifest.functions[0].refusal == reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "g (double[2, 3] x) => (double[2, 3] y) { a = Neg(x) y = Celu(a) }",
            r"^Celu 'Celu_y' .* for the NPU has no Celu, nor on the host: .*tensor\(double\)",
        ),
        (
            "g (int32[4] x) => (int32[4] y) <int32[1] k = {0}> { y = Mod(x, k) }",
            "^Mod 'Mod_y' .*, nor on the host: .* modulo by zero",
        ),
    ],
)
def test_what_onnx_runtime_lacks_is_refused(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = Graph.from_model(parse(text))
    PassManager([PartitionHost()]).run(graph, CONTEXT)
    with pytest.raises(UnsupportedOpError, match=message):
        check_reference(host_groups(graph)[0], host_models(graph)[0])
    assert capfd.readouterr() == ("", "")


def test_values_that_the_reference_refuses_at_first_do_not_matter() -> None:
    graph = Graph.from_model(source("divided"))
    PassManager([PartitionHost()]).run(graph, CONTEXT)
    check_reference(host_groups(graph)[0], host_models(graph)[0])

"""A component that was not understood: compile refuses it, and where that check is taken away,
verify fails while the arithmetic alone finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.api import compile_source, open_bundle
from edgefusion.compiler.graph import file as graph_file
from edgefusion.runtime.errors import NumericGateError
from edgefusion.toolchain.accuracy import import_check
from edgefusion.toolchain.accuracy.gates import Gates
from edgefusion.toolchain.accuracy.held_out import PROMPTS
from edgefusion.toolchain.accuracy.verification import Request, Verification, verify_bundle
from tests.graph_cases import parse

NETWORK = """g (float[1,6,16] x, float[1,6,16] z) => (float[1,6,24] y) {
    a = LayerNormalization <axis = -1, epsilon = 0.5> (x, scale, shift)
    b = MatMul(a, w1)
    c = Add(b, bias)
    d = Sub(c, z)
    y = MatMul(d, w2)
}"""
WEIGHTS = {"scale": (16,), "shift": (16,), "w1": (16, 16), "bias": (16,), "w2": (16, 24)}
Mistake = Callable[[onnx.GraphProto], None]


def swapped(graph: onnx.GraphProto) -> None:
    (node,) = [n for n in graph.node if n.op_type == "Sub"]
    node.input[:] = [node.input[1], node.input[0]]


def without_bias(graph: onnx.GraphProto) -> None:
    (bias,) = [t for t in graph.initializer if t.name == "bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(16, np.float32), "bias"))


def other_epsilon(graph: onnx.GraphProto) -> None:
    (node,) = [n for n in graph.node if n.op_type == "LayerNormalization"]
    (epsilon,) = [a for a in node.attribute if a.name == "epsilon"]
    epsilon.f = 1e-5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "network.onnx"
    onnx.save(parse(NETWORK, WEIGHTS), path)
    return path


@pytest.fixture
def misunderstand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mistake], None]]:
    """Plants a mistake in what the compiler reads from a file."""
    right = graph_file.normalized

    def plant(mistake: Mistake) -> None:
        def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
            made = right(model)
            mistake(made.graph)
            return made

        monkeypatch.setattr(graph_file, "normalized", wrong)

    return plant


def verified(bundle: Path, source: Path | None = None) -> Verification:
    given = str(source) if source else None
    request = Request(PROMPTS[:1], layers=(), source=given, host="ort")
    return verify_bundle(open_bundle(bundle), request, lambda _: None)


@pytest.mark.parametrize("mistake", [swapped, without_bias, other_epsilon])
def test_a_misunderstood_graph_is_refused_and_would_be_found(
    source: Path,
    mistake: Mistake,
    misunderstand: Callable[[Mistake], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = source.with_suffix(".npub")
    misunderstand(mistake)
    with pytest.raises(NumericGateError, match=r"output y has .* against the source") as told:
        compile_source(str(source), output=bundle)
    assert "nothing was written" in str(told.value)
    assert not bundle.exists()

    monkeypatch.setattr(import_check, "_require_understood", lambda *_: None)
    compile_source(str(source), output=bundle)
    for found in (verified(bundle), verified(bundle, source)):
        Gates(against="bundle").check(found)
        with pytest.raises(NumericGateError, match=r"expected at least 30 dB"):
            Gates().check(found)


def test_a_sound_compilation_says_how_near_it_is_and_keeps_its_vectors(source: Path) -> None:
    bundle = source.with_suffix(".npub")
    result = compile_source(str(source), output=bundle)
    (check,) = result.checks
    assert check.exact["y"].passes(100)
    assert 50 < check.rounded["y"].db < 90
    row = check.to_json()
    assert row["compared"]
    assert "with rounded weights" in str(check)

    found = verified(bundle)
    Gates().check(found)
    assert found.model_references == {"model": "recorded"}
    assert Gates().all_passed(found) is True
    assert verified(bundle, source).model_references == {"model": "source"}

    again = source.with_name("again.npub")
    compile_source(str(source), output=again)
    assert again.read_bytes() == bundle.read_bytes()


def test_a_bundle_without_vectors_is_not_called_checked(source: Path) -> None:
    from dataclasses import replace

    from edgefusion.compiler.bundle.bundle import write_bundle

    whole = source.with_suffix(".npub")
    compile_source(str(source), output=whole)
    bundle = open_bundle(whole)
    names = [name for name in bundle.manifest.members if not name.endswith("reference.npz")]
    assert len(names) + 1 == len(bundle.manifest.members)
    old = source.with_name("old.npub")
    write_bundle(old, replace(bundle.manifest, members={}), {n: bundle.read(n) for n in names})
    found = verified(old)
    Gates().check(found)
    assert found.unchecked == ("model",)
    assert Gates().all_passed(found) is None
    assert "NOT checked for model" in Gates().summary(found)


def test_likeness_of_anything_that_ran(source: Path) -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(100).astype(np.float32)
    vectors = import_check.ReferenceVectors({}, {"y": exact})
    near = import_check.check_against(vectors, {"y": exact * np.float32(1.1)})
    assert near["y"].db >= 10
    for outputs in ({"y": -exact}, {}, {"y": exact[:50]}, {"y": exact * np.nan}):
        far = import_check.check_against(vectors, outputs)
        assert far["y"].db < 10

"""ONNX's backend interface, and ONNX's own node tests against the committed table."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion import onnx_backend
from edgefusion.benchmarks import onnx_node_tests as suite
from edgefusion.runtime.errors import InputError, UnsupportedOpError, UsageError
from tests.graph_cases import parse

SAMPLE = ("abs", "add", "concat", "clip", "flatten", "groupnormalization", "if_", "isinf", "relu")
"""Modules of the suite that the gate runs, as they are; all of it runs under the marker full."""


def test_a_model_is_prepared_and_run() -> None:
    model = parse("g (float[2, 3] a, float[2, 3] b) => (float[2, 3] s, float[2, 3] r) "
                  "{ s = Add(a, b) r = Relu(a) }")  # fmt: skip
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)
    prepared = onnx_backend.prepare(model)
    for given in ([a, b], {"a": a, "b": b}):
        found = prepared.run(given)
        np.testing.assert_allclose(found.s, a + b, atol=4e-3)
        np.testing.assert_allclose(found[1], np.maximum(a, 0), atol=4e-3)
    with pytest.raises(UsageError, match="expected 2 inputs, found 1"):
        prepared.run([a])
    with pytest.raises(InputError, match=r"input a of shape \[2, 3\], found \[3, 2\]"):
        prepared.run([a.T, b])


def test_what_does_not_compile_is_not_compatible() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert onnx_backend.is_compatible(model)
    model.graph.node[0].op_type = "Nonsense"
    assert not onnx_backend.is_compatible(model)
    with pytest.raises(UnsupportedOpError):
        onnx_backend.run_model(model, [np.zeros(2, np.float32)])
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(UsageError, match="device CUDA"):
        onnx_backend.prepare(model, "CUDA")


def test_a_distance_knows_what_is_not_finite() -> None:
    wanted = np.array([1.0, np.inf, np.nan])
    assert suite.compare([wanted], [wanted]).kind == "right"
    assert suite.compare([np.array([1.0, 2.0, np.nan])], [wanted]).kind == "wrong"
    assert suite.compare([np.array([1.1, np.inf, np.nan])], [wanted]).kind == "wrong"
    assert suite.compare([wanted.astype(np.float32)], [wanted]).kind == "wrong"
    assert suite.compare([np.array([1, 2])], [np.array([1, 3])]).kind == "wrong"


def test_a_sample_of_the_suite_is_as_the_table_says() -> None:
    table = suite.committed()
    chosen = [c for c in suite.cases(SAMPLE) if c.name in table]
    assert len(chosen) > 2 * len(SAMPLE)
    for case in chosen:
        for way in suite.WAYS[:2]:
            outcome = suite.run_case(case, way)
            assert outcome.kind == table[case.name][way], f"{case.name}, {way}: {outcome}"


@pytest.mark.full
def test_the_suite_is_as_the_table_says() -> None:
    table = suite.committed()
    chosen = suite.cases(suite.modules())
    assert {case.name for case in chosen} == set(table)
    for row in suite.rows(chosen):
        kinds = dict(zip(suite.WAYS, (outcome.kind for outcome in row.outcomes), strict=True))
        assert kinds == {way: table[row.case][way] for way in suite.WAYS}, row


def test_the_table_has_nothing_wrong() -> None:
    for name, row in suite.committed().items():
        for way in suite.WAYS:
            assert row[way] in ("", "right", "rounded", "refused"), name
            assert row[way] != "refused" or row["reason"], name

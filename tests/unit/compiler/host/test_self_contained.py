"""A library is trusted only with what the runtime, which loads no compiler, can call."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefusion.compiler.host.functions import HostModel
from edgefusion.compiler.host.library import building
from edgefusion.runtime.host import own_target
from edgefusion.runtime.host_signature import HostSignature, HostTensor
from tests.graph_cases import parse

X = (HostTensor("x", (4,), "float32"),)


@pytest.mark.skipif(own_target() is None, reason="no TVM for this machine")
def test_what_tvm_computes_in_python_is_left_to_onnx_runtime(tmp_path: Path) -> None:
    count = HostSignature("count", X, (), (HostTensor("y", (1, 4), "int64"),))
    grow = HostSignature("grow", X, (), (HostTensor("y", (4,), "float32"),))
    models = [
        HostModel(count, parse("g (float[4] x) => (int64[1, 4] y) { y = NonZero(x) }")
                  .SerializeToString()),
        HostModel(grow, parse("g (float[4] x) => (float[4] y) { y = Exp(x) }")
                  .SerializeToString()),
    ]  # fmt: skip
    with building(tmp_path, models) as build:
        found = {f.name: f.refusal for f in build.finish().functions}
    assert "relax.run.nonzero" in found["count"]
    assert found["grow"] == ""

"""QDQ export: runs in ONNX Runtime, agrees with FP32 within quantization, and misses no tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from edgefusion.cli.main import main
from edgefusion.compiler.bundle.bundle import Bundle, write_bundle
from edgefusion.compiler.bundle.qdq_export import export_qdq, int16_scales
from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.network.ranges import LEVELS
from edgefusion.compiler.network.scales import with_scales
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.isa import DType
from edgefusion.runtime.program import Program
from edgefusion.runtime.tensor_numbers import ROW_NORMALISED, UNCALIBRATED
from tests.graph_cases import random_feeds
from tests.network_cases import save

Array = npt.NDArray[Any]


def values_of(model: onnx.ModelProto, folder: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every float that an expanded ``model`` makes, whose weights lie in ``folder``."""
    expanded = expand_functions(model)
    outputs = {info.name for info in expanded.graph.output}
    for node in expanded.graph.node:
        for name in node.output:
            if name and name not in outputs:
                expanded.graph.output.add().name = name
    path = folder / "shown.onnx"
    path.write_bytes(expanded.SerializeToString())
    options = ort.SessionOptions()
    # Else ONNX Runtime rounds what meets INT8 weights to 8 bits, in what should be FP32.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(path, options)
    names = [o.name for o in session.get_outputs()]
    return dict(feeds) | dict(zip(names, session.run(None, dict(feeds)), strict=True))


@pytest.fixture(scope="module", params=["cnn", "transformer"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An INT16 bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "r.toml").write_text("[precision]\nmodel = 'w8a16'\n")
    with pytest.raises(SystemExit) as ended:
        main(["compile", str(save(folder, request.param)), "-o", str(folder / "b.npub"),
              "--recipe", str(folder / "r.toml"), "--schedule", "mlt"])  # fmt: skip
    assert not ended.value.code
    return Bundle.open(folder / "b.npub")


def with_ranges(bundle: Bundle, path: Path, factor: float = 1.0) -> Bundle:
    """The same with ``factor`` times the scales that a calibration on ``random_feeds`` gives."""
    model = bundle.graph_model("model")
    values = values_of(model, bundle.path.parent, random_feeds(model))
    scales = {}
    for record in bundle.program("model").tensors:
        if record.dtype == DType.INT16 and record.numbers != ROW_NORMALISED:
            largest = float(np.abs(values[record.name]).max())
            scales[record.name] = factor * largest / LEVELS
    return with_program(bundle, with_scales(bundle.program("model"), scales), path)


def with_program(bundle: Bundle, program: Program, path: Path) -> Bundle:
    """``bundle`` with another program, at ``path``."""
    member = path.with_suffix(".npz")
    program.save(member)
    members: dict[str, Path | bytes] = {n: bundle.read(n) for n in bundle.manifest.members}
    members["model/program.npz"] = member
    write_bundle(path, replace(bundle.manifest, members={}), members)
    return Bundle.open(path)


def test_agrees_with_fp32(bundle: Bundle, tmp_path: Path) -> None:
    made = export_qdq(with_ranges(bundle, tmp_path / "c.npub"), "model", tmp_path)
    feeds = random_feeds(bundle.graph_model("model"))
    found = ort.InferenceSession(made.graph).run(None, feeds)
    model = bundle.graph_model("model")
    values = values_of(model, bundle.path.parent, feeds)
    # The transformer's scores reach 1174: a step of them is 0.04, and softmax has it as a factor.
    tolerance = 5e-3 if bundle.path.parent.name.startswith("transformer") else 1e-4
    for info, ours in zip(model.graph.output, found, strict=True):
        wanted = values[info.name]
        error = np.abs(ours - wanted).max() / np.abs(wanted).max()
        assert 0 < error < tolerance, "rounded, but to 16 bits"
    # Coarse scales must show: the pairs are in the way of the values, not beside it.
    coarse = with_ranges(bundle, tmp_path / "d.npub", factor=400.0)
    folder = tmp_path / "coarse"
    folder.mkdir()
    worse = ort.InferenceSession(export_qdq(coarse, "model", folder).graph).run(None, feeds)
    first = values[model.graph.output[0].name]
    assert np.abs(worse[0] - first).max() > 20 * np.abs(found[0] - first).max()


def test_is_standard_and_typed(bundle: Bundle, tmp_path: Path) -> None:
    calibrated = with_ranges(bundle, tmp_path / "c.npub")
    made = export_qdq(calibrated, "model", tmp_path)
    model = onnx.load(made.graph)
    onnx.checker.check_model(made.graph, full_check=True)
    assert {(o.domain, o.version) for o in model.opset_import} == {("", 21)}
    assert not model.functions
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    scales = int16_scales(calibrated.program("model"))
    # Each INT16 tensor that a node of the standard graph makes or reads has its pair.
    expanded = expand_functions(calibrated.graph_model("model")).graph
    named = {n for node in expanded.node for n in (*node.input, *node.output)}
    read = {n for node in expanded.node for n in node.input} | {o.name for o in expanded.output}
    expected = {name for name in scales if name in named & read}
    assert expected <= {node.name.removesuffix(":QuantizeLinear") for node in pairs}
    assert made.pairs == len(pairs) >= len(expected) > 3
    types = {t.name: t.data_type for t in model.graph.initializer}
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and len(n.input) == 2]
    assert weights
    assert {types[n.input[0]] for n in weights} == {onnx.TensorProto.INT8}


def test_uncalibrated_and_fp16_are_refused(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = bundle.program("model")
    unknown = tuple(
        replace(t, numbers=UNCALIBRATED) if t.numbers.scale else t for t in program.tensors
    )
    placeholders = with_program(bundle, replace(program, tensors=unknown), tmp_path / "none.npub")
    with pytest.raises(InputError, match="has no scale yet"):
        export_qdq(placeholders, "model", tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(placeholders.path), "-o", str(tmp_path / "out"), "--qdq"])
    assert ended.value.code == 3
    assert "--calibration-prompts" in capsys.readouterr().err
    floats = tuple(replace(t, dtype=DType.FP16) for t in program.tensors)
    with pytest.raises(UsageError, match="FP16"):
        int16_scales(replace(program, tensors=floats))


def test_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrated = with_ranges(bundle, tmp_path / "c.npub")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(calibrated.path), "-o", str(tmp_path / "out"), "--qdq"])
    assert not ended.value.code, capsys.readouterr().err
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["model.qdq.onnx", "model.qdq.safetensors"]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(calibrated.path), "-o", str(tmp_path), "--qdq", "--batch", "2"])
    assert ended.value.code == 2

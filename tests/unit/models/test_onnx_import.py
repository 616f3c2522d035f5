"""Graphs of other exporters: types, external data, which component they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefusion.models.export import export_component
from edgefusion.models.onnx_component import component_of_onnx
from edgefusion.models.onnx_source import check_onnx, imported
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import InputError
from tests.graph_cases import Array, assert_same, execute, parse

OTHER_FLOATS = ("float16", "double", "bfloat16")


def stored(name: str, *shape: int, dtype: str = "float") -> onnx.TensorProto:
    """Eighths, which every type holds."""
    values = np.random.default_rng(len(name)).integers(-8, 8, shape) / 8
    code = onnx.TensorProto.DataType.Value(dtype.upper())
    return numpy_helper.from_array(values.astype(onnx.helper.tensor_dtype_to_np_dtype(code)), name)


@pytest.mark.parametrize("dtype", OTHER_FLOATS)
@pytest.mark.parametrize("size", [4, 200])
def test_other_floats_compute_in_float32(dtype: str, size: int) -> None:
    """Ports keep their types; small constants are converted, large ones by a Cast behind them."""
    code = onnx.TensorProto.DataType.Value(dtype.upper())
    model = parse(
        f"g ({dtype}[2, {size}] x) => ({dtype}[2, {size}] y, float[2, {size}] z) {{ "
        f"h = MatMul(x, w) c = Cast<to = 1>(h) z = Neg(c) b = Cast<to = {code}>(c) y = Add(b, v) }}"
    )
    model.graph.initializer.extend(
        [stored("w", size, size, dtype=dtype), stored("v", size, dtype=dtype)]
    )
    made = imported(model)
    types = {i.name: i.type.tensor_type.elem_type for i in (*made.graph.input, *made.graph.output)}
    assert types == {"x": code, "y": code, "z": TensorProto.FLOAT}
    inner = {i.name: i.type.tensor_type.elem_type for i in made.graph.value_info}
    assert set(inner.values()) == {TensorProto.FLOAT}
    ops = [node.op_type for node in made.graph.node]
    assert ops.count("Cast") == 4 + (size > 128)
    if dtype != "bfloat16":  # ONNX Runtime's CPU kernels lack it
        x = stored("input", 2, size, dtype=dtype)
        feeds = {"x": numpy_helper.to_array(x)}
        found = [value.astype(np.float32) for value in execute(made, feeds)]
        wanted = [value.astype(np.float32) for value in execute(model, feeds)]
        assert_same(found, wanted, tolerance=2e-3)


def test_numbers_that_float32_cannot_hold_are_refused() -> None:
    model = parse("g (double[2] x) => (double[2] y) { y = Add(x, big) }")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e300]), "big"))
    with pytest.raises(InputError, match="the constant 'big' reaches 1e\\+300 in float64"):
        imported(model)


# External data


def saved(path: Path, *, location: str = "m.onnx_data", constant: bool = False) -> Array:
    """A product whose weight, an initializer or a node's value, is in another file; the weight."""
    weight = stored("w", 64, 64)
    values = numpy_helper.to_array(weight)
    external = onnx.TensorProto(name="w", data_type=1, dims=[64, 64])
    external.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(values.nbytes))):
        external.external_data.add(key=key, value=value)
    model = parse("g (float[1, 64] x) => (float[1, 64] y) { a = MatMul(x, w) y = Relu(a) }")
    if constant:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=external))
    else:
        model.graph.initializer.append(external)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    (path.parent / Path(location).name).write_bytes(values.tobytes())
    return values


def exported_weight(path: Path, folder: Path) -> Array:
    """The weight as the export of ``path`` has it."""
    source = resolve_source(str(path))
    assert len(source.digest) == 64
    made = onnx.load(export_component(source, "model", folder))
    (weight,) = (t for t in made.graph.initializer if list(t.dims) == [64, 64])
    return np.asarray(numpy_helper.to_array(weight))


def test_links_of_the_hub_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    values = saved(blobs / "model.onnx")
    snapshot.mkdir(parents=True)
    for name, blob in (("model.onnx", "111"), ("m.onnx_data", "222")):
        (blobs / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    assert np.array_equal(exported_weight(snapshot / "model.onnx", tmp_path / "out"), values)


def test_a_link_to_the_graph_alone(tmp_path: Path) -> None:
    values = saved(tmp_path / "real" / "m.onnx")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "m.onnx")
    assert np.array_equal(exported_weight(tmp_path / "link.onnx", tmp_path / "out"), values)


def test_values_of_nodes_may_be_external(tmp_path: Path) -> None:
    values = saved(tmp_path / "m.onnx", constant=True)
    assert np.array_equal(exported_weight(tmp_path / "m.onnx", tmp_path / "out"), values)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("location", "damage", "message"),
    [
        ("m.onnx_data", "missing", r"'m.onnx_data', which is not in .*Copy it beside"),
        ("m.onnx_data", "short", r"needs 16384 bytes.*has 100 bytes.*copy it again"),
        ("../m.onnx_data", "", r"'\.\./m.onnx_data'.*lest it read others"),
        ("/etc/passwd", "", r"'/etc/passwd'.*lest it read others"),
        ("C:\\data", "", r"lest it read others"),
        ("", "", r"lest it read others"),
    ],
)
def test_data_that_is_not_beside(
    tmp_path: Path, location: str, damage: str, message: str, constant: bool
) -> None:
    path = tmp_path / "sub" / "m.onnx"
    saved(path, location=location or "m.onnx_data", constant=constant)
    if not location:
        model = onnx.load(path, load_external_data=False)
        owner = model.graph.node[0].attribute[0].t if constant else model.graph.initializer[0]
        owner.external_data[0].value = ""
        path.write_bytes(model.SerializeToString())
    if damage == "missing":
        (path.parent / "m.onnx_data").unlink()
    if damage == "short":
        (path.parent / "m.onnx_data").write_bytes(bytes(100))
    with pytest.raises(InputError, match=message) as caught:
        check_onnx(path)
    assert str(caught.value).startswith(str(path))


# Components

UNET = {"sample": "[1, 4, 8, 8]", "timestep": "[1]", "encoder_hidden_states": "[1, 77, 8]"}


def component(
    tmp_path: Path,
    types: tuple[str, ...] = ("float", "int64", "float"),
    outputs: str = "float[1, 4, 8, 8] out_sample",
    **shapes: str,
) -> str:
    ports = {**UNET, **shapes}
    inputs = ", ".join(
        f"{dtype}{shape} {name}" for dtype, (name, shape) in zip(types, ports.items(), strict=True)
    )
    made = outputs.split(", float")[0].split()[-1]
    model = parse(f"g ({inputs}) => ({outputs}) {{ {made} = Relu(sample) }}")
    onnx.save(model, tmp_path / "m.onnx")
    return component_of_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "unet"),
        ({"types": ("float16", "float", "float16")}, "unet"),
        ({"types": ("float", "int32", "float"), "timestep": "[]"}, "unet"),
        ({"sample": "[n, 4, h, w]", "timestep": "[n]", "outputs": "float[n, 4, h, w] y"}, "unet"),
        ({"sample": "[2, 4, 8, 8]", "timestep": "[2]", "outputs": "float[2, 4, 8, 8] y"}, "unet"),
        ({"sample": "[1, 4, 64]", "outputs": "float[1, 4, 64] y"}, "model"),
        ({"timestep": "[7]"}, "model"),
        ({"timestep": "[1, 1]"}, "model"),
        ({"encoder_hidden_states": "[77, 8]"}, "model"),
        ({"outputs": "float[1, 3, 8, 8] y"}, "model"),
        ({"types": ("int64", "int64", "float")}, "model"),
        ({"types": ("float", "bool", "float")}, "model"),
    ],
)
def test_a_unet_is_known_by_names_and_shapes(
    tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    assert component(tmp_path, **change) == expected  # type: ignore[arg-type]

"""Exports: fixed names, static shapes, origins, torch's values, the same bytes each time."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgefusion.models.architectures import PRESETS
from edgefusion.models.export import export_component
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.networks.kind import Sizes
from edgefusion.models.networks.unet import ConditionalUNet
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError


def is_static(value: onnx.ValueInfoProto) -> bool:
    """Whether the type is a tensor of known, positive dimensions."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(
        dimension.HasField("dim_value") and dimension.dim_value > 0
        for dimension in tensor.shape.dim
    )


@pytest.fixture(scope="module")
def source() -> Source:
    return resolve_source("tiny-test")


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_values_agree_with_torch(source: Source, tiny_exports: Path, component: str) -> None:
    module: Any = source.load(component)
    kind = source.family.part(component).kind
    ports = kind.signature(module.config, Sizes())
    generator = torch.Generator().manual_seed(5)
    inputs = {
        port.name: torch.randn(port.shape, generator=generator)
        if port.dtype == "float32"
        else torch.randint(0, 500, port.shape, generator=generator)
        for port in ports.inputs
    }
    with torch.no_grad():
        expected = kind.graph(module)(*inputs.values()).numpy()
    session = ort.InferenceSession(tiny_exports / f"{component}.onnx")
    assert [value.name for value in session.get_inputs()] == list(inputs)
    (got,) = session.run(
        [port.name for port in ports.outputs], {k: v.numpy() for k, v in inputs.items()}
    )
    assert expected.std() > 0.01
    np.testing.assert_allclose(got, expected, atol=2e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_every_tensor_has_a_static_shape(tiny_exports: Path, component: str) -> None:
    graph = onnx.load(tiny_exports / f"{component}.onnx", load_external_data=False).graph
    typed = (*graph.value_info, *graph.output, *graph.input)
    known = {v.name for v in typed if is_static(v)} | {t.name for t in graph.initializer}
    assert {name for node in graph.node for name in (*node.input, *node.output) if name} <= known


@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_weights_keep_their_checkpoint_names(
    source: Source, tiny_exports: Path, component: str
) -> None:
    """Matmul weights may be folded into a transposed copy, position rows into a constant."""
    graph = onnx.load(tiny_exports / f"{component}.onnx", load_external_data=False).graph
    names = {tensor.name for tensor in graph.initializer}
    module = source.load(component)
    kept = {
        f"{name}.{leaf}"
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.Conv2d | torch.nn.LayerNorm | torch.nn.Embedding)
        for leaf, _ in child.named_parameters(recurse=False)
        if "position_embedding" not in name
    }
    assert kept
    assert kept <= names, kept - names
    assert not [name for name in names if name.startswith("model.")]


def test_origins_are_module_paths(source: Source, tiny_exports: Path) -> None:
    graph = onnx.load(tiny_exports / "unet.onnx", load_external_data=False).graph
    modules = {name for name, _ in source.load("unet").named_modules() if name} | {"unet"}
    origins = []
    for node in graph.node:
        assert [entry.key for entry in node.metadata_props] == ["origin"]
        origins.append(node.metadata_props[0].value)
    assert set(origins) <= modules
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn1" in origins
    by_origin = {node.metadata_props[0].value for node in graph.node if node.op_type == "Conv"}
    assert {"conv_in", "conv_out", "up_blocks.2.resnets.1.conv_shortcut"} <= by_origin


def test_graph_file_names_no_place(tiny_exports: Path) -> None:
    for component in STABLE_DIFFUSION.components:
        text = (tiny_exports / f"{component}.onnx").read_bytes()
        assert not re.search(rb"site-packages|/work|/tmp|/home|\.py\b|pkg\.torch", text)


def test_same_bytes_in_another_process_and_no_leftovers(
    source: Source, tiny_exports: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    for component in source.components:
        path = export_component(source, component, tmp_path, progress=lines.append)
        assert path == tmp_path / f"{component}.onnx"
    assert digests(tmp_path) == digests(tiny_exports)
    assert set(digests(tmp_path)) == {
        f"{c}.onnx{suffix}" for c in STABLE_DIFFUSION.components for suffix in ("", ".data")
    }
    assert lines[:3] == [
        "text_encoder: reading the network",
        "text_encoder: tracing",
        "text_encoder: writing",
    ]


def test_failed_write_leaves_the_old_files(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text_encoder.onnx").write_text("old")

    def fail(_model: object, path: Path, **_options: object) -> None:
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("edgefusion.models.export.ir.save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_component(source, "text_encoder", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["text_encoder.onnx"]
    assert (tmp_path / "text_encoder.onnx").read_text() == "old"


def test_batch_of_two(source: Source, tmp_path: Path) -> None:
    path = export_component(source, "vae_decoder", tmp_path, batch=2)
    (image,) = onnx.load(path, load_external_data=False).graph.output
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [2, 3, 128, 128]


def test_unknown_component_and_batch(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no component decoder; it holds text_encoder"):
        export_component(source, "decoder", tmp_path)
    with pytest.raises(UsageError, match="batch size is 0"):
        export_component(source, "unet", tmp_path, batch=0)
    with pytest.raises(UsageError, match="whose configuration fixes them"):
        export_component(source, "unet", tmp_path, shapes={"sample": (1, 4, 8, 8)})


@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_an_export_is_a_source_again(tiny_exports: Path, tmp_path: Path, component: str) -> None:
    again = resolve_source(str(tiny_exports / f"{component}.onnx"))
    assert (again.kind, again.components) == ("onnx", (component,))
    path = export_component(again, component, tmp_path)
    assert (tmp_path / f"{component}.onnx.data").read_bytes() == (
        tiny_exports / f"{component}.onnx.data"
    ).read_bytes()
    first, second = (
        onnx.load(p, load_external_data=False) for p in (tiny_exports / path.name, path)
    )
    assert [n.SerializeToString() for n in first.graph.node] == [
        n.SerializeToString() for n in second.graph.node
    ]


def test_digest_of_an_onnx_file_covers_its_data(tiny_exports: Path, tmp_path: Path) -> None:
    copy = copy_export(tiny_exports, tmp_path)
    digest = resolve_source(str(copy)).digest
    assert digest == resolve_source(str(tiny_exports / "vae_decoder.onnx")).digest
    data = copy.with_name("vae_decoder.onnx.data")
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    assert resolve_source(str(copy)).digest != digest


def copy_export(tiny_exports: Path, folder: Path) -> Path:
    for name in ("vae_decoder.onnx", "vae_decoder.onnx.data"):
        (folder / name).write_bytes((tiny_exports / name).read_bytes())
    return folder / "vae_decoder.onnx"


def truncate_graph(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def not_protobuf(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def empty_graph(path: Path) -> None:
    path.write_bytes(b"")


def lose_data(path: Path) -> None:
    path.with_name(path.name + ".data").unlink()


def shorten_data(path: Path) -> None:
    data = path.with_name(path.name + ".data")
    data.write_bytes(data.read_bytes()[:-4])


def point_outside(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    outside = path.parent.parent / "outside.data"
    outside.write_bytes(path.with_name(path.name + ".data").read_bytes())
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    path.write_bytes(model.SerializeToString())


def plant_nan(path: Path) -> None:
    data = path.with_name(path.name + ".data")
    data.write_bytes(data.read_bytes()[:-4] + np.float32(np.nan).tobytes())


def old_opset(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    model.opset_import[0].version = 9
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_graph, "not a readable ONNX|without nodes"),
        (not_protobuf, "not a readable ONNX"),
        (empty_graph, "without nodes"),
        (lose_data, "lies in the file 'vae_decoder.onnx.data', which is not in"),
        (shorten_data, "data file is truncated"),
        (point_outside, "files in its own folder alone"),
        (plant_nan, "holds NaN or infinite values"),
        (old_opset, "expected operator set 11 to 26, the model uses opset 9"),
    ],
)
def test_damaged_onnx(
    tiny_exports: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = copy_export(tiny_exports, folder)
    damage(path)
    with pytest.raises(InputError, match=message):
        export_component(resolve_source(str(path)), "vae_decoder", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def dynamic_model(path: Path, mask: float = 0.0) -> Path:
    """y = x @ w + mask for x [batch, 4], inline weights, no shapes inside."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"], "multiply"),
            helper.make_node("Add", ["product", "mask"], ["y"], "add"),
        ],
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 600])],
        [
            numpy_helper.from_array(np.ones((4, 600), np.float32), "w"),
            numpy_helper.from_array(np.full(600, mask, np.float32), "mask"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_dynamic_shapes_need_and_take_values(tmp_path: Path) -> None:
    source = resolve_source(str(dynamic_model(tmp_path / "dynamic.onnx", mask=-np.inf)))
    assert source.components == ("model",)
    with pytest.raises(
        InputError, match=r"the inputs x \(axis 0 = batch\) have dynamic dimensions.*--shape x="
    ):
        export_component(source, "model", tmp_path / "out")
    for wrong in ((3,), (3, 5), (0, 4)):
        with pytest.raises(InputError, match=r"contradicts .* states \?x4"):
            export_component(source, "model", tmp_path / "out", shapes={"x": wrong})
    with pytest.raises(InputError, match="names the input z"):
        export_component(source, "model", tmp_path / "out", shapes={"z": (1, 4)})
    path = export_component(source, "model", tmp_path / "out", shapes={"x": (3, 4)})
    graph = onnx.load(path, load_external_data=False).graph
    values = {v.name: v for v in (*graph.value_info, *graph.output)}
    for name in ("product", "y"):
        assert [d.dim_value for d in values[name].type.tensor_type.shape.dim] == [3, 600]
    (result,) = ort.InferenceSession(path).run(None, {"x": np.ones((3, 4), np.float32)})
    assert np.isneginf(result).all()


def test_sizes_below_zero_are_open(tmp_path: Path) -> None:
    path = dynamic_model(tmp_path / "dynamic.onnx")
    model = onnx.load(path)
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, path)
    source = resolve_source(str(path))
    with pytest.raises(InputError, match=r"the inputs x \(axis 0\) have dynamic dimensions"):
        export_component(source, "model", tmp_path / "out")
    export_component(source, "model", tmp_path / "out", shapes={"x": (3, 4)})


def test_guidance_embedding_is_an_input() -> None:
    unet: Any = PRESETS["tiny-test"].networks["unet"]
    with torch.device("meta"):
        names = [
            port.name for port in ConditionalUNet().signature(unet.build().config, Sizes()).inputs
        ]
    assert names == ["sample", "timestep", "encoder_hidden_states"]
    student = dataclasses.replace(unet, guidance_embedding_width=16)
    with torch.device("meta"):
        (*_, last) = ConditionalUNet().signature(student.build().config, Sizes()).inputs
    assert (last.name, last.shape) == ("timestep_cond", (1, 16))


def test_a_configuration_without_a_size_is_told() -> None:
    config = dataclasses.make_dataclass("Config", [("sample_size", object)])("large")
    with pytest.raises(InputError, match=r"sample_size 'large'; expected one whole"):
        ConditionalUNet().signature(config, Sizes())


@pytest.mark.full
def test_guidance_embedding_reaches_the_output(tmp_path: Path) -> None:
    plain: Any = PRESETS["tiny-test"].networks["unet"]
    student = dataclasses.replace(plain, guidance_embedding_width=16)
    torch.manual_seed(3)
    student.build().save_pretrained(tmp_path / "unet")
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    source = resolve_source(str(tmp_path))
    assert source.components == ("unet",)
    path = export_component(source, "unet", tmp_path / "out")
    session = ort.InferenceSession(path)
    unet: Any = source.load("unet")
    ports = ConditionalUNet().signature(unet.config, Sizes()).inputs
    feeds = {
        port.name: np.ones(port.shape, np.int64 if port.dtype == "int64" else np.float32)
        for port in ports
    }
    (first,) = session.run(None, feeds)
    (second,) = session.run(None, feeds | {"timestep_cond": 9 * feeds["timestep_cond"]})
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.full
@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_full_size_export_loads_in_onnx_runtime(tmp_path: Path, component: str) -> None:
    path = export_component(resolve_source("bk-sdm-tiny"), component, tmp_path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert ort.InferenceSession(path, options).get_outputs()

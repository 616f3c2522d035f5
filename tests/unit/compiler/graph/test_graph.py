"""The graph facade: identity, editing, metadata, lazy weights, files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.graph.scope import common_scope, exported_scope
from edgefusion.compiler.graph.text import graph_text
from edgefusion.compiler.graph.weights import FileValues, fill_external
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from tests.graph_cases import assert_same, execute, parse, random_feeds

TEXT = (
    "g (float[2, 64] x) => (float[2, 32] y) "
    "{ a = MatMul(x, w) b = Add(a, bias) c = Relu(b) d = Sigmoid(b) y = Mul(c, d) }"
)
WEIGHTS = {"w": (64, 32), "bias": (32,)}


@pytest.fixture
def model() -> onnx.ModelProto:
    return parse(TEXT, WEIGHTS)


@pytest.fixture
def on_disk(model: onnx.ModelProto, tmp_path: Path) -> Path:
    """The model with its weights in a file beside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(
        copy,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=100,
    )
    return tmp_path / "m.onnx"


def test_views_are_identity_stable(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    add = graph.nodes[1]
    assert add.inputs[0].producer is graph.nodes[0]
    assert add.output.consumers == (graph.nodes[2], graph.nodes[3])
    assert graph.nodes[0].output is add.inputs[0]
    assert len({*graph.nodes, *graph.nodes}) == 5


def test_producers_and_consumers_are_not_swapped(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    (x,), (y,) = graph.inputs, graph.outputs
    assert x.producer is None
    assert x.only_consumer is graph.nodes[0]
    assert y.producer is graph.nodes[-1]
    assert y.consumers == ()
    assert y.is_output
    assert graph.nodes[1].output.only_consumer is None, "it has two readers"


def test_shapes_are_inferred_where_they_are_missing(model: onnx.ModelProto) -> None:
    assert not model.graph.value_info
    graph = Graph.from_model(model)
    assert [node.output.shape for node in graph.nodes] == [(2, 32)] * 5
    assert graph.nodes[0].output.dtype == np.float32


def test_dynamic_shapes_are_refused() -> None:
    model = parse("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    with pytest.raises(InputError, match=r"static shapes.*'x'.*fixed input sizes"):
        Graph.from_model(model)


def test_foreign_ops_without_shapes_are_refused() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }")
    model.graph.node[0].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    with pytest.raises(UnsupportedOpError, match=r"com\.example\.Relu 'Relu_a' is no standard op"):
        Graph.from_model(model)


def test_control_flow_is_refused() -> None:
    branch = onnx.parser.parse_graph("b () => (float[2] r) { r = Relu(x) }")
    model = parse("g (float[2] x, bool c) => (float[2] y) { y = Identity(x) }")
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node[0].CopyFrom(node)
    with pytest.raises(UnsupportedOpError, match="control flow"):
        Graph.from_model(model)


def test_nodes_get_unique_names() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Exp(b) }")
    for node, name in zip(model.graph.node, ("same", "same", ""), strict=True):
        node.name = name
    assert [n.name for n in Graph.from_model(model).nodes] == ["same", "same_1", "Exp_y"]


def test_constant_nodes_become_constants() -> None:
    model = parse(
        "g (float[2] x) => (float[2] y) "
        "{ a = Constant<value = float[2] {1.0, 2.0}>() b = Constant<value_float = 3.0>() "
        "c = Add(a, b) y = Mul(x, c) }"
    )
    graph = Graph.from_model(model)
    assert [node.op for node in graph.nodes] == ["Add", "Mul"]
    assert graph.nodes[0].inputs[1].scalar() == 3.0
    assert graph.nodes[0].inputs[0].scalar() is None
    assert_same(execute(graph.to_model(), random_feeds(model)), execute(model, random_feeds(model)))


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_operator_sets_are_converted(opset: int) -> None:
    model = parse(
        "g (float[2, 8] x) => (float[2, 8] y) { s = ReduceMean<axes = [1]>(x) y = Sub(x, s) }",
        opset=opset,
    )
    model.graph.node[0].metadata_props.add(key="origin", value="block.norm")
    graph = Graph.from_model(model)
    assert graph.opset == 20
    assert graph.nodes[0].scope == "block.norm"
    assert_same(execute(graph.to_model(), random_feeds(model)), execute(model, random_feeds(model)))


def test_too_old_operator_sets_are_refused() -> None:
    with pytest.raises(InputError, match="operator set 11 to 26, the model uses opset 9"):
        Graph.from_model(parse("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=9))


# Editing


def test_fuse_takes_over_outputs_origins_and_scope(model: onnx.ModelProto) -> None:
    scopes = ("block.0.proj", "block.0.proj", "block.1", "block.1", "block.1")
    for node, scope in zip(model.graph.node, scopes, strict=True):
        node.metadata_props.add(key="origin", value=scope)
    graph = Graph.from_model(model)
    matmul, add = graph.nodes[:2]
    x, w = matmul.inputs
    fused = graph.fuse(
        [matmul, add], function_for("MatMul", ("bias",)), [x, w, add.inputs[1]], [add.output]
    )
    assert fused.origin == ("MatMul_a", "Add_b")
    assert fused.scope == "block.0.proj"
    assert fused.name == "Add_b"
    assert matmul.removed
    assert [n.op for n in graph.nodes] == ["MatMul_bias", "Relu", "Sigmoid", "Mul"]
    assert_same(execute(graph.to_model(), random_feeds(model)), execute(model, random_feeds(model)))


def test_fuse_leaves_what_others_still_read(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    _, add, relu, _, mul = graph.nodes
    graph.fuse([add, relu], "Relu", [add.output], [relu.output])
    assert not add.removed
    assert relu.removed
    assert mul.inputs[0].producer is not relu
    assert len(graph.nodes) == 5


def test_fuse_refuses_to_split_the_results_of_a_node() -> None:
    model = parse(
        "g (float[4] x) => (float[2] y, float[2] z) "
        "{ a, b = Split<axis = 0, num_outputs = 2>(x) y = Relu(a) z = Relu(b) }"
    )
    graph = Graph.from_model(model)
    split = graph.nodes[0]
    with pytest.raises(ValueError, match="makes more than"):
        graph.fuse([split], "Identity", [graph.inputs[0]], [split.outputs[0]])


def test_order_is_restored_after_an_insertion(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    relu = graph.nodes[2]
    moved = graph.tensor("moved", (2, 32), np.dtype(np.float32))
    negated = graph.add("Neg", [relu.inputs[0]], [moved], source=[relu])
    relu.set_input(0, moved)
    order = [node.op for node in graph.nodes]
    assert order.index("Neg") < order.index("Relu")
    assert negated.origin == relu.origin


def test_a_cycle_is_found(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    graph.nodes[1].set_input(1, graph.nodes[4].output)
    graph._sorted = False
    with pytest.raises(ValueError, match="cycle through"):
        _ = graph.nodes


def test_rewire_keeps_the_names_of_results() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Identity(b) }")
    graph = Graph.from_model(model)
    _, neg, identity = graph.nodes
    graph.rewire(identity.output, neg.output)
    graph.remove(identity)
    assert graph.outputs[0].name == "y"
    assert graph.outputs[0].producer is neg
    assert_same(execute(graph.to_model(), random_feeds(model)), execute(model, random_feeds(model)))


def test_rewire_refuses_to_lose_a_result() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    graph = Graph.from_model(model)
    with pytest.raises(ValueError, match="cannot become"):
        graph.rewire(graph.outputs[0], graph.inputs[0])


def test_names_are_unique(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    names = [graph.constant("w", np.zeros(1)).name for _ in range(3)]
    assert names == ["w_1", "w_2", "w_3"]
    assert graph.unique_name("new") == "new"
    assert graph.unique_name("new") == "new_1"


def test_one_function_name_has_one_body(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    graph.define(function_for("SiLU"))
    graph.define(function_for("SiLU"))
    other = function_for("QuickGELU")
    other.name = "SiLU"
    with pytest.raises(ValueError, match="another body"):
        graph.define(other)


def test_missing_attribute_names_the_node(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    with pytest.raises(InputError, match=r"Relu 'Relu_c'.*'axis' is missing"):
        graph.nodes[2].get_int("axis")
    assert graph.nodes[2].get_int("axis", 7) == 7


# Metadata


def test_metadata_survives_a_file(model: onnx.ModelProto, tmp_path: Path) -> None:
    graph = Graph.from_model(model)
    add, relu = graph.nodes[1:3]
    relu.annotations["precision"] = "w8a16"
    relu.scope = "down.0"
    fused = graph.fuse([add], "Add", add.inputs, [add.output])
    fused.origin = ("one, two", 'thr"ee')
    graph.save(tmp_path / "g.onnx", tmp_path / "w.safetensors")
    again = Graph.load(tmp_path / "g.onnx")
    assert again.nodes[2].annotations == {"precision": "w8a16"}
    assert again.nodes[2].scope == "down.0"
    assert again.nodes[1].origin == ("one, two", 'thr"ee')
    props = onnx.load(tmp_path / "g.onnx").graph.node[2].metadata_props
    assert [p.key for p in props] == [
        "edgefusion.origin",
        "edgefusion.precision",
        "edgefusion.scope",
    ]


def test_scope_from_pytorch() -> None:
    scopes = "['', 'm', 'm.down.0', 'm.down.0.to_q', 'linear_3']"
    assert exported_scope({"pkg.torch.onnx.name_scopes": scopes}) == "m.down.0.to_q"
    assert exported_scope({"origin": "down.0", "pkg.torch.onnx.name_scopes": scopes}) == "down.0"
    assert exported_scope({}) == ""


def test_common_scope_stops_at_whole_names() -> None:
    assert common_scope(["a.b1", "a.b2"]) == "a"
    assert common_scope(["a.b", "a.b.c", ""]) == "a.b"
    assert common_scope(["a", "b"]) == ""
    assert common_scope(["unet", "a.b", "a.b"]) == "a.b"
    assert common_scope(["", ""]) == ""


# Weights and files


def test_weights_are_views_of_the_file(on_disk: Path, model: onnx.ModelProto) -> None:
    graph = Graph.load(on_disk)
    w = graph.nodes[0].inputs[1]
    assert isinstance(w.lazy, FileValues)
    values = w.values()
    assert values.base is not None, "a copy"
    assert not values.flags.writeable
    np.testing.assert_array_equal(values, onnx.numpy_helper.to_array(model.graph.initializer[0]))
    assert isinstance(w.lazy, FileValues), "reading must not cache"


def test_model_without_weights_holds_only_small_constants(on_disk: Path) -> None:
    model = Graph.load(on_disk).to_model(with_weights=False)
    held = {t.name: len(t.raw_data) for t in model.graph.initializer}
    assert held == {"w": 0, "bias": 128}


def test_deferred_constants_are_computed_on_each_read(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    calls = []

    def compute() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        calls.append(1)
        return np.ones((64, 32), np.float32)

    constant = graph.deferred_constant("ones", (64, 32), np.dtype(np.float32), compute)
    graph.nodes[0].set_input(1, constant)
    assert constant.shape == (64, 32)
    graph_text(graph)
    graph.to_model(with_weights=False)
    assert not calls
    constant.values()
    constant.values()
    assert len(calls) == 2


def test_deferred_constants_must_keep_their_promise(model: onnx.ModelProto) -> None:
    graph = Graph.from_model(model)
    wrong = graph.deferred_constant("c", (3,), np.dtype(np.float32), lambda: np.zeros(3))
    with pytest.raises(ValueError, match=r"float32\[3\], computed float64\[3\]"):
        wrong.values()


def test_saved_graph_runs_beside_its_weights(on_disk: Path, model: onnx.ModelProto) -> None:
    import onnxruntime as ort

    graph = Graph.load(on_disk)
    doubled = graph.deferred_constant(
        "doubled", (64, 32), np.dtype(np.float32), lambda: 2 * np.ones((64, 32), np.float32)
    )
    graph.nodes[0].set_input(1, doubled)
    folder = on_disk.parent / "out"
    folder.mkdir()
    graph.save(folder / "graph.onnx", folder / "weights.safetensors")
    session = ort.InferenceSession(folder / "graph.onnx")
    feeds = random_feeds(model)
    assert_same(session.run(None, feeds), execute(graph.to_model(), feeds))
    stored = onnx.load(folder / "graph.onnx", load_external_data=False).graph.initializer
    locations = {t.name: [e.value for e in t.external_data][:1] for t in stored}
    assert locations == {"doubled": ["weights.safetensors"], "bias": []}


def test_saving_twice_gives_the_same_bytes(on_disk: Path) -> None:
    contents = []
    for name in ("a", "b"):
        folder = on_disk.parent / name
        folder.mkdir()
        graph = Graph.load(on_disk)
        graph.save(folder / "graph.onnx", folder / "w.safetensors")
        contents.append([p.read_bytes() for p in sorted(folder.iterdir())])
    assert contents[0] == contents[1]
    reloaded = Graph.load(on_disk.parent / "a" / "graph.onnx")
    assert_same([t.values() for t in reloaded.constants], [t.values() for t in graph.constants], 0)


def test_weights_must_lie_below_the_graph(on_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match="must lie in the folder"):
        Graph.load(on_disk).save(tmp_path / "sub" / "graph.onnx", tmp_path / "w.safetensors")


def test_missing_graph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Graph.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a"])
def test_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(InputError, match="expected an ONNX model"):
        Graph.load(tmp_path / "bad.onnx")


def test_missing_external_data(on_disk: Path) -> None:
    (on_disk.parent / "m.data").unlink()
    with pytest.raises(InputError, match=r"m\.data' of initializer 'w' does not exist"):
        Graph.load(on_disk)


def test_truncated_external_data(on_disk: Path) -> None:
    data = on_disk.parent / "m.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        Graph.load(on_disk)


@pytest.mark.parametrize("location", ["/etc/passwd", "../m.data", ""])
def test_external_data_outside_the_folder(on_disk: Path, location: str) -> None:
    model = onnx.load(on_disk, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    on_disk.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="beside its graph"):
        Graph.load(on_disk)


def test_external_data_of_another_length(on_disk: Path) -> None:
    model = onnx.load(on_disk, load_external_data=False)
    model.graph.initializer[0].dims[0] = 32
    on_disk.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="needs 4096 bytes, but the graph records 8192"):
        Graph.load(on_disk)


def test_text_shows_types_scopes_and_values(model: onnx.ModelProto) -> None:
    model.graph.node[1].metadata_props.add(key="origin", value="block.0")
    graph = Graph.from_model(model)
    graph.nodes[1].annotations["precision"] = "fp16"
    lines = graph_text(graph).splitlines()
    assert lines[0] == "graph g opset 20"
    assert lines[1] == "input %x: f32[2,64]"
    assert "%b: f32[2,32] = Add(%a, %bias) !precision=fp16 @block.0 #Add_b" in lines
    assert "constant %w: f32[64,32] = inline" in lines


def test_loading_reads_no_weights(tmp_path: Path) -> None:
    """Half a gigabyte of (sparse) weights open at once, in a few megabytes."""
    size = 1 << 29
    with (tmp_path / "w.data").open("wb") as file:
        file.truncate(size)
    model = parse(TEXT, WEIGHTS)
    big = model.graph.initializer[0]
    big.ClearField("raw_data")
    big.dims[:] = [64, size // 256]
    fill_external(big, "w.data", 0, size)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, "f4"), "bias"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=2)
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size // 256)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    graph = Graph.load(tmp_path / "m.onnx")
    assert graph.nodes[0].inputs[1].values()[0, 0] == 0.0
    assert time.perf_counter() - start < 1.5
    assert psutil.Process().memory_info().rss - before < 100e6


@pytest.mark.parametrize("origin", ["", "conv1", "[1, 2]", '{"a": 1}', "[" * 100_000])
def test_an_origin_that_is_no_list_of_names_is_refused(origin: str) -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.node[0].metadata_props.add(key="edgefusion.origin", value=origin)
    with pytest.raises(InputError, match=r"metadata edgefusion\.origin"):
        Graph.from_model(model)

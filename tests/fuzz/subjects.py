"""What is fuzzed: each subject makes a mutated input from a seed and lets the toolchain read it.

A subject may end well, or with one of the errors of ``runtime.errors``; anything else is a finding,
values other than ONNX Runtime's included.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.host import open_host
from edgefusion.compiler.frontend.from_graph import network_from_graph
from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host.functions import host_models
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.models.export import export_component
from edgefusion.models.source import resolve_source
from edgefusion.passes.optimise import optimise
from edgefusion.passes.pipeline import default_passes
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.files import write_whole
from edgefusion.runtime.host_ort import ort_function
from edgefusion.runtime.isa import Role
from edgefusion.runtime.measurement import component_latency
from edgefusion.runtime.program import Columns, Program
from edgefusion.runtime.progress import silent
from edgefusion.runtime.target import load_target, target_path
from edgefusion.runtime.verifier import verify_program
from edgefusion.toolchain.accuracy.calibration_file import load_calibration
from edgefusion.toolchain.accuracy.recipe import load_recipe
from edgefusion.toolchain.compiling.compile_source import compile_source
from edgefusion.toolchain.running.ports import declared_outputs
from tests.bundle_changes import changed
from tests.fuzz.mutations import (
    Random,
    mutate_message,
    mutated_bytes,
    mutated_json,
    mutated_text,
)
from tests.graph_cases import parse, random_feeds

Array = npt.NDArray[Any]

MOST_INSTRUCTIONS = 3000
"""Programs beyond are not executed, for the time it takes."""

LEAST_SQNR_DB = 30.0
"""FP16 with sums of a few dozen products: what is below computes something else."""

LARGEST_VALUE = 1e3
"""Larger reference values overflow or cancel in FP16; they say nothing of the toolchain."""

GRAPHS: tuple[tuple[str, Mapping[str, tuple[int, ...]]], ...] = (
    (
        """g (float[1,4,6,6] x) => (float[1,6] y, float[1,6,6,6] a) {
        c = Conv<pads = [1, 1, 1, 1], strides = [1, 1]>(x, w, b)
        a = Relu(c)
        p = GlobalAveragePool(a)
        y = Flatten<axis = 1>(p) }""",
        {"w": (6, 4, 3, 3), "b": (6,)},
    ),
    (
        """g (float[1,6,8] x, float[1,6,8] r) => (float[1,6,8] y) {
        n = LayerNormalization<axis = -1, epsilon = 1e-5>(x, s, t)
        m = MatMul(n, w)
        d = Add(m, b)
        e = Sigmoid(d)
        y = Mul(e, r) }""",
        {"s": (8,), "t": (8,), "w": (8, 8), "b": (8,)},
    ),
    (
        """g (float[1,4,6,6] x) => (float[1,4,12,12] y, float[1,4,3,3] z) {
        z = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        f = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()
        y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
                   nearest_mode = "floor">(x, , f) }""",
        {},
    ),
    (
        """g (float[2,6,8] q, float[2,8,6] k) => (float[2,6,6] y, float[2,3,6] h) {
        m = MatMul(q, k)
        y = Softmax<axis = -1>(m)
        h, i = Split<axis = 1, num_outputs = 2>(y) }""",
        {},
    ),
    (
        """g (float[1,6,8] x, int64[3] n) => (float[1,3,8] y, float[6,8] v) {
        t = Transpose<perm = [0, 2, 1]>(x)
        u = Transpose<perm = [0, 2, 1]>(t)
        y = Gather<axis = 1>(u, n)
        s = Constant<value_ints = [6, 8]>()
        v = Reshape(x, s) }""",
        {},
    ),
    (
        """g (float[1,8,5,5] x) => (float[1,4,5,5] y) {
        i = InstanceNormalization<epsilon = 1e-5>(x, s, t)
        a, b = Split<axis = 1, num_outputs = 2>(i)
        g = Gelu(b)
        m = Mul(a, g)
        c = Concat<axis = 1>(m, a)
        f = Constant<value_ints = [0, 0, 0, 0]>()
        e = Constant<value_ints = [1, 4, 5, 5]>()
        y = Slice(c, f, e) }""",
        {"s": (8,), "t": (8,)},
    ),
)


def onnx_fields(seed: int, place: Path) -> None:
    """A small graph with fields changed; where it is still a model, its values."""
    rng = random.Random(seed)
    text, weights = rng.choice(GRAPHS)
    model = parse(text, weights)
    names = tuple({name for node in model.graph.node for name in (*node.input, *node.output)})
    operators = ("Add", "Mul", "Sub", "Relu", "Reshape", "ReduceMean", "Where", "Cast", "Identity")
    mutate_message(model, rng, (*names, *operators))
    path = place / "m.onnx"
    path.write_bytes(model.SerializeToString())
    _compile_and_compare(path)


def onnx_bytes(seed: int, place: Path) -> None:
    """A small graph's file with bytes changed."""
    rng = random.Random(seed)
    text, weights = rng.choice(GRAPHS)
    path = place / "m.onnx"
    path.write_bytes(mutated_bytes(parse(text, weights).SerializeToString(), rng))
    _compile_and_compare(path)


def _compile_and_compare(path: Path) -> None:
    machine = load_target("exynos2400").machine
    graph, network = _network(path)
    models = host_models(graph)
    graph.save(path.parent / "graph.onnx", path.parent / "weights.safetensors")
    constants = {tensor.name: tensor.values() for tensor in graph.constants}
    program = lower(network, machine, schedule_named("pipelined"), silent).program
    verify_program(program, machine)
    component_latency(program, machine)
    hosts = {m.signature.name: ort_function(m.signature, m.model, constants) for m in models}
    if len(program) > MOST_INSTRUCTIONS:
        return
    reference = _reference(path)
    if reference is None:
        return
    feeds, expected = reference
    made = Executor(program, machine, constants, hosts=hosts).run(feeds).outputs
    (exported,) = (path.parent / "export").glob("*.onnx")
    declared = onnx.load(exported, load_external_data=False).graph
    _compare(expected, declared_outputs(declared, feeds, made))


def _network(path: Path) -> tuple[Graph, Network]:
    """The .onnx file ``path`` after all passes, in FP16, as graph and as network."""
    machine = load_target("exynos2400").machine
    source = resolve_source(str(path))
    (component,) = source.components
    exported = export_component(source, component, path.parent / "export")
    graph, _ = optimise(exported, component, machine, default_passes("fp16"), silent)
    return graph, network_from_graph(graph, component)


def _reference(path: Path) -> tuple[dict[str, Array], dict[str, Array]] | None:
    """Random inputs and what ONNX Runtime makes of them; None where it does not run the model."""
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    if any(info.name in constants for info in model.graph.input):
        return None
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        feeds = random_feeds(model)
        session = ort.InferenceSession(model.SerializeToString(), options)
        names = [info.name for info in session.get_outputs()]
        return feeds, dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))
    except Exception:  # noqa: BLE001  # it has no say then
        return None


def _compare(expected: Mapping[str, Array], found: Mapping[str, Array]) -> None:
    missing = expected.keys() - found.keys()
    assert not missing, f"outputs {sorted(missing)} are missing"
    for name, wanted in expected.items():
        made = np.asarray(found[name]).reshape(wanted.shape)
        if wanted.dtype.kind in "iub":
            assert np.array_equal(wanted, made), f"'{name}' differs"
        elif np.isfinite(wanted).all() and np.abs(wanted).max(initial=0) < LARGEST_VALUE:
            noise = float(((wanted.astype(float) - made) ** 2).sum())
            signal = float((wanted.astype(float) ** 2).sum())
            tiny = 1e-6 * wanted.size
            bad = noise > tiny and noise > signal * 10 ** (-LEAST_SQNR_DB / 10)
            assert not bad, f"'{name}' is wrong: noise {noise:.3g}, signal {signal:.3g}"


@cache
def _bundle(place: Path) -> Path:
    """A small valid bundle with NPU ops and a host function, calibrated."""
    text = """g (float[1,4,6,6] x, int64[3] n) => (float[1,3,6,6] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)
        a = Relu(c)
        y = Gather<axis = 1>(a, n) }"""
    model = parse(text, {"w": (4, 4, 3, 3)})
    path = place / "valid.onnx"
    path.write_bytes(model.SerializeToString())
    compile_source(str(path), output=place / "valid.npub")
    return place / "valid.npub"


def bundle_bytes(seed: int, place: Path) -> None:
    """A bundle's file with bytes changed: digests must notice."""
    rng = random.Random(seed)
    path = place / "b.npub"
    whole = _bundle(_shared()).read_bytes()
    path.write_bytes(mutated_bytes(whole, rng))
    if path.read_bytes() != whole:
        _use(path)


def bundle_members(seed: int, place: Path) -> None:
    """A bundle whose members were changed and its digests with them: what an attacker can do."""
    rng = random.Random(seed)
    valid = Bundle.open(_bundle(_shared()))
    editable = [n for n in valid.manifest.members if not n.endswith((".so", ".safetensors"))]
    name = rng.choice(editable)
    content = valid.read(name)
    if name.endswith(".json"):
        text = json.dumps(mutated_json(json.loads(content), rng))
        new = text.replace("NaN", "1").encode()
    elif name.endswith(".npz"):
        new = _mutated_npz(content, rng)
    elif name.endswith(".onnx"):
        model = onnx.ModelProto.FromString(content)
        mutate_message(model, rng, tuple(node.op_type for node in model.graph.node))
        new = model.SerializeToString()
    else:
        new = mutated_bytes(content, rng)
    _use(changed(_bundle(_shared()), place / "b.npub", {name: new}))


def bundle_manifest(seed: int, place: Path) -> None:
    """A bundle with another manifest."""
    rng = random.Random(seed)
    valid, path = _bundle(_shared()), place / "b.npub"
    with zipfile.ZipFile(valid) as old:
        manifest = mutated_json(json.loads(old.read("manifest.json")), rng)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
            new.writestr("manifest.json", json.dumps(manifest))
            for name in old.namelist():
                if name != "manifest.json":
                    new.writestr(name, old.read(name))
    _use(path)


@cache
def _programs() -> tuple[tuple[Program, dict[str, Array]], ...]:
    """Programs of the graphs that need no host function, in FP16, with their constants."""
    found = []
    for text, weights in GRAPHS:
        path = _shared() / f"program{len(found)}" / "m.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(parse(text, weights).SerializeToString())
        graph, network = _network(path)
        if not host_models(graph):
            machine = load_target("exynos2400").machine
            program = lower(network, machine, schedule_named("serial"), silent).program
            found.append((program, {tensor.name: tensor.values() for tensor in graph.constants}))
    return tuple(found)


def program_columns(seed: int, place: Path) -> None:
    """A program with other shapes, strides, addresses, types or attributes of its operands."""
    rng = random.Random(seed)
    program, constants = rng.choice(_programs())
    columns = {name: getattr(program.columns, name).copy() for name in Columns.__slots__}
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(
            (
                *("operand_shape", "operand_shape", "operand_strides", "operand_address"),
                *("operand_dtype", "operand_tensor", "operand_rank", "opcode", "attrs"),
            )
        )
        flat = columns[name].reshape(-1)
        at, limits = rng.randrange(flat.size), np.iinfo(columns[name].dtype)
        value = int(flat[at]) + rng.choice((-2, -1, 1, 2, 3, 8, 64))
        if rng.random() < 0.3:
            value = int(rng.choice(flat.tolist()))
        flat[at] = min(max(value, limits.min), limits.max)
    other = replace(program, columns=Columns(**columns))
    machine = load_target("exynos2400").machine
    executor = Executor(other, machine, constants)
    inputs = {t.name: np.ones(t.shape, np.float32) for t in program.tensors if t.role is Role.INPUT}
    executor.run(inputs)


def _mutated_npz(content: bytes, rng: Random) -> bytes:
    """Arrays with an element changed, or one array gone, of another type or shape."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    name = rng.choice(list(arrays))
    array = arrays[name]
    how = rng.randrange(8)
    if "tables" in arrays and (name == "tables" or rng.random() < 0.3):
        tables = mutated_json(json.loads(arrays["tables"].tobytes()), rng)
        arrays["tables"] = np.frombuffer(json.dumps(tables).encode(), np.uint8)
    elif how == 0:
        del arrays[name]
    elif how == 1:
        arrays[name] = np.zeros(array.shape, rng.choice(("float32", "int8", "U4")))
    elif how == 2:
        arrays[name] = array[: array.shape[0] // 2] if array.ndim else array.reshape(1)
    elif array.size and array.dtype.kind in "iu":
        flat, limits = array.reshape(-1), np.iinfo(array.dtype)
        at = rng.randrange(flat.size)
        near = int(flat[at]) + rng.choice((-64, -1, 1, 2, 64, 4096))
        value = rng.choice((near, near, limits.max, limits.min, 0))
        flat[at] = min(max(value, limits.min), limits.max)
    elif array.size and array.dtype == np.uint8:
        array.reshape(-1)[rng.randrange(array.size)] ^= 1 << rng.randrange(8)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _use(path: Path) -> None:
    """All that is done with a bundle, host functions by ONNX Runtime."""
    bundle = Bundle.open(path)
    bundle.latency_json()
    for component in bundle.components:
        program = bundle.program(component)
        str(program)
        component_latency(program, bundle.machine)
        bundle.graph(component)
        bundle.remarks(component)
        hosts = open_host(bundle, component, "ort").functions
        executor = Executor(program, bundle.machine, bundle.weights(component), hosts=hosts)
        rng = np.random.default_rng(0)
        inputs = {
            t.name: rng.integers(0, 2, t.shape).astype(np.float32)
            for t in program.tensors
            if t.role.name == "INPUT"
        }
        executor.run(inputs)


def target_text(seed: int, place: Path) -> None:
    """A target file; where it is still one, a program is made for it and timed."""
    rng = random.Random(seed)
    path = place / "t.toml"
    _write_text(path, mutated_text(target_path("exynos2400").read_text(), rng))
    machine = load_target(str(path)).machine
    model = parse(*GRAPHS[seed % len(GRAPHS)])
    file = place / "m.onnx"
    file.write_bytes(model.SerializeToString())
    source = resolve_source(str(file))
    exported = export_component(source, "model", place)
    graph, _ = optimise(exported, "model", machine, default_passes("fp16"), silent)
    program = lower(
        network_from_graph(graph, "model"), machine, schedule_named("mlt"), silent
    ).program
    verify_program(program, machine)
    component_latency(program, machine)


def recipe_text(seed: int, place: Path) -> None:
    """A recipe."""
    rng = random.Random(seed)
    text = '[precision]\nunet = "w8a16"\n\n[[rule]]\nmatch = "*.conv1"\nprecision = "fp16"\n'
    path = place / "r.toml"
    _write_text(path, mutated_text(text, rng))
    load_recipe(path)


def calibration_json(seed: int, place: Path) -> None:
    """A calibration file."""
    rng = random.Random(seed)
    valid = json.loads(Bundle.open(_bundle(_shared())).read("model/calibration.json"))
    path = place / "c.json"
    text = json.dumps(mutated_json(valid, rng))
    _write_text(path, text if rng.random() < 0.8 else mutated_text(text, rng))
    load_calibration(path)


def _write_text(path: Path, text: str) -> None:
    write_whole(path, text.encode("utf-8", errors="surrogateescape"))


@cache
def _shared() -> Path:
    """A folder that lasts as long as the process."""
    _FOLDERS.append(TemporaryDirectory(prefix="fuzz-valid-"))
    return Path(_FOLDERS[-1].name)


_FOLDERS: list[TemporaryDirectory[str]] = []

SUBJECTS: Mapping[str, Callable[[int, Path], None]] = {
    function.__name__: function
    for function in (
        onnx_fields,
        onnx_bytes,
        bundle_bytes,
        bundle_members,
        bundle_manifest,
        program_columns,
        target_text,
        recipe_text,
        calibration_json,
    )
}

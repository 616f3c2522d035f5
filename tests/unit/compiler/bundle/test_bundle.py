"""Bundles: what is written is read back, bytes depend on content alone, and damage is told."""

from __future__ import annotations

import errno
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefusion.compiler.bundle import archive as bundle_zip
from edgefusion.compiler.bundle.archive import ALIGNMENT, member_info, write_members
from edgefusion.compiler.bundle.bundle import Bundle, json_bytes, write_bundle
from edgefusion.compiler.bundle.check import LATENCY
from edgefusion.compiler.bundle.manifest import (
    FORMAT_VERSION,
    ComponentInfo,
    HostOp,
    Manifest,
    PassInfo,
    SourceInfo,
    manifest_from_json,
)
from edgefusion.compiler.graph.graph import Graph
from edgefusion.runtime.errors import DoesNotFitError, InputError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import replacing
from edgefusion.runtime.isa import Cause, DType, EngineKind, Opcode, Role, Space
from edgefusion.runtime.program import (
    BufferRecord,
    Instruction,
    Operand,
    OpRecord,
    Program,
    TensorRecord,
)
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine


def tiny_program() -> Program:
    """Loads a tensor and stores it again."""
    builder = ProgramBuilder("model", MACHINE.name, "serial")
    builder.ops.append(OpRecord("copy", "unary", ("source_node",)))
    builder.tensors += [
        TensorRecord("x", DType.FP16, (8,), Role.INPUT, 0, 16),
        TensorRecord("y", DType.FP16, (8,), Role.OUTPUT, 64, 16),
    ]
    builder.buffers.append(BufferRecord("tile", Space.SRAM, 0, 16, 0, 1))
    tile = Operand(0, Space.SRAM, 0, DType.FP16, (8,), (2,))
    x = tile._replace(space=Space.DRAM)
    y = tile._replace(space=Space.DRAM, tensor=1, address=64)
    dma = (EngineKind.DMA, 0)
    builder.append(Instruction(*dma, Opcode.LOAD, (tile,), (x,), 0, cause=Cause.INPUT))
    builder.append(Instruction(*dma, Opcode.STORE, (y,), (tile,), 0, (0,), Cause.OUTPUT))
    return builder.build(sram_bytes=16, dram_bytes=80)


def small_graph() -> Graph:
    """y = x @ w + b, with a weight large enough to lie outside of the graph."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((32, 64)).astype(np.float16),
        "b": rng.standard_normal(64).astype(np.float16),
    }
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["xw"], "matmul"),
        onnx.helper.make_node("Add", ["xw", "b"], ["y"], "add"),
    ]
    half = onnx.TensorProto.FLOAT16
    graph = onnx.helper.make_graph(
        nodes,
        "model",
        [onnx.helper.make_tensor_value_info("x", half, (4, 32))],
        [onnx.helper.make_tensor_value_info("y", half, (4, 64))],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return Graph.from_model(model)


def manifest(**changes: Any) -> Manifest:
    component = ComponentInfo(
        "model",
        "fp16",
        1,
        2,
        16,
        80,
        (PassInfo("fuse", 3, 1),),
        (HostOp("gather", ("node_gather",), "the NPU has no Gather"),),
    )
    base = Manifest(
        "0.1.0", SourceInfo("onnx", "small", "ab" * 32), MACHINE, 1, "serial", 2, (component,), {}
    )
    return replace(base, **changes)


def make(folder: Path, name: str = "small.npub") -> Path:
    parts = folder / f"{name}.parts"
    parts.mkdir()
    small_graph().save(parts / "graph.onnx", parts / "weights.safetensors")
    tiny_program().save(parts / "program.npz")
    latency = {"schema_version": 1, "pipeline": {"total_ms": 1.5}}
    members: dict[str, Path | bytes] = {LATENCY: json_bytes(latency)}
    members |= {
        f"model/{part}": parts / part
        for part in ("graph.onnx", "weights.safetensors", "program.npz")
    }
    path = folder / name
    write_bundle(path, manifest(), members)
    return path


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return make(tmp_path)


def rewrite(path: Path, **changes: bytes | None) -> Path:
    """A copy of a bundle with members (``model/x`` as ``model__x``) replaced or left out."""
    wanted = {name.replace("__", "/"): value for name, value in changes.items()}
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, value in wanted.items():
        if value is None:
            del members[name]
        else:
            members[name] = value
    copy = path.with_name("rewritten.npub")
    write_members(copy, members)
    return copy


def edited_manifest(path: Path, **changes: Any) -> Path:
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("manifest.json"))
    return rewrite(path, **{"manifest.json": json_bytes({**data, **changes})})


def test_manifest_round_trips() -> None:
    whole = manifest(members={"latency.json": member_info(b"{}")})
    assert manifest_from_json(json.loads(json_bytes(whole.to_json()))) == whole
    assert whole.to_json()["target"]["digest"] == MACHINE.digest


def test_content_is_read_back(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert bundle.components == ("model",)
    assert bundle.machine == MACHINE
    assert bundle.program("model") == tiny_program()
    assert bundle.latency_json()["pipeline"] == {"total_ms": 1.5}
    assert set(bundle.manifest.members) == {
        "latency.json",
        "model/graph.onnx",
        "model/weights.safetensors",
        "model/program.npz",
    }


def test_weights_are_mapped_where_they_lie(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    weights = bundle.weights("model")
    expected = {t.name: t.values() for t in small_graph().constants}
    assert set(weights) == {"w", "b"}
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name], values)
        assert weights[name].dtype == values.dtype
        assert not weights[name].flags.writeable
    assert isinstance(weights["w"].base, np.memmap) or weights["w"].base is not None
    assert all(offset % ALIGNMENT == 0 for offset in bundle.offsets.values())


def test_graph_reads_its_weights_from_the_bundle(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    graph = bundle.graph("model")
    expected = small_graph()
    assert [node.op for node in graph.nodes] == [node.op for node in expected.nodes]
    found = {t.name: t.values() for t in graph.constants}
    np.testing.assert_array_equal(
        found["w"], next(t for t in expected.constants if t.name == "w").values()
    )


def test_extracted_graph_runs_in_onnx_runtime(bundle_path: Path, tmp_path: Path) -> None:
    import onnxruntime

    written = Bundle.open(bundle_path).extract(tmp_path / "out")
    assert {path.name for path in written} >= {"manifest.json", "latency.json", "graph.onnx"}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model" / "graph.onnx")
    x = np.ones((4, 32), np.float16)
    (y,) = session.run(None, {"x": x})
    weights = Bundle.open(bundle_path).weights("model")
    expected = x.astype(np.float32) @ weights["w"].astype(np.float32) + weights["b"]
    np.testing.assert_allclose(y, expected, rtol=1e-2, atol=1e-2)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path, "a.npub"), make(tmp_path, "b.npub")
    assert first.read_bytes() == second.read_bytes()


def test_ordinary_zip_tools_read_it(bundle_path: Path) -> None:
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_members_beyond_two_gigabytes_stay_aligned(tmp_path: Path) -> None:
    """The 64-bit size field is part of the header that the padding accounts for."""
    path = tmp_path / "large.zip"
    original = bundle_zip._ZIP64_FROM_BYTES
    bundle_zip._ZIP64_FROM_BYTES = 100
    try:
        write_members(path, {"small": b"x", "large": bytes(200), "next": b"y" * 99})
    finally:
        bundle_zip._ZIP64_FROM_BYTES = original
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            assert bundle_zip.data_offset(file, entry) % ALIGNMENT == 0
            assert (
                archive.read(entry)
                == ({"small": b"x", "large": bytes(200), "next": b"y" * 99}[entry.filename])
            )


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9, -1])
def test_truncated_bundle_is_told(bundle_path: Path, keep: float) -> None:
    data = bundle_path.read_bytes()
    size = int(keep * len(data)) if isinstance(keep, float) else keep
    bundle_path.write_bytes(data[:size])
    with pytest.raises(InputError, match=r"small\.npub .*(truncated|damaged)"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize(
    "member", ["latency.json", "model/graph.onnx", "model/weights.safetensors", "model/program.npz"]
)
def test_changed_byte_is_told(bundle_path: Path, member: str) -> None:
    bundle = Bundle.open(bundle_path)
    data = bytearray(bundle_path.read_bytes())
    data[bundle.offsets[member] + bundle.manifest.members[member].nbytes // 2] ^= 1
    bundle_path.write_bytes(data)
    with pytest.raises(InputError, match=f"damaged: {member} has sha256"):
        Bundle.open(bundle_path)
    if member.endswith("weights.safetensors"):
        Bundle.open(bundle_path, verify=False)  # the one digest that this leaves out
    else:
        with pytest.raises(InputError, match="sha256"):
            Bundle.open(bundle_path, verify=False)


def test_changed_manifest_is_told(bundle_path: Path) -> None:
    data = bytearray(bundle_path.read_bytes())
    at = data.index(b'"schedule"') + len('"schedule": "')
    data[at] ^= 1
    bundle_path.write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize(
    "member", ["manifest.json", "latency.json", "model/graph.onnx", "model/program.npz"]
)
def test_missing_member_is_told(bundle_path: Path, member: str) -> None:
    with pytest.raises(InputError, match=member):
        Bundle.open(rewrite(bundle_path, **{member: None}))


def test_member_outside_the_list_is_told(bundle_path: Path) -> None:
    with pytest.raises(InputError, match="extra"):
        Bundle.open(rewrite(bundle_path, extra=b"?"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "Update the tool"),
        ({"steps": "two"}, "steps is 'two', expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"pipeline": []}, "pipeline"),
        ({"members": []}, r"members is \[\], expected a table"),
        ({"target": {"name": "x", "digest": "", "parameters": {"clock": 1}}}, "other parameters"),
        ({"components": None}, "components is None, expected a table"),
        ({"components": {"model": 1}}, r"components\.model is 1, expected a table"),
        (
            {"members": {"x": {"bytes": -1}}},
            r"members\.x\.bytes is -1, .*; members\.x\.sha256 is mis",
        ),
    ],
)
def test_manifest_of_another_tool_is_told(
    bundle_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        Bundle.open(edited_manifest(bundle_path, **changes))


def test_edited_target_is_told(bundle_path: Path) -> None:
    target = manifest().to_json()["target"]
    target["parameters"]["sram_bytes"] *= 2
    with pytest.raises(InputError, match="does not match its digest"):
        Bundle.open(edited_manifest(bundle_path, target=target))


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Bundle.open(tmp_path / "none.npub")
    with pytest.raises(InputError, match="cannot read"):
        Bundle.open(tmp_path)
    other = tmp_path / "other.zip"
    write_members(other, {"readme": b"hello"})
    with pytest.raises(InputError, match="no bundle"):
        Bundle.open(other)


def test_unknown_component_is_a_usage_error(bundle_path: Path) -> None:
    with pytest.raises(UsageError, match="it holds model"):
        Bundle.open(bundle_path).program("unet")


def test_unsafe_program_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    program = tiny_program()
    program.columns.operand_address[0] = 1 << 40
    file = tmp_path / "broken.npz"
    program.save(file)
    with zipfile.ZipFile(bundle_path) as archive:
        names = [name for name in archive.namelist() if name != "manifest.json"]
        members: dict[str, Path | bytes] = {name: archive.read(name) for name in names}
    unsafe = tmp_path / "unsafe.npub"
    write_bundle(unsafe, manifest(), {**members, "model/program.npz": file})
    bundle = Bundle.open(unsafe)
    with pytest.raises(InputError, match="must not run"):
        bundle.program("model")
    assert len(bundle.program("model", verify=False)) == 2


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), SystemExit(143)])
def test_nothing_is_left_of_a_failed_write(tmp_path: Path, error: BaseException) -> None:
    old = tmp_path / "old.npub"
    write_members(old, {"manifest.json": b"before", "latency.json": b""})
    before = old.read_bytes()

    def write() -> None:
        with replacing((old, tmp_path / "new.npub"), Kind.BUNDLE) as partial:
            partial[0].write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["old.npub"]
    assert old.read_bytes() == before


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile._ZipWriteFile, "write", refuse)  # type: ignore[attr-defined]
    target = tmp_path / "out.npub"

    def write() -> None:
        with replacing((target,), Kind.BUNDLE) as (partial,):
            write_members(partial, {"a": bytes(1000)})

    with pytest.raises(DoesNotFitError, match="disk is full"):
        write()
    assert not list(tmp_path.iterdir())


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def write() -> None:
        with replacing((tmp_path / "file" / "out.npub",), Kind.BUNDLE):
            raise AssertionError("the block must not run")

    with pytest.raises(InputError, match="cannot use"):
        write()

"""The bundle (``.npub``): one file that holds a compiled pipeline.

    manifest.json                     what, from what, for what; size and sha256 of every member
    latency.json                      the simulation of the pipeline when it was compiled
    <component>/graph.onnx            the graph after all passes; opens in Netron once extracted
    <component>/weights.safetensors   its constants, 64-byte aligned in the file
    <component>/program.npz           the NPU program
    <component>/host.json             its host functions: signatures, and what host.so is for
    <component>/host.so               them, compiled by TVM; absent where that was not possible
    <component>/<function>.onnx       them, for ONNX Runtime
    <component>/reference.npz         inputs, and what the source made of them (``reference``)
    <component>/remarks.json          what passes rewrote and refused to (``remarks``)

``write_bundle`` makes one, ``Bundle.open`` checks one: a bundle that opened is whole.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.archive import (
    CHUNK_BYTES,
    Content,
    data_offset,
    member_info,
    write_members,
)
from edgefusion.compiler.bundle.check import (
    LATENCY,
    MANIFEST,
    REMARKS,
    WEIGHTS,
    reading,
    stored_manifest,
    stored_members,
)
from edgefusion.compiler.bundle.manifest import Manifest, MemberInfo
from edgefusion.compiler.bundle.remarks import Remark, remarks_from_bytes
from edgefusion.compiler.graph.safetensors_map import mapped_tensors
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.file_kinds import kind_of
from edgefusion.runtime.files import disk_errors, put_together
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.program import Program
from edgefusion.runtime.verifier import verify_program

if TYPE_CHECKING:
    import onnx

    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.network.network import Network

Array = npt.NDArray[Any]


def json_bytes(value: object) -> bytes:
    """JSON as bundles store it: readable, and the same bytes for the same value."""
    return json.dumps(value, indent=1, sort_keys=False, allow_nan=False).encode() + b"\n"


def write_bundle(
    path: Path,
    manifest: Manifest,
    members: Mapping[str, Content],
    infos: Mapping[str, MemberInfo] | None = None,
) -> Manifest:
    """Write ``path``, usually one of ``files.replacing``; returns the manifest in it.

    ``manifest`` comes without members; ``infos`` are those already known of ``members``, so that
    weights shared by several bundles are digested once.
    """
    known = dict(infos or {})
    described = {name: known.get(name) or member_info(c) for name, c in members.items()}
    complete = replace(manifest, members=described)
    write_members(path, {MANIFEST: json_bytes(complete.to_json()), **members})
    return complete


@dataclass(frozen=True, slots=True)
class Bundle:
    """An open bundle: its path, its manifest, and where each member's data begin in the file."""

    path: Path
    manifest: Manifest
    offsets: Mapping[str, int]

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> Bundle:
        """Open ``path`` and check it: zip, manifest, list and sizes of members, sha256 of each.

        Without ``verify`` the digests of weights are left out, which is what takes time (about a
        second a gigabyte). Raises InputError for whatever is wrong.
        """
        path = Path(path)
        with reading(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
            manifest = stored_manifest(archive)
            entries = stored_members(archive, manifest)
            offsets = {name: data_offset(file, entry) for name, entry in entries.items()}
        bundle = cls(path, manifest, offsets)
        for name in manifest.members:
            if verify or not name.endswith(WEIGHTS):
                bundle._check_digest(name)
        return bundle

    @property
    def components(self) -> tuple[str, ...]:
        """Names in pipeline order."""
        return tuple(info.name for info in self.manifest.components)

    @property
    def machine(self) -> Machine:
        """The machine that the programs were compiled for."""
        return self.manifest.target

    def read(self, name: str) -> bytes:
        """The bytes of a member; InputError if there is none of that name."""
        info = self._member(name)
        with self.path.open("rb") as file:
            file.seek(self.offsets[name])
            return file.read(info.nbytes)

    def program(self, component: str, *, verify: bool = True) -> Program:
        """A component's program; with ``verify`` checked for addresses and hazards first."""
        self.manifest.component(component)
        with reading(self.path):
            program = Program.load(self.read(f"{component}/program.npz"))
        if verify:
            verify_program(program, self.machine)
        return program

    def latency_json(self) -> dict[str, Any]:
        """The simulation as it was when the bundle was made."""
        with reading(self.path):
            data: dict[str, Any] = json.loads(self.read(LATENCY))
        return data

    def remarks(self, component: str) -> tuple[Remark, ...]:
        """What each pass rewrote in a component's graph, and nearly did, in that order; nothing
        for bundles made before remarks were kept. Raises InputError for damage."""
        self.manifest.component(component)
        name = f"{component}/{REMARKS}"
        if name not in self.manifest.members:
            return ()
        with reading(self.path):
            return remarks_from_bytes(self.read(name))

    def graph_model(self, component: str) -> onnx.ModelProto:
        """A component's ONNX graph, whose weights are external data of the bundle file itself."""
        import onnx
        from google.protobuf.message import DecodeError

        self.manifest.component(component)
        model = onnx.ModelProto()
        try:
            model.ParseFromString(self.read(f"{component}/graph.onnx"))
        except DecodeError as error:
            raise InputError(f"{self.path}: the graph of {component} is damaged: {error}") from None
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = self.path.name
                elif entry.key == "offset":
                    start = self.offsets[f"{component}/{WEIGHTS}"]
                    entry.value = str(int(entry.value) + start)
        return model

    def graph(self, component: str) -> Graph:
        """A component's graph as passes see it; its weights stay in the bundle."""
        from edgefusion.compiler.graph.graph import Graph

        return Graph.from_model(self.graph_model(component), self.path.parent)

    def network(self, component: str) -> Network:
        """A component's network, as it was before it was lowered to the program."""
        from edgefusion.compiler.frontend.from_graph import network_from_graph

        network = network_from_graph(self.graph(component), component)
        info = self.manifest.component(component)
        return replace(network, constant_inputs=info.constant_inputs)

    def weights(self, component: str) -> dict[str, Array]:
        """A component's constants by name: read-only views of the mapped file.

        Small ones (below 1 KiB) live in the graph and are decoded from there.
        """
        import onnx

        self.manifest.component(component)
        name = f"{component}/{WEIGHTS}"
        with reading(self.path):
            arrays = mapped_tensors(self.path, self.offsets[name], self._member(name).nbytes)
            for tensor in self.graph_model(component).graph.initializer:
                if tensor.name not in arrays:
                    array = np.asarray(onnx.numpy_helper.to_array(tensor))
                    array.flags.writeable = False
                    arrays[tensor.name] = array
        return arrays

    def extract(self, directory: Path) -> list[Path]:
        """Write all members below ``directory``, where graphs open in Netron; their paths.

        Raises UsageError, before anything is written, where one would take the place of a file of
        another kind, or of the bundle itself.
        """
        with disk_errors(directory), partial_folder(_existing(directory)) as whole:
            with self.path.open("rb") as file:
                with zipfile.ZipFile(file) as archive:
                    (whole / MANIFEST).write_bytes(archive.read(MANIFEST))
                for name in self.manifest.members:
                    (whole / name).parent.mkdir(parents=True, exist_ok=True)
                    with (whole / name).open("wb") as sink:
                        sink.writelines(self._chunks(file, name))
            names = (MANIFEST, *self.manifest.members)
            outputs = [Output(directory / name, kind_of(whole / name)) for name in names]
            claim_outputs(outputs, [self.path])
            for name in names:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                put_together({whole / name: directory / name})
        return [output.path for output in outputs]

    def _member(self, name: str) -> MemberInfo:
        try:
            return self.manifest.members[name]
        except KeyError:
            raise InputError(
                f"{self.path} has no member {name}. Compile the model again."
            ) from None

    def _check_digest(self, name: str) -> None:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            for chunk in self._chunks(file, name):
                digest.update(chunk)
        expected = self.manifest.members[name].sha256
        if digest.hexdigest() != expected:
            raise InputError(
                f"{self.path} is damaged: {name} has sha256 {digest.hexdigest()[:16]}…, its "
                f"manifest says {expected[:16]}…. Copy the bundle again, or compile the model "
                "again."
            )

    def _chunks(self, file: Any, name: str) -> Iterator[bytes]:
        file.seek(self.offsets[name])
        left = self.manifest.members[name].nbytes
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise InputError(f"{self.path} ends within {name}: the file is truncated.")
            left -= len(chunk)
            yield chunk

    def __repr__(self) -> str:
        return (
            f"<Bundle {self.path.name}: {', '.join(self.components)}; {self.manifest.schedule} for "
            f"{self.machine.name}>"
        )


def _existing(folder: Path) -> Path:
    """``folder``, made if it was not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder

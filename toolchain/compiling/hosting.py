"""What a compilation leaves to the host: its functions on disk, and the records of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.manifest import ComponentInfo, HostCall, HostOp
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.host_calls import call_traffic
from edgefusion.runtime.host_signature import HostManifest
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.graph.graph import Graph
    from edgefusion.compiler.host.library import HostBuild
    from edgefusion.runtime.program import Program


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Members of a component's bundle by name, and what is in them."""

    files: Mapping[str, Path]
    manifest: HostManifest


@contextmanager
def host_build(graph: Graph, folder: Path) -> Iterator[HostBuild]:
    """The host functions of ``graph``, being compiled in ``folder`` while the block runs.

    Raises UnsupportedOpError for one that ONNX Runtime, their reference, cannot run.
    """
    from edgefusion.compiler.frontend.placement import host_groups
    from edgefusion.compiler.host.functions import host_models
    from edgefusion.compiler.host.library import building
    from edgefusion.compiler.host.reference import check_reference

    models = host_models(graph)
    for group, model in zip(host_groups(graph), models, strict=True):
        check_reference(group, model)
    with building(folder, models) as build:
        yield build


def host_files(build: HostBuild, component: str, progress: Say) -> HostFiles:
    """Wait for ``build``; what it made, as members of ``component``."""
    from edgefusion.compiler.bundle.bundle import json_bytes
    from edgefusion.compiler.bundle.check import HOST

    if not build.models:
        return HostFiles({}, HostManifest((), None))
    progress(f"{component}: waiting for the host library")
    manifest = build.finish()
    place = build.folder / HOST
    with disk_errors(place):
        place.write_bytes(json_bytes(manifest.to_json()))
    files = {HOST: place, **build.files(manifest)}
    return HostFiles({f"{component}/{name}": path for name, path in files.items()}, manifest)


def host_calls(program: Program) -> tuple[HostCall, ...]:
    """The calls of ``program``; ``with_backends`` says later who computes them."""
    return tuple(
        HostCall(call.function, call.calls, call.input_bytes, call.output_bytes)
        for call in call_traffic(program)
    )


def with_backends(info: ComponentInfo, manifest: HostManifest) -> ComponentInfo:
    """``info`` with the backend of each host call, and the reason where it is not the library."""
    remarks = {f.name: f.refusal or manifest.remark for f in manifest.functions}
    calls = tuple(
        replace(
            call,
            backend="ort" if remarks[call.function] else "tvm",
            remark=remarks[call.function],
        )
        for call in info.host_calls
    )
    return replace(info, host_calls=calls)


def host_ops(graph: Graph) -> tuple[HostOp, ...]:
    """The nodes on the host, each with its reason."""
    from edgefusion.compiler.frontend.placement import host_groups

    return tuple(
        HostOp(node.name, tuple(node.origin), reason, group.name)
        for group in host_groups(graph)
        for node, reason in zip(group.nodes, group.reasons, strict=True)
    )

"""The manifest of a bundle: what was compiled, from what, for what, and what lies in the file.

Values only. ``to_json`` and ``manifest_from_json`` are each other's inverse; nothing in it depends
on when or where it was made, so that the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from edgefusion.compiler.bundle.manifest_fields import field_objects, field_value, json_object
from edgefusion.compiler.bundle.scales import ScalesInfo, scales_from_json
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.machine import Machine, machine_from_parameters

FORMAT_VERSION = 1
"""Readers refuse newer formats; fields may be added within one."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where the weights came from: preset, folder, hub or onnx; ``digest`` is of all content,
    ``seed`` that of a preset's random weights."""

    kind: str
    name: str
    digest: str
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class PassInfo:
    """A pass that ran: how often it rewrote, and how often it refused a near-match."""

    name: str
    matched: int
    missed: int


@dataclass(frozen=True, slots=True)
class HostOp:
    """An op that the NPU leaves to the host, the source nodes it stands for, and why.

    ``function`` is the host function that it is part of.
    """

    op: str
    origin: tuple[str, ...]
    reason: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class HostCall:
    """A host function as one evaluation calls it, with the bytes that cross to it and back.

    ``backend`` is ``tvm`` if the bundle's library has it, else ``ort``, for the reason ``remark``.
    """

    function: str
    calls: int
    input_bytes: int
    output_bytes: int
    backend: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """One network of the pipeline; ``evaluations`` is how often it runs for one image."""

    name: str
    precision: str
    evaluations: int
    instructions: int
    sram_bytes: int
    dram_bytes: int
    passes: tuple[PassInfo, ...]
    host_ops: tuple[HostOp, ...]
    host_calls: tuple[HostCall, ...] = ()
    scales: ScalesInfo = field(default_factory=ScalesInfo)
    timesteps: tuple[int, ...] = ()
    """Those that it has tables for; if any, it takes no others."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of the zip: its size and its sha256 as hex."""

    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything but the members' contents. ``components`` are in pipeline order."""

    tool_version: str
    source: SourceInfo
    target: Machine
    cost_model_version: int
    schedule: str
    steps: int
    components: tuple[ComponentInfo, ...]
    members: Mapping[str, MemberInfo]
    format_version: int = FORMAT_VERSION

    def component(self, name: str) -> ComponentInfo:
        """The component called ``name``; UsageError if there is none."""
        for info in self.components:
            if info.name == name:
                return info
        known = ", ".join(info.name for info in self.components)
        raise UsageError(f"the bundle has no component {name!r}; it holds {known}")

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "format_version": self.format_version,
            "tool_version": self.tool_version,
            "source": asdict(self.source),
            "target": {
                "name": self.target.name,
                "digest": self.target.digest,
                "parameters": self.target.parameters(),
            },
            "cost_model_version": self.cost_model_version,
            "schedule": self.schedule,
            "steps": self.steps,
            "pipeline": [info.name for info in self.components],
            "components": {info.name: _component_json(info) for info in self.components},
            "members": {
                name: {"bytes": m.nbytes, "sha256": m.sha256}
                for name, m in sorted(self.members.items())
            },
        }


def manifest_from_json(data: object) -> Manifest:
    """Read what ``to_json`` made. Raises InputError for a newer format, and for keys that are
    missing or hold something else than expected; keys that this version does not know are left."""
    top = json_object(data, "manifest")
    version = field_value(top, "format_version", int)
    if version > FORMAT_VERSION:
        raise InputError(
            f"the bundle has format version {version}, this tool reads up to {FORMAT_VERSION}. "
            "Update the tool, or compile the model again with this one."
        )
    components = json_object(top.get("components"), "components")
    pipeline = field_value(top, "pipeline", list)
    if sorted(map(str, pipeline)) != sorted(components):
        raise InputError(
            f"the bundle's manifest is damaged: its pipeline {pipeline} and its components "
            f"{sorted(components)} differ. Compile the model again."
        )
    members = {
        name: MemberInfo(field_value(entry, "bytes", int), field_value(entry, "sha256", str))
        for name, entry in field_objects(top, "members")
    }
    source = json_object(top.get("source"), "source")
    return Manifest(
        field_value(top, "tool_version", str),
        _source(source),
        _machine(json_object(top.get("target"), "target")),
        field_value(top, "cost_model_version", int),
        field_value(top, "schedule", str),
        field_value(top, "steps", int),
        tuple(_component(str(name), json_object(components[name], str(name))) for name in pipeline),
        members,
        version,
    )


def _component_json(info: ComponentInfo) -> dict[str, Any]:
    values = asdict(info)
    del values["name"]
    values["host_ops"] = [{**op, "origin": list(op["origin"])} for op in values["host_ops"]]
    values["host_calls"] = list(values["host_calls"])
    values["passes"] = list(values["passes"])
    values["scales"] = info.scales.to_json()
    values["timesteps"] = list(info.timesteps)
    return values


def _component(name: str, entry: dict[str, Any]) -> ComponentInfo:
    passes = [json_object(row, "passes") for row in field_value(entry, "passes", list)]
    host_ops = [json_object(row, "host_ops") for row in field_value(entry, "host_ops", list)]
    host_calls = [json_object(row, "host_calls") for row in entry.get("host_calls", [])]
    return ComponentInfo(
        name=name,
        precision=field_value(entry, "precision", str),
        evaluations=field_value(entry, "evaluations", int),
        instructions=field_value(entry, "instructions", int),
        sram_bytes=field_value(entry, "sram_bytes", int),
        dram_bytes=field_value(entry, "dram_bytes", int),
        passes=tuple(
            PassInfo(
                field_value(row, "name", str),
                field_value(row, "matched", int),
                field_value(row, "missed", int),
            )
            for row in passes
        ),
        host_ops=tuple(
            HostOp(
                field_value(row, "op", str),
                tuple(map(str, field_value(row, "origin", list))),
                field_value(row, "reason", str),
                field_value(row, "function", str) if "function" in row else "",
            )
            for row in host_ops
        ),
        host_calls=tuple(map(_host_call, host_calls)),
        scales=scales_from_json(entry.get("scales")),
        timesteps=_integers(entry, "timesteps"),
    )


def _integers(entry: dict[str, Any], key: str) -> tuple[int, ...]:
    """A list that bundles of earlier versions lack."""
    values = field_value(entry, key, list) if key in entry else []
    return tuple(field_value({key: value}, key, int) for value in values)


def _source(entry: dict[str, Any]) -> SourceInfo:
    kind, name, digest = (field_value(entry, key, str) for key in ("kind", "name", "digest"))
    seed = field_value(entry, "seed", int) if entry.get("seed") is not None else None
    return SourceInfo(kind, name, digest, seed)


def _host_call(row: dict[str, Any]) -> HostCall:
    return HostCall(
        field_value(row, "function", str),
        field_value(row, "calls", int),
        field_value(row, "input_bytes", int),
        field_value(row, "output_bytes", int),
        field_value(row, "backend", str),
        field_value(row, "remark", str),
    )


def _machine(entry: dict[str, Any]) -> Machine:
    parameters = json_object(entry.get("parameters"), "target parameters")
    try:
        machine = machine_from_parameters(parameters)
    except (TypeError, ValidationError) as error:
        raise InputError(
            f"the bundle's target {entry.get('name')} has other parameters than this tool's "
            f"machine model ({error}). Compile the model again with this tool."
        ) from error
    if machine.digest != field_value(entry, "digest", str):
        raise InputError(
            f"the bundle's target {machine.name} does not match its digest: the manifest is "
            "damaged or was edited. Compile the model again."
        )
    return machine

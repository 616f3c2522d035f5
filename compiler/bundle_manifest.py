"""The manifest of a bundle: what was compiled, from what, for what, and what lies in the file.

Values only. ``to_json`` and ``manifest_from_json`` are each other's inverse; nothing in it depends
on when or where it was made, so that the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.machine import Machine

FORMAT_VERSION = 1
"""Readers refuse newer formats; fields may be added within one."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where the weights came from: preset, folder, hub or onnx; ``digest`` is of all content."""

    kind: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class PassInfo:
    """A pass that ran: how often it rewrote, and how often it refused a near-match."""

    name: str
    matched: int
    missed: int


@dataclass(frozen=True, slots=True)
class HostOp:
    """An op that the NPU leaves to the host, the source nodes it stands for, and why."""

    op: str
    origin: tuple[str, ...]
    reason: str


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
                "parameters": asdict(self.target),
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
    top = _object(data, "manifest")
    version = _value(top, "format_version", int)
    if version > FORMAT_VERSION:
        raise InputError(
            f"the bundle has format version {version}, this tool reads up to {FORMAT_VERSION}. "
            "Update the tool, or compile the model again with this one."
        )
    components = _object(top.get("components"), "components")
    pipeline = _value(top, "pipeline", list)
    if sorted(map(str, pipeline)) != sorted(components):
        raise InputError(
            f"the bundle's manifest is damaged: its pipeline {pipeline} and its components "
            f"{sorted(components)} differ. Compile the model again."
        )
    members = {
        name: MemberInfo(_value(entry, "bytes", int), _value(entry, "sha256", str))
        for name, entry in _objects(top, "members")
    }
    source = _object(top.get("source"), "source")
    return Manifest(
        _value(top, "tool_version", str),
        SourceInfo(*(_value(source, f.name, str) for f in fields(SourceInfo))),
        _machine(_object(top.get("target"), "target")),
        _value(top, "cost_model_version", int),
        _value(top, "schedule", str),
        _value(top, "steps", int),
        tuple(_component(str(name), _object(components[name], str(name))) for name in pipeline),
        members,
        version,
    )


def _component_json(info: ComponentInfo) -> dict[str, Any]:
    values = asdict(info)
    del values["name"]
    values["host_ops"] = [{**op, "origin": list(op["origin"])} for op in values["host_ops"]]
    values["passes"] = list(values["passes"])
    return values


def _component(name: str, entry: dict[str, Any]) -> ComponentInfo:
    passes = [_object(row, "passes") for row in _value(entry, "passes", list)]
    host_ops = [_object(row, "host_ops") for row in _value(entry, "host_ops", list)]
    return ComponentInfo(
        name=name,
        precision=_value(entry, "precision", str),
        evaluations=_value(entry, "evaluations", int),
        instructions=_value(entry, "instructions", int),
        sram_bytes=_value(entry, "sram_bytes", int),
        dram_bytes=_value(entry, "dram_bytes", int),
        passes=tuple(
            PassInfo(
                _value(row, "name", str), _value(row, "matched", int), _value(row, "missed", int)
            )
            for row in passes
        ),
        host_ops=tuple(
            HostOp(
                _value(row, "op", str),
                tuple(map(str, _value(row, "origin", list))),
                _value(row, "reason", str),
            )
            for row in host_ops
        ),
    )


def _machine(entry: dict[str, Any]) -> Machine:
    parameters = _object(entry.get("parameters"), "target parameters")
    try:
        machine = Machine(**parameters)
    except TypeError as error:
        raise InputError(
            f"the bundle's target {entry.get('name')} has other parameters than this tool's "
            f"machine model ({error}). Compile the model again with this tool."
        ) from error
    if machine.digest != _value(entry, "digest", str):
        raise InputError(
            f"the bundle's target {machine.name} does not match its digest: the manifest is "
            "damaged or was edited. Compile the model again."
        )
    return machine


Wanted = TypeVar("Wanted", int, str, list[Any])


def _value(entry: dict[str, Any], key: str, kind: type[Wanted]) -> Wanted:
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f"the bundle's manifest is damaged: expected {key} to be of type {kind.__name__}, "
            f"found {value!r}. Compile the model again."
        )
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"the bundle's manifest is damaged: expected {what} to be an object, found "
            f"{type(value).__name__}. Compile the model again."
        )
    return value


def _objects(entry: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, _object(v, name)) for name, v in _object(entry.get(key), key).items()]

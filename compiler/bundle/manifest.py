"""The manifest of a bundle: what was compiled, from what, for what, and what lies in the file.

Values only. ``to_json`` and ``manifest_from_json`` are each other's inverse; nothing in it depends
on when or where it was made, so that the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, ValidationError

from edgefusion.compiler.bundle.deployment import AS_BEFORE, Deployment
from edgefusion.compiler.bundle.scales import PLACEHOLDER, ScalesInfo
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.machine import Machine, machine_from_parameters
from edgefusion.runtime.validation import Timestep, Whole, problems, validated

_NEAR = 0.4
"""How alike a mistyped name is, for difflib; "vae" still means vae_decoder."""
FORMAT_VERSION = 1
"""Readers refuse newer formats; fields may be added within one."""


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """A LoRA file fused into the weights: its name, its sha256 as hex, and how much of it."""

    name: str
    digest: str
    scale: float


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where the weights came from: preset, folder, hub, file or onnx; ``digest`` is of all content,
    ``seed`` that of a preset's random weights, ``family`` that of its pipeline, ``variant`` the one
    of its weight files that was asked for, ``loras`` what was fused into it."""

    kind: str
    name: str
    digest: str
    seed: StrictInt | None = None
    family: str = "stable-diffusion"
    variant: str | None = None
    loras: tuple[LoraInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class PassInfo:
    """A pass that ran: how often it rewrote, and how often it refused a near-match."""

    name: str
    matched: Whole
    missed: Whole


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
    calls: Whole
    input_bytes: Whole
    output_bytes: Whole
    backend: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """One network of the pipeline; ``evaluations`` is how often it runs for one image."""

    name: str
    precision: str
    evaluations: Whole
    instructions: Whole
    sram_bytes: Whole
    dram_bytes: Whole
    passes: tuple[PassInfo, ...]
    host_ops: tuple[HostOp, ...]
    host_calls: tuple[HostCall, ...] = ()
    scales: ScalesInfo = field(default_factory=lambda: ScalesInfo(PLACEHOLDER))
    timesteps: tuple[Timestep, ...] = ()
    """Those that it has tables for; if any, it takes no others."""
    constant_inputs: tuple[str, ...] = ()
    """Those that are the same in all evaluations for one image."""

    def __repr__(self) -> str:
        return (
            f"<ComponentInfo {self.name}: {self.precision}, {self.evaluations} evaluations, "
            f"{self.instructions:,} instructions>"
        )


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of the zip: its size and its sha256 as hex."""

    nbytes: Annotated[Whole, Field(alias="bytes")]
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything but the members' contents. ``components`` are in pipeline order; ``deployment``
    says how images are made, with a scheduler."""

    tool_version: str
    source: SourceInfo
    target: Machine
    cost_model_version: int
    schedule: str
    steps: int
    components: tuple[ComponentInfo, ...]
    members: Mapping[str, MemberInfo]
    format_version: int = FORMAT_VERSION
    deployment: Deployment = AS_BEFORE

    def component(self, name: str) -> ComponentInfo:
        """The component called ``name``; UsageError if there is none."""
        for info in self.components:
            if info.name == name:
                return info
        known = [info.name for info in self.components]
        near = get_close_matches(str(name), known, 1, _NEAR)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"the bundle has no component {name!r}; it holds {', '.join(known)}.{hint}"
        )

    def to_json(self) -> dict[str, Any]:
        """As it is stored; without a deployment that older tools would know anyway."""
        chosen = {} if self.deployment == AS_BEFORE else {"deployment": asdict(self.deployment)}
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
            **chosen,
            "pipeline": [info.name for info in self.components],
            "components": {
                info.name: {key: value for key, value in asdict(info).items() if key != "name"}
                for info in self.components
            },
            "members": {
                name: {"bytes": m.nbytes, "sha256": m.sha256}
                for name, m in sorted(self.members.items())
            },
        }

    def __repr__(self) -> str:
        return (
            f"<Manifest of {self.source.kind} {self.source.name}: "
            f"{', '.join(info.name for info in self.components)}; {self.schedule} for "
            f"{self.target.name}, {self.steps} steps, made by edgefusion {self.tool_version}>"
        )


@dataclass(frozen=True, slots=True)
class _Target:
    digest: str
    parameters: dict[str, Any]


def _named(components: object) -> object:
    """The key of each component as its name."""
    if not isinstance(components, dict):
        return components
    return {
        name: {**entry, "name": name} if isinstance(entry, dict) else entry
        for name, entry in components.items()
    }


@dataclass(frozen=True, slots=True)
class _Stored:
    """The manifest in the form that JSON has; other keys are of later versions, and left."""

    format_version: Whole
    tool_version: str
    source: SourceInfo
    target: _Target
    cost_model_version: Whole
    schedule: str
    steps: Whole
    pipeline: tuple[str, ...]
    components: Annotated[dict[str, ComponentInfo], BeforeValidator(_named)]
    members: dict[str, MemberInfo]
    deployment: Deployment = AS_BEFORE


def manifest_from_json(data: object) -> Manifest:
    """Read what ``to_json`` made. Raises InputError for a newer format, and for keys that are
    missing or hold something else than expected; keys that this version does not know are left."""
    version = data.get("format_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"the bundle has format version {version}, this tool reads up to {FORMAT_VERSION}. "
            "Update the tool, or compile the model again with this one."
        )
    stored = validated(
        _Stored, data, "the bundle's manifest is damaged", "Compile the model again."
    )
    if sorted(stored.pipeline) != sorted(stored.components):
        raise InputError(
            f"the bundle's manifest is damaged: its pipeline {list(stored.pipeline)} and its "
            f"components {sorted(stored.components)} differ. Compile the model again."
        )
    return Manifest(
        stored.tool_version,
        stored.source,
        _machine(stored.target),
        stored.cost_model_version,
        stored.schedule,
        stored.steps,
        tuple(stored.components[name] for name in stored.pipeline),
        stored.members,
        stored.format_version,
        stored.deployment,
    )


def _machine(target: _Target) -> Machine:
    try:
        machine = machine_from_parameters(target.parameters)
    except (TypeError, ValidationError) as error:
        wrong = problems(Machine, error) if isinstance(error, ValidationError) else error
        raise InputError(
            f"the bundle's target {target.parameters.get('name')} has other parameters than this "
            f"tool's machine model ({wrong}). Compile the model again with this tool."
        ) from error
    if machine.digest != target.digest:
        raise InputError(
            f"the bundle's target {machine.name} does not match its digest: the manifest is "
            "damaged or was edited. Compile the model again."
        )
    return machine

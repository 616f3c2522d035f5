"""Host functions: what the NPU leaves to the CPU beside it, ready to be called.

``load_host`` gives a callable for each ``CALL`` name: from the component's library (compiled by
Apache TVM), or from its ONNX models by ONNX Runtime, which computes the same on any machine.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy.typing as npt

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.host_signature import (
    HostFunction,
    HostManifest,
    HostSignature,
    HostTarget,
)

Array = npt.NDArray[Any]
Member = Callable[[str], bytes]

BACKENDS = ("tvm", "ort")
TVM_PACKAGE = "apache-tvm"
MACHINES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("Linux", "x86_64"): ("x86_64-unknown-linux-gnu", "x86-64"),
    ("Linux", "aarch64"): ("aarch64-unknown-linux-gnu", "generic"),
}
"""Triple and baseline CPU by system and machine. Code for the baseline runs on every CPU of the
kind and is the same wherever it was compiled."""


@dataclass(frozen=True, slots=True)
class HostFunctions:
    """Callables by name, which of them the library computes, and what the user should know."""

    functions: Mapping[str, HostFunction]
    compiled: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


def own_target() -> HostTarget | None:
    """What this machine compiles for and loads; None if TVM is missing or knows no such machine."""
    try:
        tvm_version = version(TVM_PACKAGE)
    except PackageNotFoundError:
        return None
    machine = MACHINES.get((platform.system(), platform.machine()))
    return HostTarget(tvm_version, *machine) if machine else None


def mismatch(target: HostTarget | None) -> str:
    """Why a library for ``target`` cannot be loaded here; '' if it can."""
    here = own_target()
    if target is None:
        return "the bundle has no host library"
    if here is None:
        return (
            f"this {platform.system()} {platform.machine()} machine has no usable {TVM_PACKAGE}; "
            f"pip install {TVM_PACKAGE}=={target.tvm_version} where there is one"
        )
    if (target.triple, target.cpu) != (here.triple, here.cpu):
        return (
            f"host.so is for {target.triple} ({target.cpu}), this machine is {here.triple} "
            f"({here.cpu})"
        )
    if target.tvm_version != here.tvm_version:
        return f"host.so needs TVM {target.tvm_version}, installed is {here.tvm_version}"
    return ""


def load_host(
    manifest: HostManifest, member: Member, constants: Mapping[str, Array], backend: str = "tvm"
) -> HostFunctions:
    """The functions of a component.

    ``member`` reads ``host.so`` and ``<function>.onnx``; ``constants`` are the bundle's weights.
    ``backend`` is ``tvm`` (the library, and ONNX Runtime for what it lacks) or ``ort``.
    Raises UsageError for another backend, InputError for what cannot be loaded.
    """
    if backend not in BACKENDS:
        raise UsageError(f"--host {backend}: expected one of {', '.join(BACKENDS)}")
    if not manifest.functions:
        return HostFunctions({})
    remarks: list[str] = []
    wanted: tuple[HostSignature, ...] = ()
    if backend == "tvm":
        reason = manifest.remark if manifest.target is None else mismatch(manifest.target)
        if reason:
            remarks.append(f"host functions run in ONNX Runtime: {reason}")
        else:
            wanted = tuple(f for f in manifest.functions if not f.refusal)
            remarks += [
                f"host function {f.name} runs in ONNX Runtime: {f.refusal}"
                for f in manifest.functions
                if f.refusal
            ]
    functions: dict[str, HostFunction] = {}
    if wanted:
        from edgefusion.runtime.host_tvm import tvm_functions

        functions |= tvm_functions(wanted, member("host.so"), constants)
    compiled = frozenset(functions)
    for signature in manifest.functions:
        if signature.name not in compiled:
            from edgefusion.runtime.host_ort import ort_function

            model = member(f"{signature.name}.onnx")
            functions[signature.name] = ort_function(signature, model, constants)
    return HostFunctions(functions, compiled, tuple(remarks))

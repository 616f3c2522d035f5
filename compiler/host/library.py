"""The library of a component's host functions, compiled by TVM while the NPU's part is lowered.

``building`` starts TVM in a process of its own (``compiler.host.tvm``) and ``HostBuild.finish``
collects what it made. Whatever stands in the way (no TVM, no linker, an op that TVM lacks, a crash)
leaves the functions to ONNX Runtime and says so: a bundle runs in any case.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgefusion.compiler.host.functions import HostModel, signatures
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.host import TVM_PACKAGE, own_target
from edgefusion.runtime.host_signature import HostManifest, HostTarget

TIMEOUT_S = 600
LINKERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")


@dataclass(frozen=True, slots=True)
class HostBuild:
    """A build in ``folder``, where ``<function>.onnx`` lie. ``process`` is None if none could be
    started, for the reason in ``remark``, or if there is nothing to compile."""

    folder: Path
    models: tuple[HostModel, ...]
    process: subprocess.Popen[bytes] | None = None
    target: HostTarget | None = None
    remark: str = ""

    def finish(self) -> HostManifest:
        """Wait, and tell what there is. ``host.so`` lies in the folder if there is a target."""
        functions = signatures(self.models)
        if self.process is None:
            return HostManifest(functions, None, self.remark)
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return HostManifest(functions, None, f"TVM took more than {TIMEOUT_S} seconds")
        if code:
            log = (self.folder / "tvm.log").read_text(errors="replace").strip().splitlines()
            reason = log[-1] if log else f"it ended with code {code}"
            return HostManifest(functions, None, f"TVM failed: {reason}")
        refusals: dict[str, str] = json.loads((self.folder / "refusals.json").read_text())
        functions = tuple(replace(f, refusal=f.refusal or refusals[f.name]) for f in functions)
        compiled = any(not f.refusal for f in functions)
        remark = "" if compiled else "TVM can compile none of them"
        return HostManifest(functions, self.target if compiled else None, remark)

    def files(self, manifest: HostManifest) -> dict[str, Path]:
        """What belongs into the bundle, by name within the component."""
        names = [f"{model.signature.name}.onnx" for model in self.models]
        if manifest.target is not None:
            names.append("host.so")
        return {name: self.folder / name for name in names}


@contextmanager
def building(folder: Path, models: Sequence[HostModel]) -> Iterator[HostBuild]:
    """Write ``models`` to ``folder`` and start compiling them; nothing runs on after the block."""
    build = _started(folder, tuple(models))
    try:
        yield build
    finally:
        if build.process is not None:
            with build.process:  # closes its input
                build.process.kill()


def _started(folder: Path, models: tuple[HostModel, ...]) -> HostBuild:
    with disk_errors(folder):
        for model in models:
            (folder / f"{model.signature.name}.onnx").write_bytes(model.model)
    names = [model.signature.name for model in models if not model.signature.refusal]
    if not names:
        return HostBuild(folder, models, remark="TVM is trusted with none of them")
    target, linker = own_target(), _linker()
    if target is None:
        return HostBuild(folder, models, remark=f"{TVM_PACKAGE} was not there to compile them")
    if not linker:
        return HostBuild(
            folder, models, remark=f"no linker was there (one of {', '.join(LINKERS)})"
        )
    command = [sys.executable, "-m", "edgefusion.compiler.host.tvm", str(folder)]
    command += [linker, target.triple, target.cpu, *names]
    with disk_errors(folder), (folder / "tvm.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written: it ends when this process does
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},  # goes with the folder, whatever is left
        )
    return HostBuild(folder, models, process, target)


def _linker() -> str:
    """The compiler driver that links: what CXX or CC name, else the first that is installed."""
    wanted = [os.environ.get("CXX"), os.environ.get("CC"), *LINKERS]
    found = (shutil.which(name) for name in wanted if name)
    return next((path for path in found if path), "")

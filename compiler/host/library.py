"""The library of a component's host functions, compiled by TVM while the NPU's part is lowered.

``building`` starts TVM in a process of its own (``compiler.host.tvm``) and ``HostBuild.finish``
collects what it made. Whatever stands in the way (no TVM, no linker, an op that TVM lacks, a crash)
leaves the functions to ONNX Runtime and says so: a bundle runs in any case.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgefusion.compiler.host.functions import HostModel, signatures
from edgefusion.runtime.child_process import begin_child, stop_child
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.host import TVM_PACKAGE, own_target
from edgefusion.runtime.host_signature import HostManifest, HostSignature, HostTarget

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
    linker: str = ""
    remark: str = ""

    def finish(self) -> HostManifest:
        """Wait, and tell what there is. ``host.so`` lies in the folder if there is a target.

        A function at which TVM or its code crashes is refused, and the others are built again.
        """
        functions = signatures(self.models)
        if self.process is None:
            return HostManifest(functions, None, self.remark)
        refusals = {f.name: f.refusal for f in functions}
        remark = _ended(self.process, self.folder, refusals, alone=False)
        while not remark and not all(refusals.values()) and not self._is_done():
            process = _process(
                self.folder, self.linker, functions, refusals, self.target, alone=True
            )
            try:
                remark = _ended(process, self.folder, refusals, alone=True)
            finally:
                stop_child(process)
        if remark:
            return HostManifest(functions, None, remark)
        if self._is_done():
            found: dict[str, str] = json.loads((self.folder / "refusals.json").read_text())
            refusals |= found
        functions = tuple(replace(f, refusal=refusals[f.name]) for f in functions)
        if all(refusals.values()):
            return HostManifest(functions, None, "TVM is trusted with none of them")
        return HostManifest(functions, self.target)

    def _is_done(self) -> bool:
        return (self.folder / "refusals.json").is_file()

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
            stop_child(build.process)


def _started(folder: Path, models: tuple[HostModel, ...]) -> HostBuild:
    with disk_errors(folder):
        for model in models:
            (folder / f"{model.signature.name}.onnx").write_bytes(model.model)
    refusals = {model.signature.name: model.signature.refusal for model in models}
    if all(refusals.values()):
        return HostBuild(folder, models, remark="TVM is trusted with none of them")
    target, linker = own_target(), _linker()
    if target is None:
        return HostBuild(folder, models, remark=f"{TVM_PACKAGE} was not there to compile them")
    if not linker:
        return HostBuild(
            folder, models, remark=f"no linker was there (one of {', '.join(LINKERS)})"
        )
    process = _process(folder, linker, signatures(models), refusals, target, alone=False)
    return HostBuild(folder, models, process, target, linker)


def _process(
    folder: Path,
    linker: str,
    functions: Sequence[HostSignature],
    refusals: Mapping[str, str],
    target: HostTarget | None,
    *,
    alone: bool,
) -> subprocess.Popen[bytes]:
    """TVM, compiling and trying the ``functions`` that are not refused."""
    wanted = HostManifest(tuple(f for f in functions if not refusals[f.name]), target)
    arguments = (str(folder), linker, *["--alone"] * alone)
    with disk_errors(folder), (folder / "tvm.log").open("wb") as log:
        (folder / "wanted.json").write_text(json.dumps(wanted.to_json()))
        return begin_child(
            "edgefusion.compiler.host.tvm",
            *arguments,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},  # goes with the folder, whatever is left
        )


def _ended(
    process: subprocess.Popen[bytes], folder: Path, refusals: dict[str, str], *, alone: bool
) -> str:
    """Wait for ``process``. If it died over one function, that is added to ``refusals``; over
    several, they have to be tried alone. Why there can be no library at all, else ''."""
    try:
        code = process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"TVM took more than {TIMEOUT_S} seconds"
    if not code:
        return ""
    what, doing = f"it ended with code {code}", folder / "doing.json"
    if code < 0 and doing.is_file():
        name = signal.Signals(-code).name
        hand = json.loads(doing.read_text())
        doing.unlink()
        how = "takes too long" if name == "SIGALRM" else f"crashes ({name})"
        if len(hand["names"]) == 1:
            verb = "the compiled code" if hand["doing"] == "runs" else "TVM"
            refusals[hand["names"][0]] = f"{verb} {how}"
            return ""
        if not alone:
            return ""
        what = f"it {how}"
    log = (folder / "tvm.log").read_text(errors="replace").strip().splitlines()
    return f"TVM failed: {log[-1] if log else what}"


def _linker() -> str:
    """The compiler driver that links: what CXX or CC name, else the first that is installed."""
    wanted = [os.environ.get("CXX"), os.environ.get("CC"), *LINKERS]
    found = (shutil.which(name) for name in wanted if name)
    return next((path for path in found if path), "")

"""Two small bundles of one network, and what reports say of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.progress import silent
from edgefusion.toolchain.compiling.compile_source import compile_source
from edgefusion.toolchain.profiling.profile import Profile, profile_bundle
from edgefusion.toolchain.reporting.page.document import Findings, find, report_document
from tests.network_cases import save

TOP = 4


@dataclass(frozen=True)
class Reported:
    """A bundle, its profile, what was found out, and the document. Do not change them."""

    bundle: Bundle
    profile: Profile
    findings: Findings
    document: dict[str, Any]


@pytest.fixture(scope="package")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reported]:
    """By schedule: ``pipelined`` with all findings, ``serial``, which spills, with none."""
    folder = tmp_path_factory.mktemp("reported")
    paths = {name: folder / f"{name}.npub" for name in ("pipelined", "serial")}
    compile_source(
        str(save(folder, "transformer")),
        output=paths,
        schedules=tuple(paths),
        calibration_prompts=0,
    )
    found = {}
    for name, path in paths.items():
        bundle = Bundle.open(path)
        profile = profile_bundle(bundle)
        findings = find(bundle, profile, TOP, True, silent) if name == "pipelined" else Findings()
        found[name] = Reported(bundle, profile, findings, report_document(profile, findings))
    return found


@pytest.fixture
def pipelined(reported: dict[str, Reported]) -> Reported:
    return reported["pipelined"]


@pytest.fixture
def serial(reported: dict[str, Reported]) -> Reported:
    return reported["serial"]


@pytest.fixture(scope="package")
def verification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``verify --json`` writes, of a bundle called pipelined.npub."""
    path = tmp_path_factory.mktemp("verified") / "v.json"
    path.write_text(VERIFICATION)
    return path


VERIFICATION = """{
 "schema_version": 3, "bundle": "somewhere/pipelined.npub", "image_psnr_db": 41.5,
 "gates": {"summary": "all 2 values pass", "passed": true, "min_sqnr_db": 40},
 "values": [
  {"prompt": "a <b>fox</b>", "component": "unet", "value": "latents", "timestep": 999,
   "bundle_db": 47.25, "gate_db": 40, "source_db": 33.5, "model_gate_db": 30, "passed": true},
  {"prompt": null, "component": "unet", "value": "free", "bundle_db": 27.0, "passed": null}],
 "layers": [
  {"component": "unet", "op": "one", "kind": "conv", "scope": "down.0", "timestep": 999,
   "isolated_sqnr_db": 61.0, "accumulated_sqnr_db": 52.0},
  {"component": "unet", "op": "two", "kind": "matmul", "isolated_sqnr_db": 44.5},
  {"component": "unet", "op": "exact", "kind": "copy", "isolated_sqnr_db": null}]
}"""

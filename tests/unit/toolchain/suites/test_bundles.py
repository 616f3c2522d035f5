"""What an entry says of its source is what its bundle is compiled with, and what it is kept by."""

from __future__ import annotations

from pathlib import Path

from edgefusion.compiler.bundle.deployment import Guidance
from edgefusion.toolchain.suites.bundles import Bundles
from edgefusion.toolchain.suites.suite import load_suite

SUITE = """
schema_version = 1
schedules = ["serial"]
[[entry]]
name = "guided"
source = "tiny-test"
components = ["unet"]
steps = [3]
scheduler = "ddim"
guidance = 5.0
height = 64
[[entry]]
name = "once"
source = "tiny-test"
components = ["unet"]
height = 64
"""


def test_options_reach_the_bundle_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SUITE)
    suite = load_suite(path)
    bundles = Bundles(suite, folder=tmp_path / "cache")
    guided, once = (bundles.of(case).manifest for case in suite.cases)
    assert (guided.steps, guided.component("unet").evaluations) == (3, 6)
    assert guided.deployment.scheduler == "DDIMScheduler"
    assert guided.deployment.guidance == Guidance(5.0)
    assert guided.deployment.latent == once.deployment.latent == (8, 16)
    assert (once.steps, once.component("unet").evaluations) == (2, 2)
    kept = {each.name: each.stat().st_mtime_ns for each in (tmp_path / "cache").iterdir()}
    assert len(kept) == 2
    again = Bundles(suite, folder=tmp_path / "cache")
    for case in suite.cases:
        again.of(case)
    assert {e.name: e.stat().st_mtime_ns for e in (tmp_path / "cache").iterdir()} == kept

"""What-if: the same program where rates change, another one where sizes do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefusion.runtime.errors import DoesNotFitError, InputError, UsageError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.target import load_target
from edgefusion.runtime.verifier import verify_program
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from edgefusion.toolchain.profiling.profile import Profile, profile_bundle
from edgefusion.toolchain.profiling.scenario import lowers_again, program_for, scenario_of
from tests.bundle_cases import STEPS, bundle_of, small_networks

SCHEDULES = ("serial", "mlt", "pipelined")


@pytest.fixture(scope="module", params=SCHEDULES)
def bundle(request: pytest.FixtureRequest) -> KeptBundle:
    return bundle_of(small_networks(), request.param)


@pytest.fixture(scope="module")
def mlt() -> KeptBundle:
    return bundle_of(small_networks(), "mlt")


def reached_and_bounds(profile: Profile) -> list[tuple[int, int]]:
    return [(op.latency.reached_ps, op.latency.bound_ps) for op in profile.ops]


def test_nothing_given_is_the_bundle_as_it_is(bundle: KeptBundle) -> None:
    scenario = scenario_of(bundle)
    assert dict(scenario.changes) == {}
    assert str(scenario) == ""
    assert scenario.target.provenance["clock_hz"].status == "secondary"
    assert not lowers_again(scenario, bundle.manifest)
    for name in bundle.components:
        assert program_for(bundle, name, scenario) is bundle.program(name)


def test_lowering_again_gives_the_same_program(bundle: KeptBundle) -> None:
    again = scenario_of(bundle, lower_again=True)
    for name in bundle.components:
        one, other = bundle.program(name), program_for(bundle, name, again)
        assert other is not one
        assert (
            other.to_text() == one.to_text() if hasattr(one, "to_text") else len(other) == len(one)
        )
    before, after = profile_bundle(bundle), profile_bundle(bundle, again)
    assert after.latency == before.latency


def test_rates_alone_leave_the_program(bundle: KeptBundle) -> None:
    scenario = scenario_of(
        bundle, settings=["dma_bandwidth=60GB/s", "clock=0.5x", "vector_cycles.softmax=40"]
    )
    assert not lowers_again(scenario, bundle.manifest)
    for name in bundle.components:
        one, other = bundle.program(name), program_for(bundle, name, scenario)
        assert len(one) == len(other)
        assert [op.tile for op in one.ops] == [op.tile for op in other.ops]
        assert [op.bound_ps for op in one.ops] != [op.bound_ps for op in other.ops]
    own, profile = profile_bundle(bundle), profile_bundle(bundle, scenario)
    assert profile.latency.total_ps != own.latency.total_ps
    assert profile.dram_bytes == own.dram_bytes
    assert all(bound <= reached for reached, bound in reached_and_bounds(profile))
    assert all(c.latency.bound_ps <= c.latency.latency_ps for c in profile.components)


@pytest.mark.parametrize("rate", ["dma_bandwidth", "clock", "vector_lanes", "tensor_rate.a16a16"])
def test_twice_a_rate_is_never_slower_without_overlap(mlt: KeptBundle, rate: str) -> None:
    own = profile_bundle(mlt)
    faster = profile_bundle(mlt, scenario_of(mlt, settings=[f"{rate}=2x"]))
    assert faster.latency.total_ps <= own.latency.total_ps
    assert faster.latency.bound_ps <= own.latency.bound_ps


@pytest.mark.parametrize("setting", ["sram=64KiB", "sram_align=256", "dma_engines=2"])
def test_sizes_are_lowered_for_and_verified(bundle: KeptBundle, setting: str) -> None:
    scenario = scenario_of(bundle, settings=[setting])
    assert lowers_again(scenario, bundle.manifest)
    for name in bundle.components:
        program = program_for(bundle, name, scenario)
        verify_program(program, scenario.machine)
        assert program.sram_bytes <= scenario.machine.sram_bytes
    profile = profile_bundle(bundle, scenario)
    assert all(bound <= reached for reached, bound in reached_and_bounds(profile))


def test_what_does_not_fit_is_said(mlt: KeptBundle) -> None:
    scenario = scenario_of(mlt, settings=["sram=512B"])
    with pytest.raises(DoesNotFitError, match="fits the SRAM of 512 bytes") as raised:
        profile_bundle(mlt, scenario)
    assert raised.value.exit_code == 5


def test_another_schedule_and_other_steps(mlt: KeptBundle) -> None:
    scenario = scenario_of(mlt, schedule="pipelined", steps=4)
    assert dict(scenario.changes) == {"schedule": "pipelined", "steps": 4}
    assert str(scenario) == "schedule=pipelined, steps=4"
    profile = profile_bundle(mlt, scenario)
    expected = profile_bundle(bundle_of(small_networks(), "pipelined"))
    assert [c.latency for c in profile.components] == [c.latency for c in expected.components]
    assert [c.evaluations for c in profile.components] == [1, 4]
    only = profile_bundle(mlt, scenario_of(mlt, steps=4))
    unet = only.component("unet").latency
    assert only.latency.total_ps == profile_bundle(mlt).latency.total_ps + 2 * unet.latency_ps
    assert STEPS == 2


def test_another_target_as_file_machine_or_target(mlt: KeptBundle, tmp_path: Path) -> None:
    path = tmp_path / "fast.toml"
    path.write_text(
        'schema_version = 1\nname = "fast"\nbase = "exynos2400"\n[dma]\n'
        "dma_bandwidth_bytes_per_s = 6e10\n"
    )
    target = load_target(str(path))
    given: list[Machine | str] = [str(path), target.machine]
    totals = {profile_bundle(mlt, scenario_of(mlt, target=t)).latency.total_ps for t in given}
    totals.add(profile_bundle(mlt, scenario_of(mlt, target=target)).latency.total_ps)
    same = scenario_of(mlt, settings=["dma_bandwidth=60GB/s"])
    assert totals == {profile_bundle(mlt, same).latency.total_ps}
    scenario = scenario_of(mlt, target=str(path), settings=["sram=1MiB"])
    assert dict(scenario.changes) == {"target": "fast", "sram_bytes": 2**20}
    assert scenario.machine.name == "fast (edited)"
    assert dict(scenario_of(mlt, target="exynos2400").changes) == {}


def test_only_what_differs_counts_as_changed(mlt: KeptBundle) -> None:
    scenario = scenario_of(mlt, settings=["sram=6MiB", "clock=1GHz"])
    assert dict(scenario.changes) == {"clock_hz": 1e9}
    assert str(scenario) == "clock_hz=1GHz"
    assert scenario.target.provenance["clock_hz"].status == "set"
    assert scenario.target.provenance["sram_bytes"].status == "secondary"


def test_what_cannot_be(mlt: KeptBundle) -> None:
    with pytest.raises(UsageError, match="steps is 0"):
        scenario_of(mlt, steps=0)
    with pytest.raises(UsageError, match="unknown schedule 'fast'"):
        scenario_of(mlt, schedule="fast")
    with pytest.raises(UsageError, match=r"no such parameter. Did you mean sram"):
        scenario_of(mlt, settings=["srma=1MiB"])
    with pytest.raises(UsageError, match=r"sram_bytes .*found -5"):
        scenario_of(mlt, settings=["sram=-5"])
    with pytest.raises(InputError, match="unknown target"):
        scenario_of(mlt, target="exynos9")
    alone = bundle_of({"text_encoder": small_networks()["text_encoder"]})
    with pytest.raises(UsageError, match=r"no denoiser \(unet\) that could run 4 steps"):
        scenario_of(alone, steps=4)


def test_a_kept_bundle_reads_once(mlt: KeptBundle) -> None:
    empty = replace(mlt, _kept={})
    with pytest.raises(Exception, match="member"):
        empty.program("unet")
    assert mlt.network("unet") is mlt.network("unet")
    assert KeptBundle.of(mlt) is mlt
    assert np.isfinite(profile_bundle(mlt).latency.total_ms)

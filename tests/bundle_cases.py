"""Bundles of small networks in memory, for tests of what is done with profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgefusion.compiler.bundle.manifest import ComponentInfo, Manifest, SourceInfo
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.cost import COST_MODEL_VERSION
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from tests.lowering_cases import attention_case, conv_case

STEPS = 2


def small_networks() -> dict[str, Network]:
    """An attention as the text encoder, a convolution as the U-Net."""
    return {
        "text_encoder": attention_case(queries=96, keys=77, heads=2),
        "unet": conv_case(height=20, width=20, channels_in=32, channels_out=64),
    }


def bundle_of(
    networks: dict[str, Network], schedule: str = "mlt", target: str = "exynos2400"
) -> KeptBundle:
    """A bundle of networks compiled for a target; only what a profile asks for is in it."""
    machine = load_target(target).machine
    kept = {}
    infos = []
    for name, unnamed in networks.items():
        network = replace(unnamed, name=name)
        program = lower(network, machine, schedule_named(schedule)).program
        kept |= {("network", name): network, ("program", name): program}
        kept |= {("verified program", name): program}
        infos.append(
            ComponentInfo(
                name,
                "fp16",
                STEPS if name == "unet" else 1,
                len(program),
                program.sram_bytes,
                program.dram_bytes,
                (),
                (),
            )
        )
    source = SourceInfo("preset", "small", "0" * 64, 0)
    manifest = Manifest("0", source, machine, COST_MODEL_VERSION, schedule, STEPS, tuple(infos), {})
    return KeptBundle(Path("small.npub"), manifest, {}, kept)

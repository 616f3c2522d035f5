"""The W8A16 U-Net, executed: neither schedules nor the size of SRAM change a bit of the noise."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from edgefusion.api import compile_source
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.compiler.bundle.host import open_host
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.scales import assign_scales, with_scales
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.executor import Executor
from edgefusion.runtime.isa import Role
from edgefusion.runtime.kernels.contract import Array
from edgefusion.toolchain.accuracy.calibration_file import load_calibration

KIB = 1024


@dataclass(frozen=True)
class CalibratedUnet:
    """A bundle's U-Net, to be lowered again for other machines."""

    bundle: Bundle
    folder: Path

    @cached_property
    def network(self) -> Network:
        return self.bundle.network("unet")

    @cached_property
    def scales(self) -> dict[str, float]:
        calibration = load_calibration(self.folder / "unet" / "calibration.json")
        return assign_scales(self.network, calibration.ranges())

    def noise(self, schedule: str, **changes: int) -> tuple[Array, str]:
        """The U-Net's result for fixed random inputs on the machine with ``changes``, and the
        tilings of its ops as text."""
        machine = self.bundle.machine.with_values(**changes)
        lowered = lower(self.network, machine, schedule_named(schedule))
        program = with_scales(lowered.program, self.scales)
        rng = np.random.default_rng(0)
        inputs = {
            t.name: np.full(t.shape, 499)
            if t.dtype.numpy.kind == "i" and t.dtype.nbytes == 8
            else rng.standard_normal(t.shape).astype(np.float32)
            for t in program.tensors
            if t.role is Role.INPUT
        }
        hosts = open_host(self.bundle, "unet", "ort").functions
        executor = Executor(program, machine, self.bundle.weights("unet"), hosts=hosts)
        (noise,) = executor.run(inputs).outputs.values()
        del executor
        gc.collect()  # its memory is that of the machine, gigabytes with what watches it
        return noise, " ".join(op.tile for op in program.ops)


def calibrated(source: str, folder: Path) -> CalibratedUnet:
    """``source`` compiled, or what EDGEFUSION_FULL_BUNDLE names if it is of full size."""
    given = os.environ.get("EDGEFUSION_FULL_BUNDLE") if source == "bk-sdm-tiny" else None
    path = Path(given) if given else folder / "unet.npub"
    if given is None:
        compile_source(
            source, output=path, schedules=("mlt",), components=("unet",), calibration_prompts=1
        )
    bundle = Bundle.open(path)
    bundle.extract(folder / "extracted")
    return CalibratedUnet(bundle, folder / "extracted")


@pytest.fixture(scope="module")
def tiny(tiny_exports: Path, tmp_path_factory: pytest.TempPathFactory) -> CalibratedUnet:
    """The U-Net of tiny-test."""
    return calibrated(str(tiny_exports / "unet.onnx"), tmp_path_factory.mktemp("tiny"))


def assert_same_everywhere(unet: CalibratedUnet, *sram_bytes: int) -> None:
    """All schedules with all SRAM, with other sizes that change most tiles, and with two engines of
    each kind."""
    first, serial_tiles = unet.noise("serial")
    assert np.isfinite(first).all()
    assert len(np.unique(first)) > 500
    tiles = {"serial": serial_tiles}
    for schedule in ("mlt", "pipelined"):
        found, tiles[schedule] = unet.noise(schedule)
        np.testing.assert_array_equal(found, first, err_msg=schedule)
    machines = [{"sram_bytes": nbytes} for nbytes in sram_bytes]
    doubled = {"tensor_engines": 2, "vector_engines": 2, "dma_engines": 2}
    runs = [("serial", machines[0]), *(("pipelined", m) for m in (*machines, doubled))]
    for schedule, changes in runs:
        found, other_tiles = unet.noise(schedule, **changes)
        assert other_tiles != tiles[schedule]
        np.testing.assert_array_equal(found, first, err_msg=f"{schedule}, {changes}")


def test_the_tiny_unet_is_the_same_everywhere(tiny: CalibratedUnet) -> None:
    assert_same_everywhere(tiny, 48 * KIB)


@pytest.mark.full
def test_the_full_unet_is_the_same_everywhere(tmp_path: Path) -> None:
    """EDGEFUSION_FULL_BUNDLE may name a calibrated bundle of bk-sdm-tiny."""
    assert_same_everywhere(calibrated("bk-sdm-tiny", tmp_path), 1024 * KIB, 3072 * KIB, 8192 * KIB)

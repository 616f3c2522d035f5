from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from edgefusion.runtime.accuracy import Noise
from edgefusion.runtime.errors import NumericGateError, UsageError
from edgefusion.toolchain.accuracy.layer_accuracy import LayerError
from edgefusion.toolchain.accuracy.report import Gates, avoidable_db, db
from edgefusion.toolchain.accuracy.verification import PROMPTS, ValueAccuracy, Verification


def found(latent_db: float, source_db: float | None = None) -> Verification:
    values = (
        ValueAccuracy("p", "unet", "noise", 999, source_db, 1.0),
        ValueAccuracy("p", "unet", "latent", 999, source_db, latent_db),
        ValueAccuracy("p", "vae_decoder", "image", None, source_db, 60.0),
    )
    good = LayerError(isolated=Noise(1.0, 1e-9, 1))
    causes = {"weights": 1e-3, "inputs": 1e-9, "output": 1e-5, "requantization": 0.0,
              "tables": 0.0, "clipping": 0.0}  # fmt: skip
    bad = LayerError(isolated=Noise(1.0, 1e-3, 1), causes=causes)
    layers = {("unet", "fine", 999): good, ("unet", "coarse", 999): bad}
    return Verification(Path("x.npub"), "s", values, layers, source_db is not None)


def test_gates_hold_latents_and_images_alone() -> None:
    Gates().check(found(40.0))
    with pytest.raises(NumericGateError, match=r"latent of unet at timestep 999: 39.9 dB") as told:
        Gates().check(found(39.9))
    assert "coarse of unet (50.0 dB" in str(told.value)
    Gates(min_sqnr_db=30).check(found(39.9))


def test_gates_against_the_source() -> None:
    with pytest.raises(NumericGateError, match=r"20\.0 dB"):
        Gates(against="source").check(found(90.0, 20.0))
    with pytest.raises(UsageError, match="--source"):
        Gates(against="source").check(found(90.0))


def test_rounding_of_weights_is_not_avoidable() -> None:
    layers = found(1.0).layers
    assert avoidable_db(layers["unet", "coarse", 999]) == pytest.approx(50.0, abs=0.01)
    assert avoidable_db(layers["unet", "fine", 999]) == pytest.approx(90.0)


def test_errors_add_up() -> None:
    one = found(1.0).layers["unet", "coarse", 999]
    both = one + one
    assert both.isolated.noise == pytest.approx(2e-3)
    assert both.causes["weights"] == pytest.approx(2e-3)
    assert both.isolated.sqnr_db == pytest.approx(one.isolated.sqnr_db)


def test_json_has_no_infinity() -> None:
    assert (db(inf), db(-inf), db(12.34567)) == (None, -999.0, 12.346)


def test_prompts_are_not_those_of_calibration() -> None:
    from edgefusion.models.trajectories import PROMPTS as CALIBRATION

    assert not set(PROMPTS) & set(CALIBRATION)

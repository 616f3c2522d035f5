from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from edgefusion.cli.verify import layers_table, values_table
from edgefusion.compiler.network.network import NetOp
from edgefusion.compiler.ops.movement import Reshape
from edgefusion.runtime.accuracy import Noise
from edgefusion.runtime.errors import NumericGateError, UsageError
from edgefusion.toolchain.accuracy.agreement import Agreement
from edgefusion.toolchain.accuracy.gates import Gates, avoidable_db
from edgefusion.toolchain.accuracy.held_out import PROMPTS
from edgefusion.toolchain.accuracy.layer_accuracy import LayerError
from edgefusion.toolchain.accuracy.report import db, verification_json
from edgefusion.toolchain.accuracy.verification import ValueAccuracy, Verification


def found(
    latent_db: float, source_db: float | None = 32.0, weights_db: float = 60.0
) -> Verification:
    """A pipeline whose latent has ``latent_db`` against the bundle, ``source_db`` against the
    source (None: it is not at hand), and all else has plenty."""
    source = None if source_db is None else Agreement(source_db)
    plenty = None if source_db is None else Agreement(80.0)
    low, weights = Agreement(1.0), Agreement(weights_db)
    values = (
        ValueAccuracy("p", "unet", "noise", 999, low, low, low, "inner"),
        ValueAccuracy("p", "unet", "latent", 999, source, Agreement(latent_db), weights),
        ValueAccuracy("p", "vae_decoder", "image", None, plenty, Agreement(60), plenty, "picture"),
    )
    good = LayerError(isolated=Noise(1.0, 1e-9, 1))
    causes = {"weights": 1e-3, "inputs": 1e-9, "output": 1e-5, "requantization": 0.0,
              "tables": 0.0, "clipping": 0.0}  # fmt: skip
    bad = LayerError(isolated=Noise(1.0, 1e-3, 1), causes=causes)
    layers = {("unet", "fine", 999): good, ("unet", "coarse", 999): bad}
    by = "none" if source_db is None else "source"
    return Verification(Path("x.npub"), "s", values, layers, {"unet": by, "vae_decoder": by})


def test_both_gates_hold_latents_and_images_alone() -> None:
    Gates().check(found(40.0, 30.0))
    with pytest.raises(NumericGateError, match=r"latent of unet at timestep 999: 39.9 dB") as told:
        Gates().check(found(39.9))
    assert "coarse of unet at timestep 999 (50.0 dB by itself, mostly by output)" in str(told.value)
    Gates(min_sqnr_db=30).check(found(39.9))


def test_a_model_that_is_not_the_sources_fails_however_right_its_arithmetic() -> None:
    with pytest.raises(NumericGateError, match=r"22\.0 dB, expected at least 30 dB") as told:
        Gates().check(found(80.0, 22.0, weights_db=22.1))
    assert "rounding does to the weights: give unet precision fp16" in str(told.value)
    with pytest.raises(NumericGateError, match="calibrate on more prompts"):
        Gates().check(found(80.0, 22.0, weights_db=50.0))
    Gates(against="bundle").check(found(80.0, 22.0))
    Gates(min_model_db=20).check(found(80.0, 22.0))


def test_the_source_alone() -> None:
    Gates(against="source").check(found(1.0))
    with pytest.raises(NumericGateError, match=r"20\.0 dB"):
        Gates(against="source").check(found(90.0, 20.0))
    with pytest.raises(UsageError, match="--source"):
        Gates(against="source").check(found(90.0, None))


@pytest.mark.parametrize(
    ("latent_db", "source_db", "against", "row", "whole"),
    [
        (50, 35, "both", True, True),
        (50, 25, "both", False, False),
        (30, 35, "both", False, False),
        (50, None, "both", None, None),
        (30, None, "both", False, False),
        (50, None, "bundle", True, True),
        (30, 35, "source", True, True),
    ],
)
def test_nothing_passes_that_was_not_asked(
    latent_db: float, source_db: float | None, against: str, row: bool | None, whole: bool | None
) -> None:
    gates = Gates(against=against)  # type: ignore[arg-type]
    document = verification_json(found(latent_db, source_db), gates, {"unet": LAYERS})
    noise, latent, _ = document["values"]
    assert latent["passed"] is row
    assert document["gates"]["passed"] is whole
    assert noise["passed"] is None
    assert latent["model_checked"] is (source_db is not None)
    assert document["gates"]["verdict"].startswith(VERDICTS[whole])
    assert document["gates"]["verdict"].endswith("(1 on the way to others have none)")
    assert (noise["gated"], latent["gated"]) == (False, True)
    assert ("NOT checked" in document["gates"]["summary"]) is (
        source_db is None and against == "both"
    )


VERDICTS = {
    True: "passed: 2 values with a gate, none misses it",
    False: "FAILED: 1 of 2 values with a gate miss it",
    None: "NOT CHECKED in full: none of 2 values with a gate misses it",
}


@pytest.mark.parametrize(("latent_db", "source_db"), [(30, 35), (30, 20), (50, 20)])
def test_the_error_names_the_first_layer_of_the_table(latent_db: float, source_db: float) -> None:
    """Two layers, of which rounded weights make the one worst, and INT16 the other."""
    value = found(latent_db, source_db)
    causes = {"weights": 0.0, "inputs": 1e-4, "output": 0.0, "requantization": 0.0, "tables": 0.0}
    integers = LayerError(isolated=Noise(1.0, 1e-4, 1), causes=causes)
    value = replace(value, layers={**value.layers, ("unet", "fine", 999): integers})
    document = verification_json(value, Gates(), {"unet": LAYERS})
    with pytest.raises(NumericGateError) as told:
        Gates().check(value)
    first = layers_table(document, 5).rows[0]
    level = first[document["layers_by"]]
    assert f"The worst layer is {first['op']} of unet at timestep 999 ({level:.1f} dB" in str(
        told.value
    )
    assert first["op"] == ("fine" if latent_db < 40 else "coarse")


LAYERS = {name: NetOp(name, Reshape(x="x"), ("y",)) for name in ("fine", "coarse")}


def test_indices_have_a_gate_of_their_own() -> None:
    def labels(share: float) -> Verification:
        each = Agreement(3.0, share)
        value = ValueAccuracy("p", "model", "k", None, each, each, each)
        return Verification(Path("x.npub"), "s", (value,), {}, {"model": "source"})

    Gates().check(labels(0.995))
    with pytest.raises(NumericGateError, match=r"98\.00 % equal, expected at least 99 % equal"):
        Gates().check(labels(0.98))
    (row,) = verification_json(labels(0.98), Gates(), {})["values"]
    assert (row["measure"], row["bundle_equal"], row["gate_db"]) == ("equal", 0.98, None)


def test_what_cannot_be_compared_is_not_checked() -> None:
    nothing = Agreement(inf, remark="3 of 3 values are NaN", comparable=False)
    value = ValueAccuracy("p", "model", "y", None, nothing, nothing, nothing)
    document = verification_json(
        Verification(Path("x"), "s", (value,), {}, {"model": "none"}), Gates(), {}
    )
    assert document["gates"]["passed"] is None
    assert document["values"][0]["passed"] is None
    assert document["values"][0]["remark"] == "3 of 3 values are NaN"


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


def test_the_table_marks_what_is_not_judged() -> None:
    document = verification_json(found(39.0), Gates(), {"unet": LAYERS})
    noise, latent, image = values_table(document, "t").rows
    assert (noise["passed"], noise["gate_db"], noise["model_gate_db"]) == ("not gated",) + (
        "none",
    ) * 2
    assert (latent["passed"], latent["gate_db"]) == ("NO", 40.0)
    assert image["passed"] == "yes"

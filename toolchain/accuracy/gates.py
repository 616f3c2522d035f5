"""The gates of a verification: what each value has to keep, and what to do where it does not.

The arithmetic gate compares with the bundle's own graph, the model gate with the source's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, get_args

from edgefusion.runtime.accuracy import decibels
from edgefusion.runtime.errors import NumericGateError, UsageError
from edgefusion.toolchain.accuracy.agreement import MIN_EQUAL, Agreement
from edgefusion.toolchain.accuracy.layer_accuracy import CAUSES, LayerError

if TYPE_CHECKING:
    from edgefusion.toolchain.accuracy.npu_layers import LayerKey
    from edgefusion.toolchain.accuracy.verification import ValueAccuracy, Verification

MIN_SQNR_DB = 40.0
"""Arithmetic gate of latents and outputs, against the bundle's weights: the error of a step stays
below a hundredth of its values."""
MIN_MODEL_DB = 30.0
"""Model gate of latents and outputs, against the source: rounded weights are most of it."""
MIN_PSNR_DB = 35.0
"""Gate for the image, against both: differences that the eye does not find side by side."""
Measure = Literal["avoidable_sqnr_db", "isolated_sqnr_db"]
"""Of a layer by itself: without the rounding of its weights, or with it."""
Against = Literal["bundle", "source", "both"]
AGAINST: tuple[Against, ...] = get_args(Against)


@dataclass(frozen=True, slots=True)
class Gates:
    """Least decibels; ``against`` the ``bundle``'s graph (arithmetic), the ``source`` (model), or
    both. Indices and booleans have a gate of their own (``agreement.MIN_EQUAL``)."""

    min_sqnr_db: float = MIN_SQNR_DB
    min_psnr_db: float = MIN_PSNR_DB
    against: Against = "both"
    min_model_db: float = MIN_MODEL_DB

    def check(self, found: Verification) -> None:
        """Raises NumericGateError, naming the values that miss a gate and the layers that
        contribute most; UsageError where there is no source to be gated against."""
        if self.against == "source" and found.unchecked:
            raise UsageError(
                f"--against source: nothing is known of the source of "
                f"{', '.join(found.unchecked)}, neither where it is nor what it computed; name it "
                "with --source."
            )
        arithmetic = [row for row in found.values if self.arithmetic(row) is False]
        model = [row for row in found.values if self.model(row) is False]
        if not arithmetic and not model:
            return
        told = []
        if arithmetic:
            told.append(
                f"{_missed(arithmetic, 'bundle', self)} against the bundle's own weights."
                f"{_blame(found.layers, self.layers_by(found))} Calibrate on more prompts, "
                "nearer to deployment (--calibration-prompts), or give such ops precision fp16 in "
                "the recipe (--suggest ranks them)."
            )
        if model:
            told.append(
                f"{_missed(model, 'source', self)} against the source."
                f"{'' if arithmetic else _blame(found.layers, self.layers_by(found))} "
                f"{_model_advice(model)}"
            )
        raise NumericGateError(f"{found.bundle}: {' '.join(told)}")

    def layers_by(self, found: Verification) -> Measure:
        """What makes a layer the worst one, in the error and in tables alike: of the arithmetic,
        which rounded weights are no part of; of the model where that alone misses its gate."""
        model_only = self.all_model(found) is False and self.all_arithmetic(found) is not False
        return "isolated_sqnr_db" if model_only else "avoidable_sqnr_db"

    def gated(self, row: ValueAccuracy) -> bool:
        """Whether a value is judged at all; those on the way to others are only shown."""
        return self.limit(row, "bundle") > -inf

    def arithmetic(self, row: ValueAccuracy) -> bool | None:
        """Whether a value keeps the arithmetic gate; None where it has none."""
        return None if self.against == "source" else _passes(row.bundle, self.limit(row, "bundle"))

    def model(self, row: ValueAccuracy) -> bool | None:
        """Whether a value keeps the model gate; None where it has none, or nothing to keep to."""
        return None if self.against == "bundle" else _passes(row.source, self.limit(row, "source"))

    def passed(self, row: ValueAccuracy) -> bool | None:
        """Whether a value keeps all gates that are asked for; None where one could not be checked,
        or none is asked for."""
        return self._both(self.arithmetic(row), self.model(row))

    def all_passed(self, found: Verification) -> bool | None:
        """As ``passed``, of all values, and of each component's model."""
        return self._both(self.all_arithmetic(found), self.all_model(found))

    def all_arithmetic(self, found: Verification) -> bool | None:
        """Whether all values keep the arithmetic gate; None where none has one."""
        return _all(self.arithmetic(row) for row in found.values)

    def all_model(self, found: Verification) -> bool | None:
        """As ``all_arithmetic``; None where a component's model was compared with nothing."""
        held = _all(self.model(row) for row in found.values)
        return None if held and found.unchecked else held

    def _both(self, arithmetic: bool | None, model: bool | None) -> bool | None:
        held = {"bundle": arithmetic, "source": model}
        if False in held.values():
            return False
        wanted = ("bundle", "source") if self.against == "both" else (self.against,)
        return True if all(held[each] for each in wanted) else None

    def limit(self, row: ValueAccuracy, against: Literal["bundle", "source"]) -> float:
        """The gate of a value; minus infinity for those without one."""
        if row.kind == "inner":
            return -inf
        if row.kind == "picture":
            return self.min_psnr_db
        return self.min_sqnr_db if against == "bundle" else self.min_model_db

    def verdict(self, found: Verification) -> str:
        """Whether the bundle passed, in a clause: what every report says."""
        judged = [row for row in found.values if self.gated(row)]
        missed = sum(self.arithmetic(row) is False or self.model(row) is False for row in judged)
        others = len(found.values) - len(judged)
        rest = f" ({others} on the way to others have none)" if others else ""
        values = "value" if len(judged) == 1 else "values"
        if missed:
            return f"FAILED: {missed} of {len(judged)} {values} with a gate miss it{rest}"
        if self.all_passed(found) is None:
            return (
                f"NOT CHECKED in full: none of {len(judged)} {values} with a gate misses it{rest}"
            )
        return f"passed: {len(judged)} {values} with a gate, none misses it{rest}"

    def summary(self, found: Verification) -> str:
        """What was checked, in a line."""
        if self.against == "bundle":
            return "arithmetic gate only: the model is not compared with its source"
        unchecked = found.unchecked
        recorded = [name for name, by in found.model_references.items() if by == "recorded"]
        said = []
        if unchecked:
            said.append(
                f"model NOT checked for {', '.join(unchecked)}: the source is not at hand and the "
                "bundle keeps nothing of it; name it with --source"
            )
        if recorded:
            said.append(
                f"model of {', '.join(recorded)} checked with what the source computed when it was "
                "compiled"
            )
        return "; ".join(said) or "arithmetic and model are both checked"


def _all(held: Iterable[bool | None]) -> bool | None:
    asked = [each for each in held if each is not None]
    return all(asked) if asked else None


def _passes(found: Agreement | None, limit: float) -> bool | None:
    if found is None or not found.comparable or limit == -inf:
        return None
    return found.passes(limit)


def _missed(
    rows: Sequence[ValueAccuracy], against: Literal["bundle", "source"], gates: Gates
) -> str:
    """How many, and the worst of them."""

    def excess(row: ValueAccuracy) -> float:
        found = row.bundle if against == "bundle" else row.source
        return found.db - gates.limit(row, against) if found is not None else inf

    worst = min(rows, key=excess)
    found = worst.bundle if against == "bundle" else worst.source
    assert found is not None
    at = f" at timestep {worst.timestep}" if worst.timestep is not None else ""
    values = "1 value misses its" if len(rows) == 1 else f"{len(rows)} values miss their"
    least = f"{gates.limit(worst, against):g} dB"
    if found.equal is not None:
        least = f"{100 * MIN_EQUAL:g} % equal"
    return (
        f"{values} gate, most of all the {worst.value} of {worst.component}{at}: {found}, "
        f"expected at least {least},"
    )


def _model_advice(rows: Sequence[ValueAccuracy]) -> str:
    worst = min((row for row in rows if row.source is not None), key=lambda r: r.source.db)  # type: ignore[union-attr]
    weights = worst.weights
    if weights is None or worst.source is None or weights.db > worst.source.db + 3:
        return (
            "The bundle's graph in ONNX Runtime is nearer, so INT16 activations are the cause: "
            "calibrate on more prompts (--calibration-prompts), or give ops precision fp16 in the "
            "recipe."
        )
    return (
        f"The bundle's graph in ONNX Runtime has {weights} too, so it is what rounding does to the "
        f"weights: give {worst.component} precision fp16 in a recipe ([precision] "
        f'{worst.component} = "fp16", or [[rule]] for some ops) and compile again.'
    )


def _blame(layers: Mapping[LayerKey, LayerError], by: Measure) -> str:
    """The op that loses most, as ``by`` measures it: the first of the table."""
    if not layers:
        return ""
    (component, op, timestep), error = min(layers.items(), key=lambda item: layer_db(item[1], by))
    parts = {
        name: noise
        for name, noise in error.causes.items()
        if name != "weights" or by == "isolated_sqnr_db"
    }
    cause = f", mostly by {max(parts, key=parts.__getitem__)}" if any(parts.values()) else ""
    at = "" if timestep is None else f" at timestep {timestep}"
    level = layer_db(error, by)
    return f" The worst layer is {op} of {component}{at} ({level:.1f} dB by itself{cause})."


def layer_db(error: LayerError, by: Measure) -> float:
    """A layer's decibels by itself."""
    return error.isolated.sqnr_db if by == "isolated_sqnr_db" else avoidable_db(error)


def avoidable_db(error: LayerError) -> float:
    """An op's SQNR by itself, the rounding of its weights left out."""
    if not error.causes:
        return error.isolated.sqnr_db
    noise = sum(error.causes[name] for name in CAUSES if name != "weights")
    return decibels(error.isolated.signal, noise)

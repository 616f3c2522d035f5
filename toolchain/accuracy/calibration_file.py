"""A finished calibration: what was measured, on what, as a small JSON file one can read.

All methods' limits are stored, so that the choice of a method costs nothing:

* ``minmax``: the extremes, widened by ``HEADROOM`` for what other prompts will bring;
* ``percentile``: clipped to the magnitude that 99.999 % of the values do not exceed;
* ``mse``: clipped where rounding and clipping together err least.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgefusion.compiler.bundle.deployment import AS_BEFORE, Deployment
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.ranges import Range
from edgefusion.compiler.network.scales import measured_tensors
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.files import write_whole
from edgefusion.runtime.validation import Finite, Timestep, Whole, validated
from edgefusion.toolchain.accuracy.calibration_statistics import Statistics

FORMAT_VERSION = 1
Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

HEADROOM = 1.5
"""Measured on prompts that calibration had not seen (tiny-test, 2 prompts x 2 steps, 4 held out):
without headroom clipping leaves 27 to 49 dB, with a quarter 52 to 73; doubling costs 5 dB."""


_ADVICE = "Calibrate again, or compile what it was made for."


@dataclass(frozen=True, slots=True)
class Identity:
    """What a calibration belongs to: the same identity gives the same numbers.

    ``graph_sha256`` is of the optimised graph, so recipe and passes are in it. ``inputs`` says
    where values came from: ``trajectories`` or ``synthetic``; ``deployment``, by which scheduler;
    ``pictures_sha256`` is of given pictures, empty for drawn ones.
    """

    source: str
    source_digest: str
    component: str
    graph_sha256: str
    inputs: str
    prompts: tuple[str, ...]
    timesteps: tuple[Timestep, ...]
    seed: Whole
    deployment: Deployment = AS_BEFORE
    pictures_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is stored; without what older tools would know anyway."""
        stored = asdict(self)
        if not self.pictures_sha256:
            del stored["pictures_sha256"]
        if self.deployment == AS_BEFORE:
            del stored["deployment"]
        return stored


@dataclass(frozen=True, slots=True)
class Measured:
    """One tensor's values: extremes, count, quantiles of the magnitude, and the limit with the
    least mean square error."""

    low: Finite
    high: Finite
    count: Whole
    p99_9: Finite
    p99_99: Finite
    p99_999: Finite
    least_error: Finite

    @classmethod
    def of(cls, statistics: Statistics) -> Measured:
        """The summary of what was seen."""
        return cls(
            statistics.low,
            statistics.high,
            statistics.count,
            statistics.quantile(0.999),
            statistics.quantile(0.9999),
            statistics.quantile(0.99999),
            statistics.least_error(),
        )

    def range(self, method: Method) -> Range:
        """The range that ``method`` chooses."""
        if method == "minmax":
            return Range(self.low * HEADROOM, self.high * HEADROOM)
        limit = self.p99_999 if method == "percentile" else self.least_error
        return Range(max(self.low, -limit), min(self.high, limit))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measured tensors of one component, by name."""

    identity: Identity
    evaluations: Whole
    tensors: Mapping[str, Measured]

    def ranges(self, method: Method = "minmax") -> dict[str, Range]:
        """A range for each tensor."""
        if method not in METHODS:
            raise UsageError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
        return {name: measured.range(method) for name, measured in self.tensors.items()}

    def extremes(self) -> dict[str, Range]:
        """What was measured, without headroom."""
        return {name: Range(measured.low, measured.high) for name, measured in self.tensors.items()}

    def typical(self) -> dict[str, float]:
        """The magnitude that 99.99 % of each tensor's values do not exceed."""
        return {name: measured.p99_99 for name, measured in self.tensors.items()}

    def check(self, network: Network, component: str, source_digest: str) -> None:
        """InputError unless this was measured on that component of that source."""
        advice, made = _ADVICE, self.identity
        if made.component != component:
            raise InputError(
                f"the calibration is of the component {made.component}, not of {component}. "
                f"{advice}"
            )
        self.check_source(source_digest)
        wanted = set(measured_tensors(network))
        for names, what in (
            (wanted - self.tensors.keys(), "lacks"),
            (self.tensors.keys() - wanted, "measures something unknown,"),
        ):
            if names:
                raise InputError(
                    f"the calibration does not fit the model: it {what} '{min(names)}' "
                    f"({len(names)} such tensors). {advice}"
                )

    def check_source(self, source_digest: str) -> None:
        """InputError unless this was measured on that source."""
        made = self.identity
        if made.source_digest != source_digest:
            raise InputError(
                f"the calibration of {made.source} was made with other weights: its source has the "
                f"digest {made.source_digest[:16]}…, this one {source_digest[:16]}…. {_ADVICE}"
            )

    def save(self, path: Path) -> None:
        """Write ``path`` as a whole or not at all."""
        document = {
            "format_version": FORMAT_VERSION,
            "identity": self.identity.to_json(),
            "evaluations": self.evaluations,
            "tensors": {name: asdict(measured) for name, measured in self.tensors.items()},
        }
        write_whole(path, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")


def load_calibration(path: Path) -> Calibration:
    """Read what ``save`` wrote. Raises InputError for whatever is missing or damaged."""
    advice = "Calibrate again."
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no calibration file: {error!r}. {advice}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, expected {FORMAT_VERSION}. {advice}"
        )
    calibration = validated(Calibration, document, f"{path} is damaged", advice)
    for name, measured in calibration.tensors.items():
        if measured.low > measured.high:
            raise InputError(
                f"{path}: the range of '{name}' is {measured.low} to {measured.high}. {advice}"
            )
    return calibration

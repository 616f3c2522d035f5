"""One repetition of the experiment, from raw data to students of few steps, with its own seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from edgefusion.models.families.family import STUDENT_STEPS
from edgefusion.models.miniature import names
from edgefusion.models.miniature.classifier import Labeller
from edgefusion.models.miniature.distance import RESAMPLES
from edgefusion.models.miniature.encoded import EncodedPairs
from edgefusion.models.miniature.evaluation import (
    Judge,
    Judgement,
    few_step_sampler,
    many_step_sampler,
    prompts,
)
from edgefusion.models.miniature.networks import SCHEDULER, student_of, teacher_unet, tiny_unet
from edgefusion.models.miniature.pairs import Pairs
from edgefusion.models.miniature.presets import Preset
from edgefusion.models.miniature.raw_data import UNPLACED_PROMPTS, Faults
from edgefusion.models.miniature.stages import (
    CURATED,
    MIXTURES,
    RAW,
    RECAPTIONED,
    SYNTHETIC,
    make_datasets,
)
from edgefusion.models.miniature.store import Step, Store
from edgefusion.models.miniature.tools import Tools
from edgefusion.models.miniature.trainings import Lesson
from edgefusion.runtime.progress import Say

Judgements = dict[str, dict[str, Judgement]]
"""By network and number of steps."""
BEST_TEACHING = f"{RECAPTIONED} & {CURATED}"
BEST_DISTILLING = f"{RECAPTIONED} & {SYNTHETIC}"
_DATA_SEEDS = 1000
"""Of repetition 0; the classifiers' seeds lie below."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A network by the step that trains it: its shape, and the training."""

    step: Step
    empty: Callable[[], Any]
    make: Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class Repetition:
    """Number ``seed``."""

    preset: Preset
    store: Store
    tools: Tools
    seed: int
    say: Say

    def judgements(self) -> Judgements:
        """Train what is not yet trained of the networks that the preset judges, and judge them."""
        judged = self.preset.networks
        return {
            name: self._judged(name, trained)
            for name, trained in self.networks().items()
            if not judged or name in judged
        }

    def networks(self) -> dict[str, Trained]:
        """All by name, trained or not; each after what it is made from."""
        base, advanced = self._teachers()
        tiny, tuned = self._tiny(), self._tuned(CURATED)
        found = {names.BASE: base, names.ADVANCED: advanced, names.TINY: tiny}
        found[names.UNTUNED] = self._few(tiny, BEST_DISTILLING)
        for mixture in MIXTURES:
            found[names.tuned(mixture)] = self._tuned(mixture)
            found[names.few(mixture)] = self._few(self._tuned(mixture), mixture)
        found[names.EDGEFUSION] = self.edgefusion
        found[names.BY_BASE] = self._few(tuned, BEST_DISTILLING, base)
        found[names.BY_ITSELF] = self._few(tuned, BEST_DISTILLING, tuned)
        return found

    @property
    def edgefusion(self) -> Trained:
        """The network that is deployed."""
        return self._few(self._tuned(CURATED), BEST_DISTILLING)

    def unet(self, trained: Trained) -> Any:
        """The network itself, trained now if it was not before."""
        self.say(f"repetition {self.seed}: {trained.step.name}")
        return self.store.network(trained.step, trained.empty(), trained.make)

    def _teachers(self) -> tuple[Trained, Trained]:
        preset = self.preset

        def empty() -> Any:
            return teacher_unet(preset.channels, self.seed)

        base_step = self._step("base", RAW, preset.base_steps)
        base = Trained(
            base_step,
            empty,
            lambda place: self._lesson(RAW, place).teach(empty(), preset.base_steps),
        )
        step = self._step("advanced", BEST_TEACHING, preset.advanced_steps, base_step)
        advanced = Trained(
            step,
            empty,
            lambda place: self._lesson(BEST_TEACHING, place).teach(
                self.unet(base), preset.advanced_steps
            ),
        )
        return base, advanced

    def _student(self) -> Any:
        return tiny_unet(teacher_unet(self.preset.channels, self.seed))

    def _tiny(self) -> Trained:
        base, _ = self._teachers()
        steps = self.preset.tiny_steps

        def make(place: Path) -> Any:
            teacher = self.unet(base)
            torch.manual_seed(self.seed)
            return self._lesson(RAW, place).distil(teacher, student_of(teacher), steps)

        return Trained(self._step("tiny", RAW, steps, base.step), self._student, make)

    def _tuned(self, mixture: str) -> Trained:
        _, advanced = self._teachers()
        tiny, steps = self._tiny(), self.preset.tuning_steps

        def make(place: Path) -> Any:
            lesson = self._lesson(mixture, place)
            return lesson.distil(self.unet(advanced), self.unet(tiny), steps)

        step = self._step("tuned", mixture, steps, advanced.step, tiny.step)
        return Trained(step, self._student, make)

    def _few(self, start: Trained, mixture: str, teacher: Trained | None = None) -> Trained:
        """By the advanced teacher unless another is given."""
        teacher = teacher or self._teachers()[1]
        steps = self.preset.consistency_steps

        def make(place: Path) -> Any:
            lesson = self._lesson(mixture, place)
            return lesson.reduce_steps(self.unet(teacher), self.unet(start), steps)

        step = self._step("few", mixture, steps, teacher.step, start.step)
        return Trained(step, self._student, make)

    def _step(self, name: str, data: str, steps: int, *parents: Step) -> Step:
        settings = {
            "data": data,
            "steps": steps,
            "batch_size": self.preset.batch_size,
            "channels": self.preset.channels,
            "scheduler": SCHEDULER,
            "guidance": self.preset.guidance if name == "few" else None,
        }
        source = self._raw() if data == RAW else self._data()
        return Step(f"repetition-{self.seed}/{name}", settings, (*parents, source))

    def _raw(self) -> Step:
        settings = {"pairs": self.preset.raw_pairs, "faults": asdict(Faults())}
        return Step(f"repetition-{self.seed}/raw", settings, (self.tools.step,))

    def _data(self) -> Step:
        settings = {"prompts": self.preset.prompts_asked, "unplaced": UNPLACED_PROMPTS}
        return Step(f"repetition-{self.seed}/data", settings, (self._raw(),))

    def datasets(self) -> Path:
        """The folder of all datasets, made now if they were not before."""
        preset = self.preset

        def make(place: Path) -> dict[str, Any]:
            seed = _DATA_SEEDS + self.seed
            labeller = Labeller(self.tools.labeller)
            reports = make_datasets(place, seed, preset.raw_pairs, preset.prompts_asked, labeller)
            return {name: report.to_json() for name, report in reports.items()}

        self.store.result(self._data(), make)
        return self.store.place(self._data())

    def _lesson(self, mixture: str, place: Path) -> Lesson:
        folder = self.datasets()
        pairs = Pairs.of([folder / name for name in MIXTURES[mixture]])
        data = EncodedPairs.of(pairs, self.tools.encoders)
        name = place.parent.name

        def say(text: str) -> None:
            self.say(f"repetition {self.seed}: {name} on {mixture}: {text}")

        return Lesson(self.preset, self.tools.encoders, data, self.seed, place, say)

    @property
    def judge(self) -> Judge:
        """Of all networks."""
        texts = prompts(self.preset.evaluation_prompts)
        return Judge(self.tools.encoders, self.tools.judge, texts)

    def _judged(self, name: str, trained: Trained) -> dict[str, Judgement]:
        few = names.is_few(name)
        steps = STUDENT_STEPS if few else (self.preset.many_steps,)
        guidance = self.preset.guidance
        settings = {
            "prompts": self.preset.evaluation_prompts,
            "steps": steps,
            "guidance": None if few else guidance,
            "distances": RESAMPLES,
        }
        sampler = few_step_sampler() if few else many_step_sampler(guidance)
        step = Step(f"repetition-{self.seed}/judged", settings, (trained.step,))

        def make(_place: Path) -> dict[str, Any]:
            network, judge = self.unet(trained), self.judge
            return {
                str(n): asdict(judge.judgement(judge.pictures(network, sampler, n))) for n in steps
            }

        return read_judgements(self.store.result(step, make))


def read_judgements(stored: Mapping[str, Any]) -> dict[str, Judgement]:
    """By number of steps, as a step of the store keeps them."""
    return {steps: Judgement(**fields) for steps, fields in stored.items()}

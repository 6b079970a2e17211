"""Errors a caller of ``nas`` may want to catch.

NasError
├── TaskError               unknown task, unreadable or inconsistent task files
├── TeacherError            a teacher that cannot be fetched, or whose head is not the task's
├── TokenizerError          a tokenizer that cannot be read, or does not fit its network
├── MissingExtraError       a feature needs an optional extra that is not installed
├── TrainingError           a training run that cannot go on
│   ├── NonFiniteLossError  the loss became NaN or infinite
│   ├── OutOfMemoryError    the network or its batch does not fit into memory
│   └── LostProcessError    another process of the same training is gone
├── AgreementError          a written model that answers otherwise than the network it is
├── ArtifactError           weights that are missing or damaged
│   └── DamagedArtifactError  not what was written; it was moved aside
├── ModelFileError          a model file that cannot be timed
├── UnknownEvaluatorError   no accuracy evaluator of that name
├── StoreError              the store cannot be opened, read or written
│   └── RunBusyError        another process works on the same run
└── SettingsError           settings that contradict each other or the run's own

A `ProjectionWarning` and a `StoreWarning` stop nothing.
"""

from __future__ import annotations

from collections.abc import Iterable


class NasError(Exception):
    """Base class of every error raised by ``nas``."""


class TaskError(NasError):
    """A task is unknown, or its files cannot be read or contradict each other."""


class TeacherError(NasError):
    """A teacher cannot be fetched, or its head is not the task's."""


class ProjectionWarning(UserWarning):
    """The data does not determine a projection; what stands in its place is said."""


class CompilationWarning(UserWarning):
    """Nothing is compiled; why is said."""


class StoreWarning(UserWarning):
    """Something about the store is not as it should be; what to do is said."""


class TokenizerError(NasError):
    """A tokenizer cannot be read, or does not fit its network."""


class MissingExtraError(NasError):
    """A feature needs an optional extra that is not installed."""

    def __init__(self, *, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra {extra!r}; run `pip install 'pocketbert[{extra}]'`")
        self.extra = extra


class TrainingError(NasError):
    """A training run cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""

    def __init__(self, *, step: int, loss: float) -> None:
        super().__init__(f"loss={loss} at step {step} is not finite; lower the learning rate")
        self.step = step


class OutOfMemoryError(TrainingError):
    """The network or its batch does not fit into memory."""

    def __init__(self, *, doing: str) -> None:
        super().__init__(f"{doing}: out of memory; choose a shorter sequence length or a smaller network")


class LostProcessError(TrainingError):
    """Another process of the same training is gone."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this training is gone, killed or out of memory; torchrun's report names it, "
            "and the same command goes on from the last checkpoint"
        )


class AgreementError(NasError):
    """A written model does not answer what the network it was written from answers."""


class ArtifactError(NasError):
    """Weights are missing or damaged."""


class DamagedArtifactError(ArtifactError):
    """An artifact is not what was written, wherever it was looked for; it was moved aside."""


class ModelFileError(NasError):
    """A model file is not what can be timed."""


class UnknownEvaluatorError(NasError):
    """No accuracy evaluator has that name."""

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown evaluator {name!r} (known: {', '.join(known)})")
        self.name = name


class PredictionError(NasError):
    """Measurements do not suffice to predict latencies from."""


class StoreError(NasError):
    """The store cannot be opened, read or written."""


class RunBusyError(StoreError):
    """Another process works on the same run."""


class WorkerLostError(NasError):
    """Processes that worked on an architecture ended without a word, again and again."""

    def __init__(self, *, num_deaths: int) -> None:
        super().__init__(
            f"{num_deaths} processes that worked on it were killed; it is left alone (memory too small for it?)"
        )


class SettingsError(NasError):
    """Settings contradict each other or the run's own."""

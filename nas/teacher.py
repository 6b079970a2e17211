"""The dense teacher of a task: trained once, kept on disk, shared by all candidates.

Everything that defines a teacher makes up its ``teacher_id``. A second run with
the same task, tokenizer, shape, recipe, seed and first weights finds it by that
name. What it was trained on is no part of it: a CPU, a GPU or several processes
take the same steps, and round differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.artifacts import CHECKPOINT_SUFFIX, TEACHERS, ArtifactFolder, Opened, pack, seal, unseal
from nas.compilation import compile_layers
from nas.errors import ArtifactError, SettingsError
from nas.losses import predictions_from_logits, supervised_loss
from nas.metrics import compute_metric
from nas.processes import ALONE, Processes
from nas.tasks import TaskKind
from nas.teacher_plans import TeacherPlan, fit_head
from nas.text_tokenizers import TextTokenizer, standard_tokenizer, tokenizer_from_document
from nas.tokens import TokenizedTask
from nas.training import Checkpointing, OnStep, predict, train
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

# Part of every teacher_id: raise it when a change to the training makes other weights of the same settings.
TRAINING_VERSION = 1
CHECKPOINT_EVERY_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """A dense network that does the task.

    ``dev_metrics`` are the task's metrics on the dev split by name.
    ``origin`` is ``small``, ``minilm`` or the name of a checkpoint.
    """

    teacher_id: str
    origin: str
    arch: Architecture
    tokenizer: TextTokenizer
    task: str
    label_names: tuple[str, ...]
    state: Mapping[str, Tensor]
    dev_metrics: tuple[tuple[str, float], ...]

    def network(self) -> Bert:
        """Build the teacher's network, in evaluation mode on the CPU."""
        with torch.random.fork_rng(devices=[]):
            network = build(self.arch, num_labels=max(1, len(self.label_names)), dropout=0.0)
        network.load_state_dict(dict(self.state))
        return network.eval()


def prepare_teacher(
    data: TokenizedTask,
    plan: TeacherPlan,
    *,
    artifacts: ArtifactFolder,
    seed: int,
    device: str,
    processes: Processes = ALONE,
    compiled: bool = False,
    on_step: OnStep | None = None,
) -> Teacher:
    """Return the teacher of a plan: from ``artifacts`` if it is there, else trained now and kept there.

    Args:
        data: The tokenized task.
        plan: What to train, and how.
        artifacts: Where teachers are kept; an interrupted training goes on from there, too.
        seed: Seed of first weights, order of examples and dropout.
        device: ``cpu`` or ``cuda``.
        processes: Those that train it together; all call this function alike, the first one reads and writes.
        compiled: Whether to train its layers compiled: no part of ``teacher_id``, as the device is none.
        on_step: Hears of every training step; of none if the teacher is found.

    Raises:
        SettingsError: If the teacher has fewer positions than the task's
            sequence length, or another tokenizer than the task was read with;
            if the processes are more than a batch's examples, or differ in what they read.
        TeacherError: If it shall not be trained, and its head is not the task's.
        ArtifactError: If the kept one is not of this release.
        TrainingError: If the loss is not finite, or memory does not suffice.
        OSError: If what is kept cannot be read, or what was trained cannot be kept.
    """
    if data.sequence_length > plan.arch.max_position_embeddings:
        raise SettingsError(
            f"sequence_length={data.sequence_length} must be at most the teacher's "
            f"max_position_embeddings={plan.arch.max_position_embeddings}"
        )
    if data.tokenizer.document != plan.tokenizer.document:
        raise SettingsError(f"task {data.task.name!r} must be tokenized with the tokenizer of teacher {plan.origin!r}")
    plan = fit_head(plan, data.task.label_names)
    teacher_id = _teacher_id(data, plan, seed=seed)
    processes.require_same(teacher_id, what=f"the teacher of task {data.task.name!r}")
    path = artifacts.teacher_file(teacher_id)
    if processes.is_first:
        # Brings it here from where it is shared, and puts aside what is damaged.
        artifacts.find(TEACHERS, teacher_id)
    kept = processes.read(path)
    if kept is None:
        teacher = _train(
            data,
            plan,
            teacher_id=teacher_id,
            artifacts=artifacts,
            seed=seed,
            device=device,
            processes=processes,
            compiled=compiled,
            on_step=on_step,
        )
        if processes.is_first:
            artifacts.keep(TEACHERS, teacher_id, teacher.state, description=_describe(teacher))
            _checkpoint_path(artifacts, teacher_id).unlink(missing_ok=True)
        # Another machine may have kept one a moment before: then all go on with that.
        kept = processes.read(path) or seal(teacher.state, description=_describe(teacher))
    return _teacher_from(unseal(kept), teacher_id=teacher_id, source=path)


def _train(
    data: TokenizedTask,
    plan: TeacherPlan,
    *,
    teacher_id: str,
    artifacts: ArtifactFolder,
    seed: int,
    device: str,
    processes: Processes,
    compiled: bool,
    on_step: OnStep | None,
) -> Teacher:
    task = data.task
    network = _first_network(data, plan, seed=seed)
    if compiled and plan.recipe.num_steps > 0:
        compile_layers(network, device=device)
    train(
        network,
        data.train,
        supervised_loss(task.kind),
        recipe=plan.recipe,
        seed=seed,
        device=device,
        checkpointing=Checkpointing(path=_checkpoint_path(artifacts, teacher_id), every_steps=CHECKPOINT_EVERY_STEPS),
        processes=processes,
        on_step=on_step,
    )
    predictions = predictions_from_logits(predict(network, data.dev, device=device), task.kind).numpy()
    labels = data.dev.labels.double().numpy()
    return Teacher(
        teacher_id=teacher_id,
        origin=plan.origin,
        arch=plan.arch,
        tokenizer=plan.tokenizer,
        task=task.name,
        label_names=task.label_names,
        state={name: tensor.cpu() for name, tensor in network.state_dict().items()},
        dev_metrics=tuple((name, compute_metric(name, predictions, labels)) for name in task.metrics),
    )


def _first_network(data: TokenizedTask, plan: TeacherPlan, *, seed: int) -> Bert:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(plan.arch, num_labels=data.task.num_labels, dropout=plan.dropout)
    if data.task.kind is TaskKind.REGRESSION:
        # Otherwise a short training is spent on finding out the scale of the labels.
        nn.init.constant_(network.classifier.bias, float(data.train.labels.mean()))
    network.load_state_dict(plan.init or {}, strict=False)
    return network


def _teacher_id(data: TokenizedTask, plan: TeacherPlan, *, seed: int) -> str:
    parts: dict[str, object] = {
        "training_version": TRAINING_VERSION,
        "task": data.content_sha256,
        "sequence_length": data.sequence_length,
        "arch": plan.arch.to_json(),
        "init": None if plan.init is None else hashlib.sha256(pack(plan.init, description="")).hexdigest(),
        "recipe": asdict(plan.recipe),
        "dropout": plan.dropout,
        "seed": seed,
    }
    if not data.tokenizer.is_standard:
        # There was only the standard one once, and what was trained with it keeps its name.
        parts["tokenizer"] = data.tokenizer.content_sha256
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _describe(teacher: Teacher) -> str:
    description = {
        "origin": teacher.origin,
        "arch": teacher.arch.to_json(),
        "task": teacher.task,
        "label_names": teacher.label_names,
        "dev_metrics": teacher.dev_metrics,
        "tokenizer": None if teacher.tokenizer.is_standard else teacher.tokenizer.document,
    }
    return json.dumps(description)


def read_teacher(artifacts: ArtifactFolder, teacher_id: str) -> Teacher:
    """Read a teacher that was trained before.

    Raises:
        ArtifactError: If it is not there, or not one of this release.
        OSError: If it cannot be read.
    """
    path = artifacts.teacher_file(teacher_id)
    kept = artifacts.find(TEACHERS, teacher_id)
    if kept is None:
        raise ArtifactError(
            f"{path}: no such teacher; give --artifacts if it is shared elsewhere, or run the search that trained it "
            "again"
        )
    return _teacher_from(kept, teacher_id=teacher_id, source=path)


def _teacher_from(kept: Opened, *, teacher_id: str, source: Path) -> Teacher:
    tensors, text = kept
    try:
        description = json.loads(text)
        document = description.get("tokenizer")
        return Teacher(
            teacher_id=teacher_id,
            origin=description["origin"],
            arch=Architecture.from_json(description["arch"]),
            tokenizer=standard_tokenizer() if document is None else tokenizer_from_document(document, source=source),
            task=description["task"],
            label_names=tuple(description["label_names"]),
            state=tensors,
            dev_metrics=tuple((name, value) for name, value in description["dev_metrics"]),
        )
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"{source}: not a teacher of this release ({error}); delete the file") from error


def _checkpoint_path(artifacts: ArtifactFolder, teacher_id: str) -> Path:
    return artifacts.teacher_file(teacher_id).with_suffix(CHECKPOINT_SUFFIX)

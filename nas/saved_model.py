"""A trained network as a folder of its own: weights, architecture, labels and tokenizer.

``config.json`` says what the network is and what it was trained for,
``model.safetensors`` holds its weights under our names, ``tokenizer.json`` is
a document of the ``tokenizers`` package. Nothing else is needed to use it:

    from nas.saved_model import load

    model = load("my-model")
    model.predict(["a lovely film"])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.artifacts import pack, unpack
from nas.errors import ArtifactError
from nas.losses import predictions_from_logits
from nas.tasks import Example, TaskKind
from nas.text_tokenizers import TOKENIZER_FILE, TextTokenizer, check_fits, tokenizer_from_document
from nas.tokens import encode
from nas.training import predict
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build
from search_spaces.checkpoints import CONFIG_FILE, WEIGHTS_FILE

FORMAT, SCHEMA_VERSION = "pocketbert", 1

Text = str | tuple[str, str]
"""A sentence, or a pair of sentences."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedModel:
    """A trained network with all it takes to use it.

    ``label_names`` are in the order of the logits and empty for regression.
    ``dev_metrics`` are what it scored when it was trained, by name;
    ``evaluator`` says how that was. ``sequence_length`` is the most tokens it
    was trained for; longer texts are cut to it.
    """

    network: Bert
    tokenizer: TextTokenizer
    task: str
    kind: TaskKind
    label_names: tuple[str, ...]
    sequence_length: int
    evaluator: str
    dev_metrics: tuple[tuple[str, float], ...]

    def logits(self, texts: Sequence[Text]) -> Tensor:
        """Compute the logits (texts, max(1, labels)) of sentences or pairs, in their order."""
        if not texts:
            return torch.empty(0, max(1, len(self.label_names)))
        examples = [
            Example(sentence=text, sentence2=None, label=0)
            if isinstance(text, str)
            else Example(sentence=text[0], sentence2=text[1], label=0)
            for text in texts
        ]
        split = encode(examples, self.tokenizer, kind=self.kind, sequence_length=self.sequence_length)
        return predict(self.network, split, device="cpu")

    def predict(self, texts: Sequence[Text]) -> list[str] | list[float]:
        """Return the label of each sentence or pair by name, or its number if the task is a regression."""
        values: list[float] = predictions_from_logits(self.logits(texts), self.kind).tolist()
        if self.kind is TaskKind.REGRESSION:
            return values
        return [self.label_names[int(position)] for position in values]


def save(model: SavedModel, folder: Path) -> None:
    """Write a model into an existing folder, which `load` reads back.

    Raises:
        OSError: If a file cannot be written.
    """
    config = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "architecture": json.loads(model.network.arch.to_json()),
        "task": model.task,
        "kind": model.kind.value,
        "label_names": list(model.label_names),
        "sequence_length": model.sequence_length,
        "evaluator": model.evaluator,
        "dev_metrics": dict(model.dev_metrics),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = pack(model.network.state_dict(), description=model.network.arch.to_json())
    (folder / WEIGHTS_FILE).write_bytes(weights)
    (folder / TOKENIZER_FILE).write_text(model.tokenizer.document, encoding="utf-8")


def load(folder: Path | str) -> SavedModel:
    """Read the model in a folder that `nas export` wrote, ready to predict.

    Raises:
        ArtifactError: If the folder holds no such model, or a file is missing,
            damaged or does not belong to the others.
        TokenizerError: If its tokenizer is damaged, or does not fit the network.
        search_spaces.errors.SearchSpaceError: If its architecture is not one.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG_FILE)
    try:
        arch = Architecture.from_json(json.dumps(config["architecture"]))
        label_names = tuple(config["label_names"])
        model = SavedModel(
            network=_read_network(folder / WEIGHTS_FILE, arch, num_labels=max(1, len(label_names))),
            tokenizer=_read_tokenizer(folder / TOKENIZER_FILE),
            task=config["task"],
            kind=TaskKind(config["kind"]),
            label_names=label_names,
            sequence_length=config["sequence_length"],
            evaluator=config["evaluator"],
            dev_metrics=tuple(config["dev_metrics"].items()),
        )
    except KeyError as error:
        raise ArtifactError(f"{folder / CONFIG_FILE}: field {error} is missing; export the model again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / CONFIG_FILE}: {error}; export the model again") from error
    check_fits(model.tokenizer, arch, source=folder)
    return model


def network_from(tensors: dict[str, Tensor], arch: Architecture, *, num_labels: int, source: Path) -> Bert:
    """Build the network of ``arch`` with these weights, in evaluation mode.

    Raises:
        ArtifactError: Naming every tensor that is missing, extra or wrongly shaped.
    """
    with torch.random.fork_rng(devices=[]):
        network = build(arch, num_labels=num_labels, dropout=0.0)
    wanted = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = [f"missing {name}" for name in wanted if name not in tensors]
    problems += [f"extra {name}" for name in sorted(tensors.keys() - wanted.keys())]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, wanted {shape}"
        for name, shape in wanted.items()
        if name in tensors and list(tensors[name].shape) != shape
    ]
    if problems:
        raise ArtifactError(f"{source}: {'; '.join(problems)}")
    network.load_state_dict(tensors)
    return network.eval()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON ({error}); export the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not a model that `nas export` wrote; give the folder it wrote")
    if config.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema_version {config.get('schema_version')!r}, this release reads {SCHEMA_VERSION}; "
            "use the release that wrote it"
        )
    return config


def _read_network(path: Path, arch: Architecture, *, num_labels: int) -> Bert:
    tensors, _ = unpack(_read(path), source=path)
    return network_from(tensors, arch, num_labels=num_labels, source=path)


def _read_tokenizer(path: Path) -> TextTokenizer:
    return tokenizer_from_document(_read(path).decode("utf-8", "replace"), source=path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{path}: no such file; a model folder is what `nas export` writes") from error

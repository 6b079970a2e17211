"""BERT, RoBERTa and SqueezeBERT checkpoints of the Hugging Face Hub, into our network and back.

A checkpoint is a folder with ``config.json`` and ``model.safetensors``. Only
names and shapes change on the way; the mapping is the tables below. RoBERTa
(Liu et al., arXiv 1907.11692) counts positions from behind its padding id, so
its table loses the rows that no token ever has, and its head's hidden layer is
our pooler.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from search_spaces.architecture import GROUP_POSITIONS, LAYER_NORM_EPS_EXPONENT, Architecture
from search_spaces.bert import Bert
from search_spaces.errors import CheckpointError, InvalidArchitectureError
from search_spaces.reference import dense_encoder

CONFIG_FILE, WEIGHTS_FILE, PICKLE_FILE = "config.json", "model.safetensors", "pytorch_model.bin"
CONVERT = (
    "from transformers import AutoModelForSequenceClassification as M; "
    "M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')"
)

# Names outside the encoder blocks are the same in all families, but for the prefix of a whole model and the head.
PREFIXES = {"bert": "bert.", "roberta": "roberta.", "squeezebert": "transformer."}
BLOCK_PREFIXES = {"bert": "encoder.layer.", "roberta": "encoder.layer.", "squeezebert": "encoder.layers."}
OUTER_NAMES = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.token_type_embeddings": "embeddings.token_type_embeddings",
    "embeddings.layer_norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
    "classifier": "classifier",
}
ROBERTA_HEAD_NAMES = {"pooler": "classifier.dense", "classifier": "classifier.out_proj"}
POSITIONS = "embeddings.position_embeddings.weight"
BERT_BLOCK_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "post_attention": "attention.output.dense",
    "post_attention_layer_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
BLOCK_NAMES = {
    "bert": BERT_BLOCK_NAMES,
    "roberta": BERT_BLOCK_NAMES,
    "squeezebert": {
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "post_attention": "post_attention.conv1d",
        "post_attention_layer_norm": "post_attention.layernorm",
        "intermediate": "intermediate.conv1d",
        "output": "output.conv1d",
        "output_layer_norm": "output.layernorm",
    },
}
# Heads of pretraining, and a constant that old releases stored: no part of an encoder.
IGNORED_PREFIXES = ("cls.", "lm_head.")
IGNORED_NAMES = ("embeddings.position_ids",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A pretrained network: its architecture and its weights under our names.

    ``num_labels`` is None if the checkpoint has no task head; ``state`` then
    has no ``classifier`` tensors either, and no ``pooler`` ones if the
    checkpoint has none. ``label_names`` are the configuration's, in the order
    of the head's outputs, and empty if it names none. Weights are float32.
    """

    arch: Architecture
    state: dict[str, Tensor]
    num_labels: int | None
    label_names: tuple[str, ...]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a BERT, RoBERTa or SqueezeBERT checkpoint folder.

    Raises:
        CheckpointError: If a file is missing or damaged, the weights are a
            pickle, the configuration asks for what our network does not
            compute, or tensors are missing, extra or wrongly shaped.
    """
    path = folder / WEIGHTS_FILE
    if (folder / PICKLE_FILE).exists() and not path.exists():
        # Said first: converting it is the way on, whatever the configuration lacks.
        raise CheckpointError(_missing_weights(folder))
    config = _read_config(folder)
    family, arch = architecture_from_config(config, source=folder / CONFIG_FILE)
    if not path.exists():
        raise CheckpointError(_missing_weights(folder))
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}); download it again") from error
    classifier = tensors.get(_hub_name("classifier.bias", family, has_head=True))
    num_labels = None if classifier is None else len(classifier)
    state = state_from_tensors(
        tensors,
        arch,
        family=family,
        num_labels=num_labels,
        source=path,
        first_position=_first_position(config, family),
    )
    names = _label_names(config)
    return Checkpoint(
        arch=arch, state=state, num_labels=num_labels, label_names=names if len(names) == num_labels else ()
    )


def architecture_from_config(config: Mapping[str, Any], *, source: Path) -> tuple[str, Architecture]:
    """Return the family (one of `PREFIXES`) and the architecture a configuration describes.

    Raises:
        CheckpointError: If our network does not compute what it describes.
    """
    family = config.get("model_type")
    if family not in PREFIXES:
        raise CheckpointError(f"{source}: model_type={family!r} is not supported (known: {', '.join(PREFIXES)})")
    required = {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "embedding_size": config.get("hidden_size"),
    }
    if family == "squeezebert":
        # Its blocks have this one whatever the configuration says.
        required["layer_norm_eps"] = float(f"1e-{LAYER_NORM_EPS_EXPONENT}")
    for name, value in required.items():
        if config.get(name, value) != value:
            raise CheckpointError(f"{source}: {name}={config[name]!r} is not supported, our network has {value!r}")
    groups = {name: config.get(name, 4 if name != "post_attention_groups" else 1) for name in GROUP_POSITIONS}
    try:
        arch = dense_encoder(
            hidden_size=config["hidden_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
        )
        blocks = tuple(replace(block, **groups) for block in arch.blocks) if family == "squeezebert" else arch.blocks
        arch = replace(
            arch,
            blocks=blocks,
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["max_position_embeddings"] - _first_position(config, family),
            type_vocab_size=config["type_vocab_size"],
            layer_norm_eps_exponent=_eps_exponent(config.get("layer_norm_eps", 1e-12), source),
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: field {error} is missing") from error
    except (InvalidArchitectureError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    return family, arch


def state_from_tensors(
    tensors: Mapping[str, Tensor],
    arch: Architecture,
    *,
    family: str,
    num_labels: int | None,
    source: Path | str,
    first_position: int = 0,
) -> dict[str, Tensor]:
    """Return the state of our network from tensors with a checkpoint's names.

    Args:
        tensors: Tensors by their name on the Hub, with or without the prefix of a whole model.
        arch: The network they are for.
        family: One of `PREFIXES`.
        num_labels: Outputs of the task head, or None if there is none. Without it the pooler may be missing.
        source: What to call the checkpoint in an error.
        first_position: Row of the position table that belongs to the first token.

    Raises:
        CheckpointError: Naming every missing, extra and wrongly shaped tensor.
    """
    given = {_modern(name.removeprefix(PREFIXES[family])): tensor for name, tensor in tensors.items()}
    given = {
        name: t for name, t in given.items() if name not in IGNORED_NAMES and not name.startswith(IGNORED_PREFIXES)
    }
    has_head = num_labels is not None
    wanted = {
        (name, _hub_name(name, family, has_head=has_head)): shape
        for name, shape in _shapes(arch, num_labels=num_labels).items()
    }
    if not has_head and not any(name.startswith("pooler.") for name in given):
        # Pretraining on masked words alone never makes one.
        wanted = {names: shape for names, shape in wanted.items() if not names[0].startswith("pooler.")}
    if family == "roberta" and has_head:
        # The head brings its own hidden layer; a pooler beside it is left from pretraining.
        given = {name: tensor for name, tensor in given.items() if not name.startswith("pooler.")}
    problems = [f"missing {hub_name}" for _, hub_name in wanted if hub_name not in given]
    problems += [f"extra {name}" for name in sorted(given.keys() - {hub_name for _, hub_name in wanted})]
    state = {}
    for (name, hub_name), shape in wanted.items():
        if hub_name not in given:
            continue
        tensor = given[hub_name]
        # BERT's linear layers are our convolutions but for the kernel's axis of one.
        there = list(shape[:2] if tensor.ndim + 1 == len(shape) else shape)
        skipped = first_position if name == POSITIONS else 0
        there[0] += skipped
        if list(tensor.shape) == there:
            state[name] = tensor[skipped:].reshape(shape).float()
        else:
            problems.append(f"{hub_name} has shape {list(tensor.shape)}, wanted {there}")
    if problems:
        raise CheckpointError(f"{source}: {'; '.join(problems)}")
    return state


def tensors_from_state(state: Mapping[str, Tensor], *, family: str) -> dict[str, Tensor]:
    """Return tensors with a whole checkpoint's names from the state of our network.

    The inverse of `state_from_tensors` for the families ``bert`` and
    ``squeezebert``, which all that RoBERTa computes can be said in. With
    ``bert`` the network has to have one group everywhere, because BERT's
    layers are linear.
    """
    tensors = {}
    for name, tensor in state.items():
        is_linear_there = family == "bert" and tensor.ndim == 3
        prefix = "" if name.startswith("classifier.") else PREFIXES[family]
        tensors[prefix + _hub_name(name, family, has_head=True)] = tensor.squeeze(2) if is_linear_there else tensor
    return tensors


def config_from_architecture(arch: Architecture, *, num_labels: int) -> dict[str, Any]:
    """Return the Hub's configuration of an architecture that BERT or SqueezeBERT can express.

    Raises:
        CheckpointError: If its blocks differ, its heads are not as wide as the
            hidden size, or it has groups and another epsilon than SqueezeBERT's.
    """
    block = arch.blocks[0]
    if set(arch.blocks) != {block} or arch.all_head_size(block) != arch.hidden_size:
        raise CheckpointError(
            f"architecture {arch.arch_id} has blocks that differ, or fewer heads than the hidden size holds; "
            "neither a BERT nor a SqueezeBERT configuration can say that"
        )
    groups = {name: getattr(block, name) for name in GROUP_POSITIONS}
    is_dense = set(groups.values()) == {1}
    if not is_dense and arch.layer_norm_eps_exponent != LAYER_NORM_EPS_EXPONENT:
        raise CheckpointError(
            f"architecture {arch.arch_id} has groups and layer_norm_eps={arch.layer_norm_eps}; "
            f"SqueezeBERT's layer norms have 1e-{LAYER_NORM_EPS_EXPONENT} whatever its configuration says"
        )
    family: dict[str, Any] = (
        {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
        if is_dense
        else {
            "model_type": "squeezebert",
            "architectures": ["SqueezeBertForSequenceClassification"],
            "embedding_size": arch.hidden_size,
            **groups,
        }
    )
    return family | {
        "hidden_size": arch.hidden_size,
        "num_hidden_layers": arch.num_hidden_layers,
        "num_attention_heads": block.num_attention_heads,
        "intermediate_size": block.intermediate_size,
        "vocab_size": arch.vocab_size,
        "max_position_embeddings": arch.max_position_embeddings,
        "type_vocab_size": arch.type_vocab_size,
        "hidden_act": "gelu",
        "layer_norm_eps": arch.layer_norm_eps,
        "num_labels": num_labels,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; a checkpoint folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise CheckpointError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: a configuration is a JSON object, got {type(config).__name__}")
    return config


def _missing_weights(folder: Path) -> str:
    if (folder / f"{WEIGHTS_FILE}.index.json").exists():
        return f"{folder}: weights in several files are not supported; save them as one {WEIGHTS_FILE}"
    if (folder / PICKLE_FILE).exists():
        convert = CONVERT.format(folder=folder)
        return f'{folder}: {PICKLE_FILE} is a pickle, which can run code; convert it with `python -c "{convert}"`'
    return f"{folder}: {WEIGHTS_FILE} is missing; a checkpoint folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"


def _shapes(arch: Architecture, *, num_labels: int | None) -> dict[str, torch.Size]:
    """Shapes of our network's tensors by name, without building it; no head if ``num_labels`` is None."""
    with torch.device("meta"):
        network = Bert(arch, num_labels=num_labels or 1, dropout=0.0)
    return {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if num_labels is not None or not name.startswith("classifier.")
    }


def _first_position(config: Mapping[str, Any], family: str) -> int:
    """Return the row of a checkpoint's position table that the first token has."""
    padding_id = config.get("pad_token_id", 1)
    return padding_id + 1 if family == "roberta" and isinstance(padding_id, int) else 0


def _eps_exponent(eps: object, source: Path) -> int:
    exponent = round(-math.log10(eps)) if isinstance(eps, float) and 0 < eps < 1 else 0
    if eps != float(f"1e-{exponent}"):
        raise CheckpointError(f"{source}: layer_norm_eps={eps!r} is not supported, our networks have a power of ten")
    return exponent


def _label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the head's outputs, or none if they are the placeholders of an unnamed head."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    ordered = tuple(str(names.get(str(position), "")) for position in range(len(names)))
    placeholders = tuple(f"LABEL_{position}" for position in range(len(names)))
    return () if ordered == placeholders or "" in ordered else ordered


def _hub_name(name: str, family: str, *, has_head: bool) -> str:
    module, _, kind = name.rpartition(".")
    if family == "roberta" and has_head and module in ROBERTA_HEAD_NAMES:
        return f"{ROBERTA_HEAD_NAMES[module]}.{kind}"
    if module in OUTER_NAMES:
        return f"{OUTER_NAMES[module]}.{kind}"
    _, index, layer = module.split(".")
    return f"{BLOCK_PREFIXES[family]}{index}.{BLOCK_NAMES[family][layer]}.{kind}"


def _modern(name: str) -> str:
    """BERT's first checkpoints call the scale and shift of a layer norm gamma and beta."""
    if name.endswith("LayerNorm.gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith("LayerNorm.beta") else name

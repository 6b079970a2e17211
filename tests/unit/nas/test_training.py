from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.errors import NonFiniteLossError, OutOfMemoryError, TrainingError
from nas.losses import supervised_loss
from nas.tasks import TaskKind
from nas.tokens import Batch, TokenizedTask, tokenize_task
from nas.training import Checkpointing, Recipe, learning_rate_factor, predict, train, translate_out_of_memory
from search_spaces.bert import Bert, build
from tests.small_tasks import TINY, classification_task

RECIPE = Recipe(num_steps=12, learning_rate=1e-3, batch_size=8)
LOSS = supervised_loss(TaskKind.CLASSIFICATION)


@pytest.fixture(scope="module")
def data() -> TokenizedTask:
    return tokenize_task(classification_task(), sequence_length=16)


def _network() -> Bert:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(TINY, num_labels=2, dropout=0.1)


def _trained(
    data: TokenizedTask, *, seed: int = 1, recipe: Recipe = RECIPE, checkpointing: Checkpointing | None = None
) -> dict[str, Tensor]:
    network = _network()
    train(network, data.train, LOSS, recipe=recipe, seed=seed, device="cpu", checkpointing=checkpointing)
    return network.state_dict()


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.torch
def test_a_run_is_a_function_of_its_seed_and_leaves_the_global_generator_alone(data: TokenizedTask) -> None:
    before = torch.get_rng_state()

    first, again, other = (_trained(data, seed=seed) for seed in (1, 1, 2))

    assert _same(first, again)
    assert not _same(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.torch
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(data: TokenizedTask, tmp_path: Path) -> None:
    checkpointing = Checkpointing(path=tmp_path / "run.checkpoint", every_steps=3)
    steps: list[int] = []

    def interrupt(step: int, num_steps: int) -> None:
        steps.append(step)
        if step == 8:
            raise KeyboardInterrupt

    interrupted = _network()
    with pytest.raises(KeyboardInterrupt):
        train(
            interrupted,
            data.train,
            LOSS,
            recipe=RECIPE,
            seed=1,
            device="cpu",
            checkpointing=checkpointing,
            on_step=interrupt,
        )
    resumed = _network()
    train(
        resumed,
        data.train,
        LOSS,
        recipe=RECIPE,
        seed=1,
        device="cpu",
        checkpointing=checkpointing,
        on_step=lambda step, num_steps: steps.append(step),
    )

    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10, 11, 12]
    assert _same(resumed.state_dict(), _trained(data))
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]


@pytest.mark.torch
def test_a_checkpoint_of_another_run_is_refused(data: TokenizedTask, tmp_path: Path) -> None:
    checkpointing = Checkpointing(path=tmp_path / "run.checkpoint", every_steps=4)
    _trained(data, checkpointing=checkpointing)

    with pytest.raises(TrainingError, match=r"run\.checkpoint: checkpoint of another run; delete the file"):
        _trained(data, recipe=replace(RECIPE, learning_rate=2e-3), checkpointing=checkpointing)


@pytest.mark.torch
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_checkpoint_is_refused(data: TokenizedTask, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(content)

    with pytest.raises(TrainingError, match=r"run\.checkpoint: damaged checkpoint; delete the file"):
        _trained(data, checkpointing=Checkpointing(path=path, every_steps=4))


@pytest.mark.torch
def test_a_loss_that_is_not_finite_names_its_step(data: TokenizedTask) -> None:
    seen = []

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        seen.append(batch)
        return LOSS(network, batch) * (torch.nan if len(seen) == 3 else 1.0)

    with pytest.raises(NonFiniteLossError, match="loss=nan at step 2 is not finite; lower the learning rate"):
        train(_network(), data.train, loss, recipe=RECIPE, seed=1, device="cpu")


@pytest.mark.torch
def test_training_learns_and_prediction_keeps_the_order_of_examples(data: TokenizedTask) -> None:
    network = _network()
    train(
        network, data.train, LOSS, recipe=Recipe(num_steps=60, learning_rate=3e-3, batch_size=8), seed=1, device="cpu"
    )

    logits = predict(network, data.dev, device="cpu")

    assert logits.argmax(dim=1).tolist() == data.dev.labels.tolist()
    assert not network.training


@pytest.mark.torch
def test_biases_and_layer_norms_are_not_decayed(data: TokenizedTask) -> None:
    # At a rate of next to nothing only an enormous decay moves anything.
    before = {name: tensor.clone() for name, tensor in _network().state_dict().items()}
    after = _trained(data, recipe=Recipe(num_steps=1, learning_rate=1e-9, batch_size=8, weight_decay=5e8))

    moved = {name for name, tensor in after.items() if not torch.allclose(tensor, before[name], atol=1e-6)}

    assert moved == {name for name, tensor in before.items() if tensor.ndim > 1}


def test_the_rate_rises_linearly_to_one_and_falls_towards_zero() -> None:
    factors = [learning_rate_factor(step, num_steps=10, warmup=0.2) for step in range(11)]

    assert factors == [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_running_out_of_memory_is_one_error(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="scoring: out of memory; choose"), translate_out_of_memory("scoring"):
        raise error


def test_other_runtime_errors_are_bugs_and_stay() -> None:
    with pytest.raises(RuntimeError, match="shapes"), translate_out_of_memory("scoring"):
        raise RuntimeError("shapes do not match")

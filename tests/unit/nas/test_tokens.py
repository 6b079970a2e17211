from __future__ import annotations

import pytest
import torch

from nas.errors import SettingsError
from nas.tasks import Example, TaskKind
from nas.text_tokenizers import standard_tokenizer
from nas.tokens import EncodedSplit, encode, ordered_batches, tokenize_task, training_batches
from tests.small_tasks import classification_task, regression_task

CLS, SEP = 101, 102
LENGTHS = torch.arange(100) % 17 + 3


def test_the_vocabulary_is_the_standard_uncased_one() -> None:
    encoder = standard_tokenizer().encoder()

    assert encoder.get_vocab_size() == 30_522
    assert encoder.encode("Hello WORLD").ids == [CLS, 7592, 2088, SEP]


def test_a_pair_has_types_and_a_batch_is_padded_to_its_longest() -> None:
    examples = (
        Example(sentence="hello", sentence2="hello world", label=1),
        Example(sentence="hello", sentence2="world", label=0),
        Example(sentence="hello hello hello hello", sentence2="world", label=0),
    )
    split = encode(examples, standard_tokenizer(), kind=TaskKind.CLASSIFICATION, sequence_length=16)

    batch = split.batch(torch.tensor([1, 0]))

    assert batch.input_ids.tolist() == [[CLS, 7592, SEP, 2088, SEP, 0], [CLS, 7592, SEP, 7592, 2088, SEP]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    assert batch.labels.tolist() == [0, 1]
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.token_type_ids.dtype, batch.labels.dtype} == {
        torch.int64
    }


def test_the_longer_sentence_of_a_pair_is_cut_first() -> None:
    example = Example(sentence="hello " * 9, sentence2="world", label=0.0)

    split = encode((example,), standard_tokenizer(), kind=TaskKind.REGRESSION, sequence_length=7)

    assert split.input_ids.tolist() == [[CLS, 7592, 7592, 7592, SEP, 2088, SEP]]
    assert split.labels.dtype == torch.float32


def test_a_task_is_cut_to_the_sequence_length() -> None:
    data = tokenize_task(classification_task(), sequence_length=6)

    assert data.train.input_ids.shape == (40, 6)
    assert int(data.dev.lengths.max()) == 6
    assert data.content_sha256 == classification_task().content_sha256()


def test_a_sequence_length_too_short_for_a_pair_is_refused() -> None:
    with pytest.raises(SettingsError, match="sequence_length=4 must be at least 5"):
        tokenize_task(regression_task(), sequence_length=4)


def test_selected_rows_are_a_split_of_their_own() -> None:
    data = tokenize_task(classification_task(), sequence_length=12)

    chosen: EncodedSplit = data.dev.select(torch.tensor([7, 2]))

    assert chosen.labels.tolist() == [1, 0]
    assert chosen.input_ids[0].tolist() == data.dev.input_ids[7].tolist()


def test_every_pass_visits_every_row_once_in_a_new_order() -> None:
    batches = list(training_batches(LENGTHS, batch_size=8, seed=5, first_step=0, num_steps=26))

    first, second = torch.cat(batches[:13]).tolist(), torch.cat(batches[13:]).tolist()

    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second


def test_an_order_started_in_the_middle_goes_on_as_the_whole_one() -> None:
    whole = list(training_batches(LENGTHS, batch_size=8, seed=5, first_step=0, num_steps=30))

    rest = list(training_batches(LENGTHS, batch_size=8, seed=5, first_step=11, num_steps=30))

    assert [rows.tolist() for rows in rest] == [rows.tolist() for rows in whole[11:]]
    assert (
        whole[0].tolist() != next(training_batches(LENGTHS, batch_size=8, seed=6, first_step=0, num_steps=1)).tolist()
    )


def test_sequences_of_similar_length_share_a_batch() -> None:
    batches = training_batches(LENGTHS, batch_size=10, seed=0, first_step=0, num_steps=10)

    assert max(int(LENGTHS[rows].max() - LENGTHS[rows].min()) for rows in batches) <= 3


def test_prediction_batches_hold_every_row_from_short_to_long() -> None:
    rows = torch.cat(ordered_batches(LENGTHS, batch_size=9))

    assert sorted(rows.tolist()) == list(range(100))
    assert LENGTHS[rows].tolist() == sorted(LENGTHS.tolist())

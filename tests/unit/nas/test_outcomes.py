from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.accuracy import score_logits
from nas.documents import from_document, to_document
from nas.metrics import compute_metric
from nas.outcomes import pack_outcomes, unpack_outcomes
from nas.records import Score
from nas.tokens import tokenize_task
from tests.small_tasks import classification_task, regression_task


@given(st.lists(st.booleans(), max_size=70))
def test_outcomes_come_back_as_they_were(answers: list[bool]) -> None:
    text = pack_outcomes(np.array(answers, dtype=np.bool_))

    assert unpack_outcomes(text, num_examples=len(answers)).tolist() == answers
    assert len(text) <= len(answers) / 6 + 4


def test_outcomes_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="hold 16 bits, 17 examples need another number"):
        unpack_outcomes(pack_outcomes(np.ones(16, dtype=np.bool_)), num_examples=17)


@pytest.mark.torch
def test_a_score_keeps_which_examples_were_right() -> None:
    data = tokenize_task(classification_task(), sequence_length=16)
    labels = data.dev.labels.long()
    wrong = {1, 4}
    shown = torch.tensor([1 - label if i in wrong else label for i, label in enumerate(labels.tolist())])
    logits = torch.nn.functional.one_hot(shown, 2).float()

    score = score_logits(
        logits, data, evaluator="x", seed=0, duration_s=0.0, weights_sha256=None, teacher_logits=logits
    )

    assert score.outcomes is not None
    is_right = unpack_outcomes(score.outcomes, num_examples=score.num_examples)
    assert set(np.flatnonzero(~is_right).tolist()) == wrong
    predictions, truth = shown.double().numpy(), labels.double().numpy()
    assert is_right.mean() == pytest.approx(compute_metric("accuracy", predictions, truth))


@pytest.mark.torch
def test_a_metric_that_is_no_accuracy_keeps_none_and_older_scores_are_read() -> None:
    data = tokenize_task(regression_task(), sequence_length=16)
    logits = torch.arange(len(data.dev), dtype=torch.float32)[:, None]

    score = score_logits(
        logits, data, evaluator="x", seed=0, duration_s=0.0, weights_sha256=None, teacher_logits=logits
    )
    older = {name: value for name, value in to_document(score).items() if name != "outcomes"}

    assert score.outcomes is None
    assert from_document(Score, older) == score

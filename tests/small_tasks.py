"""Tasks of a few sentences that a tiny network learns in a second."""

from __future__ import annotations

from pathlib import Path

from nas.tasks import Example, Task, TaskKind
from search_spaces.reference import dense_encoder

TINY = dense_encoder(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)

PRAISE = ("a lovely film", "the best story of the year", "warm and witty", "i laughed and i cried", "great acting")
BLAME = ("a dull mess", "the worst plot in a decade , and far too long", "cold and tired", "i slept", "bad jokes")


def classification_task(*, num_copies: int = 4) -> Task:
    """Praise against blame; the dev split holds the same sentences once."""
    dev = tuple(
        Example(sentence=sentence, sentence2=None, label=label)
        for label, sentences in enumerate((BLAME, PRAISE))
        for sentence in sentences
    )
    return Task(
        name="praise",
        kind=TaskKind.CLASSIFICATION,
        label_names=("bad", "good"),
        metrics=("accuracy", "f1"),
        train=dev * num_copies,
        dev=dev,
    )


def regression_task() -> Task:
    """Pairs of sentences: 5.0 for equal ones, less for others."""
    train = tuple(
        Example(sentence=first, sentence2=second, label=5.0 if first == second else 1.5)
        for first in PRAISE[:3]
        for second in PRAISE[:3]
    )
    return Task(
        name="alike",
        kind=TaskKind.REGRESSION,
        label_names=(),
        metrics=("pearson", "spearman"),
        train=train,
        dev=train,
    )


def write_split(path: Path, *lines: str) -> None:
    """Write lines of tab-separated text."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_film_task(folder: Path) -> Path:
    """Good films against bad ones, as the TSV files of a user's own task; return the folder, made here."""
    folder.mkdir()
    for name, count in (("train", 32), ("dev", 8)):
        rows = [f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(count)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder

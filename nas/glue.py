"""What GLUE (Wang et al., arXiv 1804.07461) says of its nine tasks: columns, labels, metrics, and what it grades."""

from __future__ import annotations

from dataclasses import dataclass

NUMBERED = ("0", "1")
ENTAILED = ("entailment", "not_entailment")
STSB_RANGE = (0.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlueTask:
    """One task.

    ``hub_columns`` and ``file_columns`` name the first and the second sentence
    on the Hub and in GLUE's own files. ``labels`` are those of its files and of
    its submissions, empty for regression, and ``hub_labels`` the Hub's names
    for them, both in the order of the Hub. ``submissions`` are pairs of a file
    without labels and the name of the file GLUE grades for it.
    """

    metrics: tuple[str, ...]
    hub_columns: tuple[str, str | None]
    file_columns: tuple[str, str | None]
    label_column: str = "label"
    labels: tuple[str, ...]
    hub_labels: tuple[str, ...]
    dev_split: str = "validation"
    dev_file: str = "dev.tsv"
    submissions: tuple[tuple[str, str], ...]

    @property
    def is_regression(self) -> bool:
        """Whether the task asks for a number."""
        return not self.labels


def _graded(name: str) -> tuple[tuple[str, str], ...]:
    return (("test.tsv", f"{name}.tsv"),)


GLUE = {
    "sst2": GlueTask(
        metrics=("accuracy",),
        hub_columns=("sentence", None),
        file_columns=("sentence", None),
        labels=NUMBERED,
        hub_labels=("negative", "positive"),
        submissions=_graded("SST-2"),
    ),
    "cola": GlueTask(
        metrics=("matthews",),
        hub_columns=("sentence", None),
        file_columns=("sentence", None),
        labels=NUMBERED,
        hub_labels=("unacceptable", "acceptable"),
        submissions=_graded("CoLA"),
    ),
    "mrpc": GlueTask(
        metrics=("f1", "accuracy"),
        hub_columns=("sentence1", "sentence2"),
        file_columns=("#1 String", "#2 String"),
        label_column="Quality",
        labels=NUMBERED,
        hub_labels=("not_equivalent", "equivalent"),
        submissions=_graded("MRPC"),
    ),
    "stsb": GlueTask(
        metrics=("pearson", "spearman"),
        hub_columns=("sentence1", "sentence2"),
        file_columns=("sentence1", "sentence2"),
        label_column="score",
        labels=(),
        hub_labels=(),
        submissions=_graded("STS-B"),
    ),
    "rte": GlueTask(
        metrics=("accuracy",),
        hub_columns=("sentence1", "sentence2"),
        file_columns=("sentence1", "sentence2"),
        labels=ENTAILED,
        hub_labels=ENTAILED,
        submissions=_graded("RTE"),
    ),
    "qnli": GlueTask(
        metrics=("accuracy",),
        hub_columns=("question", "sentence"),
        file_columns=("question", "sentence"),
        labels=ENTAILED,
        hub_labels=ENTAILED,
        submissions=_graded("QNLI"),
    ),
    "qqp": GlueTask(
        metrics=("f1", "accuracy"),
        hub_columns=("question1", "question2"),
        file_columns=("question1", "question2"),
        label_column="is_duplicate",
        labels=NUMBERED,
        hub_labels=("not_duplicate", "duplicate"),
        submissions=_graded("QQP"),
    ),
    "mnli": GlueTask(
        metrics=("accuracy",),
        hub_columns=("premise", "hypothesis"),
        file_columns=("sentence1", "sentence2"),
        label_column="gold_label",
        labels=("entailment", "neutral", "contradiction"),
        hub_labels=("entailment", "neutral", "contradiction"),
        dev_split="validation_matched",
        dev_file="dev_matched.tsv",
        submissions=(("test_matched.tsv", "MNLI-m.tsv"), ("test_mismatched.tsv", "MNLI-mm.tsv")),
    ),
    "wnli": GlueTask(
        metrics=("accuracy",),
        hub_columns=("sentence1", "sentence2"),
        file_columns=("sentence1", "sentence2"),
        labels=NUMBERED,
        hub_labels=("not_entailment", "entailment"),
        submissions=_graded("WNLI"),
    ),
}

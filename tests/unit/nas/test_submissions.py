from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import TaskError
from nas.glue import GLUE
from nas.submissions import submission, submission_files, submission_name
from nas.task_files import UnlabelledRow, read_unlabelled
from tests.small_tasks import write_split

ROWS = (UnlabelledRow("7", "a", None), UnlabelledRow("9", "b", None))


@pytest.mark.parametrize(
    ("task", "predictions", "answers"),
    [
        ("sst2", ["0", "1"], ["0", "1"]),
        ("sst2", ["negative", "positive"], ["0", "1"]),
        ("cola", ["acceptable", "unacceptable"], ["1", "0"]),
        ("mrpc", ["not_equivalent", "equivalent"], ["0", "1"]),
        ("qqp", ["duplicate", "0"], ["1", "0"]),
        ("wnli", ["not_entailment", "entailment"], ["0", "1"]),
        ("rte", ["not_entailment", "entailment"], ["not_entailment", "entailment"]),
        ("qnli", ["entailment", "not_entailment"], ["entailment", "not_entailment"]),
        ("mnli", ["contradiction", "neutral"], ["contradiction", "neutral"]),
        ("stsb", [-0.2, 3.14159], ["0.000", "3.142"]),
        ("stsb", [5.0001, 4.9996], ["5.000", "5.000"]),
        ("mine", ["NUM", "LOC"], ["NUM", "LOC"]),
        ("mine", [-7.25, 1e6], ["-7.25", "1e+06"]),
    ],
)
def test_answers_are_spelled_as_glue_does(task: str, predictions: list[str | float], answers: list[str]) -> None:
    lines = submission(task, ROWS, predictions).split("\n")

    assert lines == ["index\tprediction", f"7\t{answers[0]}", f"9\t{answers[1]}", ""]


def test_a_label_that_is_none_of_glues_is_refused() -> None:
    with pytest.raises(TaskError, match=r"label '0' is none of GLUE's for 'rte' \(entailment, not_entailment\); train"):
        submission("rte", ROWS, ["0", "1"])


def test_the_names_of_glues_files() -> None:
    names = {name for task in GLUE.values() for _, name in task.submissions}

    assert names == {
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv"),
        *("QNLI.tsv", "RTE.tsv", "WNLI.tsv", "QQP.tsv"),
    }


def test_a_task_folder_gives_its_unlabelled_files(tmp_path: Path) -> None:
    for name in ("test_matched.tsv", "test_mismatched.tsv", "test.tsv"):
        write_split(tmp_path / name, "sentence", "a")

    assert submission_files("mnli", tmp_path) == [
        (tmp_path / "test.tsv", "mnli.tsv"),
        (tmp_path / "test_matched.tsv", "MNLI-m.tsv"),
        (tmp_path / "test_mismatched.tsv", "MNLI-mm.tsv"),
    ]
    assert submission_files("sst2", tmp_path) == [(tmp_path / "test.tsv", "SST-2.tsv")]
    assert submission_files("mine", tmp_path) == [(tmp_path / "test.tsv", "mine.tsv")]
    with pytest.raises(TaskError, match=r"no test_matched\.tsv or test_mismatched\.tsv or test\.tsv; name the file"):
        submission_files("mnli", tmp_path / "empty")


@pytest.mark.parametrize(
    ("task", "test", "name"),
    [
        ("rte", "anything.tsv", "RTE.tsv"),
        ("mnli", "test_mismatched.tsv", "MNLI-mm.tsv"),
        ("mnli", "test_matched.tsv", "MNLI-m.tsv"),
        ("mnli", "other.tsv", "mnli.tsv"),
        ("mine", "test.tsv", "mine.tsv"),
    ],
)
def test_a_single_file_is_answered_under_glues_name(task: str, test: str, name: str) -> None:
    assert submission_name(task, Path(test)) == name


TEST_FILES = {
    # Headers as in GLUE's download.
    "sst2": ("index\tsentence", "4\t{a}"),
    "cola": ("index\tsentence", "4\t{a}"),
    "mrpc": ("\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String", "4\t70\t71\t{a}\t{b}"),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
        "4\tmain\tMSRvid\t2012\t0001\tnone\tnone\t{a}\t{b}",
    ),
    "rte": ("index\tsentence1\tsentence2", "4\t{a}\t{b}"),
    "qnli": ("index\tquestion\tsentence", "4\t{a}\t{b}"),
    "qqp": ("id\tquestion1\tquestion2", "4\t{a}\t{b}"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2",
        "4\t1\t1n\ttravel\t( p )\t( p )\t(ROOT p)\t(ROOT p)\t{a}\t{b}",
    ),
    "wnli": ("index\tsentence1\tsentence2", "4\t{a}\t{b}"),
}


@pytest.mark.parametrize("task", TEST_FILES)
def test_the_test_files_of_glues_download_are_read(tmp_path: Path, task: str) -> None:
    header, row = TEST_FILES[task]
    write_split(tmp_path / "test.tsv", header, row.format(a='a "half quote', b="b"))
    ours = ("sentence", "x") if task in ("sst2", "cola") else ("sentence2\tsentence\tlabel", "y\tx\t?")
    write_split(tmp_path / "ours.tsv", *ours)

    second = None if task in ("sst2", "cola") else "b"
    assert read_unlabelled(tmp_path / "test.tsv", task=task) == (UnlabelledRow("4", 'a "half quote', second),)
    assert read_unlabelled(tmp_path / "ours.tsv", task=task) == (UnlabelledRow("0", "x", second and "y"),)


@pytest.mark.parametrize(
    ("task", "lines", "message"),
    [
        ("rte", ("index\tsentence", "0\ta"), r"test\.tsv:1: column 'sentence2' is missing from the header"),
        ("qnli", ("index\tsentence", "0\ta"), r"test\.tsv:1: column 'sentence2' is missing from the header"),
        ("mine", ("index\ttext", "0\ta"), r"test\.tsv:1: column 'sentence' is missing from the header"),
        ("sst2", ("index\tsentence", "0\ta", "1"), r"test\.tsv:3: 1 fields, but the header has 2"),
        ("sst2", ("index\tsentence",), r"test\.tsv: no rows after the header; there is nothing to predict"),
    ],
)
def test_a_file_that_cannot_be_predicted_is_named(
    tmp_path: Path, task: str, lines: tuple[str, ...], message: str
) -> None:
    write_split(tmp_path / "test.tsv", *lines)

    with pytest.raises(TaskError, match=message):
        read_unlabelled(tmp_path / "test.tsv", task=task)


def test_an_empty_sentence_wants_an_answer_too(tmp_path: Path) -> None:
    write_split(tmp_path / "test.tsv", "id\tquestion1\tquestion2", "0\t\tb")

    assert read_unlabelled(tmp_path / "test.tsv", task="qqp") == (UnlabelledRow("0", "", "b"),)

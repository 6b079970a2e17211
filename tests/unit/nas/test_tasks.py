from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nas.errors import MissingExtraError, TaskError
from nas.glue import GLUE
from nas.tasks import KNOWN_TASKS, TaskKind, find_task_folder, load_task, load_task_folder, task_name, task_names
from tests.small_tasks import classification_task, write_split


def test_the_embedded_task_has_its_documented_size_and_balance() -> None:
    task = load_task("embedded-subj", folder=None)

    assert (len(task.train), len(task.dev)) == (3000, 1000)
    assert task.label_names == ("objective", "subjective")
    assert sum(example.label for example in task.dev) == 508
    assert task.metrics == ("accuracy",)
    assert not {example.sentence for example in task.train} & {example.sentence for example in task.dev}


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"unknown task 'sst3' \(known: embedded-subj, sst2, .*wnli\); .*folder"):
        load_task("sst3", folder=None)


def test_a_folder_with_words_for_labels_is_a_classification(tmp_path: Path) -> None:
    _write(tmp_path / "mine", train=("sentence\tlabel", "b\tyes", "a\tno"), dev=("label\tsentence", "yes\tc"))

    task = load_task_folder(tmp_path / "mine")

    assert (task.name, task.kind, task.label_names) == ("mine", TaskKind.CLASSIFICATION, ("no", "yes"))
    assert [example.label for example in task.train] == [1, 0]
    assert (task.dev[0].sentence, task.dev[0].sentence2, task.dev[0].label) == ("c", None, 1)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("0", "1", "2"), TaskKind.CLASSIFICATION),
        (("1.0", "2.0"), TaskKind.CLASSIFICATION),
        (("0", "2.5"), TaskKind.REGRESSION),
        (("-1e-3", "4"), TaskKind.REGRESSION),
        (("0.5", "nan"), TaskKind.CLASSIFICATION),
        (("0.5", "high"), TaskKind.CLASSIFICATION),
    ],
)
def test_labels_are_numbers_only_if_one_is_not_whole(tmp_path: Path, labels: tuple[str, ...], kind: TaskKind) -> None:
    rows = ("sentence\tlabel", *(f"text\t{label}" for label in labels))
    _write(tmp_path, train=rows, dev=rows)

    assert load_task_folder(tmp_path).kind is kind


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = ("sentence\tlabel", "a\t10", "b\t9", "c\t2")
    _write(tmp_path, train=rows, dev=rows)

    assert load_task_folder(tmp_path).label_names == ("2", "9", "10")


def test_a_glue_name_decides_kind_and_metrics(tmp_path: Path) -> None:
    whole = ("sentence\tsentence2\tlabel", "a\tb\t5", "c\td\t0")
    _write(tmp_path / "stsb", train=whole, dev=whole)
    _write(tmp_path / "mrpc", train=whole, dev=whole)

    stsb, mrpc = load_task_folder(tmp_path / "stsb"), load_task("mrpc", folder=tmp_path / "mrpc")

    assert (stsb.kind, stsb.metrics, stsb.num_labels) == (TaskKind.REGRESSION, ("pearson", "spearman"), 1)
    assert stsb.train[0].sentence2 == "b"
    assert stsb.train[0].label == 5.0
    assert (mrpc.kind, mrpc.metrics, mrpc.num_labels) == (TaskKind.CLASSIFICATION, ("f1", "accuracy"), 2)


def test_windows_line_ends_and_a_byte_order_mark_are_read_over(tmp_path: Path) -> None:
    content = "\ufeffsentence\tlabel\r\none two\tx\r\nthree\ty\r\n".encode()
    (tmp_path / "train.tsv").write_bytes(content)
    (tmp_path / "dev.tsv").write_bytes(content)

    task = load_task_folder(tmp_path)

    assert task.train[0].sentence == "one two"
    assert task.label_names == ("x", "y")


def test_quotes_and_rare_line_separators_are_part_of_a_sentence(tmp_path: Path) -> None:
    rows = ("sentence\tlabel", '"half a quote\tx', "next\x85line\u2028here\ty")
    _write(tmp_path, train=rows, dev=rows)

    assert [example.sentence for example in load_task_folder(tmp_path).dev] == [
        '"half a quote',
        "next\x85line\u2028here",
    ]


GOOD = ("sentence\tlabel", "a\tx", "b\ty")


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        (None, GOOD, r"train\.tsv: no such file; a task folder holds train\.tsv and dev\.tsv"),
        (GOOD, None, r"dev\.tsv: no such file"),
        (("sentence\tlabel",), GOOD, r"train\.tsv: no rows after the header"),
        (("text\tlabel", "a\tx"), GOOD, r"train\.tsv:1: unknown column 'text' \(known: sentence, sentence2, label\)"),
        (("sentence\tsentence\tlabel",), GOOD, r"train\.tsv:1: column 'sentence' appears twice"),
        (("sentence\tsentence2", "a\tb"), GOOD, r"train\.tsv:1: column 'label' is missing from the header"),
        (("label", "x"), GOOD, r"train\.tsv:1: column 'sentence' is missing"),
        (("sentence\tlabel", "a\tx", "b"), GOOD, r"train\.tsv:3: 1 fields, but the header has 2"),
        (GOOD, ("sentence\tlabel", "a\tb\tx"), r"dev\.tsv:2: 3 fields, but the header has 2"),
        (GOOD, ("sentence\tlabel", "a\tx", " \ty"), r"dev\.tsv:3: field 'sentence' is empty"),
        (GOOD, ("sentence\tlabel", "a\tx", "b\t"), r"dev\.tsv:3: field 'label' is empty"),
        (
            GOOD,
            ("sentence\tlabel", "a\tx", "b\tz"),
            r"dev\.tsv:3: label 'z' does not occur in training \(known: x, y\)",
        ),
        (("sentence\tlabel", "a\tx"), GOOD, r"train\.tsv: every label is 'x'; .* at least two"),
        (GOOD, ("sentence\tsentence2\tlabel", "a\tb\tx"), r"dev\.tsv has a column 'sentence2' and train\.tsv has none"),
        (("sentence\tlabel", "a\t0.5"), GOOD, r"dev\.tsv:2: label 'x' of a regression task must be a finite number"),
    ],
)
def test_bad_files_are_named_with_their_line(
    tmp_path: Path, train: tuple[str, ...] | None, dev: tuple[str, ...] | None, message: str
) -> None:
    _write(tmp_path, train=train, dev=dev)

    with pytest.raises(TaskError, match=message) as caught:
        load_task_folder(tmp_path)

    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8_is_refused_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\tx\n")

    with pytest.raises(TaskError, match=r"train\.tsv: byte 18 is not UTF-8 .*; save the file as UTF-8"):
        load_task_folder(tmp_path)


def test_content_and_not_the_name_makes_the_hash() -> None:
    task = classification_task()

    assert task.content_sha256() == classification_task().content_sha256()
    assert task.content_sha256() != classification_task(num_copies=3).content_sha256()


def test_a_glue_task_without_a_folder_needs_the_extra_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(MissingExtraError, match=r"task 'sst2' .* needs the extra 'hub'; run `pip install '.*\[hub\]'`"):
        load_task("sst2", folder=None)


def test_glue_columns_and_label_names_come_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        {"premise": "it rains", "hypothesis": "it is wet", "label": 0, "idx": 0},
        {"premise": "it rains", "hypothesis": "it is dry", "label": 2, "idx": 1},
    ]
    asked = _fake_hub(monkeypatch, {"train": records, "validation_matched": records[1:]}, ["yes", "maybe", "no"])

    task = load_task("mnli", folder=None)

    assert asked == [("nyu-mll/glue", "mnli")]
    assert task.label_names == ("yes", "maybe", "no")
    assert (task.dev[0].sentence, task.dev[0].sentence2, task.dev[0].label) == ("it rains", "it is dry", 2)
    assert len(task.train) == 2


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(repository: str, name: str) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", _module(load_dataset))

    with pytest.raises(TaskError, match=r"task 'rte' cannot be fetched .*\(no route\); give a folder"):
        load_task("rte", folder=None)


GLUE_FILES = {
    # Headers as in GLUE's download; the label is the last column but where said.
    "sst2": ("sentence\tlabel", "{a}\t{label}"),
    "cola": (None, "gj04\t{label}\t*\t{a}"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t70\t71\t{a}\t{b}"),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tmain\tMSRvid\t2012\t0001\tnone\tnone\t{a}\t{b}\t{label}",
    ),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\t{a}\t{b}\t{label}"),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\t{a}\t{b}\t{label}"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "7\t1\t2\t{a}\t{b}\t{label}"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\t1\t1n\ttravel\t( p )\t( p )\t(ROOT p)\t(ROOT p)\t{a}\t{b}\tneutral\t{label}",
    ),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\t{a}\t{b}\t{label}"),
}


@pytest.mark.parametrize("name", GLUE_FILES)
def test_a_folder_in_the_layout_of_glues_download_is_read(tmp_path: Path, name: str) -> None:
    header, row = GLUE_FILES[name]
    labels = GLUE[name].labels or ("0.0", "3.8")
    texts = [{"a": f'a "quote {label}', "b": f"b {label}", "label": label} for label in labels]
    rows = [row.format(**text) for text in texts]
    lines = [header, *rows] if header else rows
    for file in ("train.tsv", GLUE[name].dev_file):
        write_split(tmp_path / file, *lines)

    task = load_task(name, folder=tmp_path)

    assert (task.label_names, task.metrics) == (GLUE[name].labels, GLUE[name].metrics)
    for split in (task.train, task.dev):
        assert [example.sentence for example in split] == [text["a"] for text in texts]
        pairs = [text["b"] for text in texts] if name not in ("sst2", "cola") else [None] * len(texts)
        assert [example.sentence2 for example in split] == pairs
        assert [example.label for example in split] == ([0.0, 3.8] if name == "stsb" else list(range(len(labels))))


@pytest.mark.parametrize(
    ("folder", "name"), [("SST-2", "sst2"), ("STS-B", "stsb"), ("CoLA", "cola"), ("MNLI", "mnli"), ("SST-3", "SST-3")]
)
def test_a_task_is_named_after_its_folder_or_the_glue_task_that_is_meant(folder: str, name: str) -> None:
    assert task_name(Path("glue") / folder) == name


def test_the_broken_rows_of_qqp_are_left_out_and_those_of_others_named(tmp_path: Path) -> None:
    header, _ = GLUE_FILES["qqp"]
    rows = ("7\t1\t2\ta\tb\t1", "8\t1\t2\tcut in the", "9\t1\t2\ta\t\t0", "10\t1\t2\tc\td\t0")
    write_split(tmp_path / "train.tsv", str(header), *rows)
    write_split(tmp_path / "dev.tsv", str(header), *rows)

    assert [example.sentence2 for example in load_task("qqp", folder=tmp_path).train] == ["b", "d"]

    write_split(tmp_path / "train.tsv", "index\tsentence1\tsentence2\tlabel", "0\ta\tb\tentailment", "1\ta")
    with pytest.raises(TaskError, match=r"train\.tsv:3: a row needs 4 fields and text in 'sentence1' and 'label'"):
        load_task("rte", folder=tmp_path)


def test_the_labels_of_a_glue_task_are_in_glues_order(tmp_path: Path) -> None:
    mnli = ("sentence\tsentence2\tlabel", *(f"a\tb\t{label}" for label in ("contradiction", "entailment", "neutral")))
    mrpc = ("sentence\tsentence2\tlabel", "a\tb\tequivalent", "a\tb\tnot_equivalent")
    _write(tmp_path / "mnli", train=mnli, dev=mnli)
    _write(tmp_path / "mrpc", train=mrpc, dev=mrpc)

    assert load_task_folder(tmp_path / "mnli").label_names == ("entailment", "neutral", "contradiction")
    # F1 is that of the class at position 1.
    assert load_task_folder(tmp_path / "mrpc").label_names == ("not_equivalent", "equivalent")


def test_a_split_of_the_hub_without_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"sentence": "it rains", "label": 0}, {"sentence": "it pours", "label": 1}]
    _fake_hub(monkeypatch, {"train": records, "validation": []}, ["negative", "positive"])

    with pytest.raises(TaskError, match="hub:sst2: split 'dev' has no rows; a split needs at least one"):
        load_task("sst2", folder=None)


def test_all_nine_glue_tasks_are_known() -> None:
    assert set(KNOWN_TASKS) == {
        "embedded-subj",
        *["sst2", "cola", "mrpc", "stsb", "rte", "qnli", "qqp", "mnli", "wnli"],
    }


def _write(folder: Path, *, train: tuple[str, ...] | None, dev: tuple[str, ...] | None) -> None:
    folder.mkdir(exist_ok=True)
    for name, lines in (("train.tsv", train), ("dev.tsv", dev)):
        if lines is not None:
            write_split(folder / name, *lines)


def _fake_hub(
    monkeypatch: pytest.MonkeyPatch, splits: dict[str, list[dict[str, Any]]], names: list[str]
) -> list[tuple[str, str]]:
    class Split(list[dict[str, Any]]):
        features = {"label": SimpleNamespace(names=names)}  # noqa: RUF012

    asked: list[tuple[str, str]] = []

    def load_dataset(repository: str, name: str) -> dict[str, Split]:
        asked.append((repository, name))
        return {split: Split(records) for split, records in splits.items()}

    monkeypatch.setitem(sys.modules, "datasets", _module(load_dataset))
    return asked


def _module(load_dataset: Any) -> ModuleType:
    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    return module


def test_names_of_several_tasks_are_split_and_glues_folders_understood() -> None:
    assert task_names("SST-2, trec,CoLA") == ("sst2", "trec", "cola")
    assert task_names("sst2") == ("sst2",)


@pytest.mark.parametrize("text", ["", "sst2,", "sst2,,trec", "trec,trec", "sst2,SST-2"])
def test_a_task_without_a_name_or_named_twice_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match=r"must be names with a comma between two, each once"):
        task_names(text)


def test_a_task_is_found_among_folders_by_its_own_name_first(tmp_path: Path) -> None:
    for name in ("MNLI", "RTE", "rte", "trec"):
        (tmp_path / name).mkdir()
    (tmp_path / "sst2").write_text("a file")

    assert find_task_folder(tmp_path, "mnli") == tmp_path / "MNLI"
    assert find_task_folder(tmp_path, "rte") == tmp_path / "rte"
    with pytest.raises(TaskError, match=r"has no folder for task 'sst2' \(folders: MNLI, RTE, rte, trec\)"):
        find_task_folder(tmp_path, "sst2")
    with pytest.raises(TaskError, match=r"trec/no: no such folder; several tasks are read from a folder that holds"):
        find_task_folder(tmp_path / "trec" / "no", "sst2")

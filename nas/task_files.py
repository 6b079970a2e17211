"""Rows of text: from tab-separated files, ours and GLUE's own, and from GLUE on the Hugging Face Hub.

Nothing here knows what a label means. `nas.tasks` turns rows into a task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from nas.errors import MissingExtraError, TaskError
from nas.glue import GLUE, GlueTask

COLUMNS = ("sentence", "sentence2", "label")
GLUE_REPOSITORY = "nyu-mll/glue"


class Row(NamedTuple):
    """One labelled sentence, or pair of sentences, and the line it came from (the first data line is 2)."""

    sentence: str
    sentence2: str | None
    label: str
    line: int


class UnlabelledRow(NamedTuple):
    """One sentence, or pair of sentences, and what its file calls it."""

    row_id: str
    sentence: str
    sentence2: str | None


def read_split(path: Path, *, task: str) -> tuple[Row, ...]:
    """Read the labelled rows of a task's file, in our layout or, for GLUE's tasks, in that of GLUE's download.

    Raises:
        TaskError: If the file is in neither layout; with file and line.
    """
    glue = GLUE.get(task)
    lines = _read_lines(path)
    if glue is not None:
        header = _glue_header(lines[0], task)
        wanted = {*glue.file_columns, glue.label_column} - {None}
        if header is not None and wanted <= set(header) and not set(header) <= set(COLUMNS):
            return _read_glue_rows(lines, header, glue, path, skip_broken=task == "qqp")
    return _read_rows(lines, path)


def read_tsv(path: Path) -> tuple[Row, ...]:
    """Read the rows of a tab-separated file.

    The file is UTF-8, has a header with the columns ``sentence``, ``label`` and
    perhaps ``sentence2`` in any order, and uses no quoting: a tab always
    separates two fields.

    Raises:
        TaskError: If the file is missing, is not UTF-8, has no rows, or its
            header or a row is not as described; with file and line.
    """
    return _read_rows(_read_lines(path), path)


def read_unlabelled(path: Path, *, task: str) -> tuple[UnlabelledRow, ...]:
    """Read rows to predict, in our layout or in that of GLUE's test files.

    A column ``index`` or ``id`` names the rows; without it they are numbered
    from 0. Other columns do not matter, and a sentence may be empty: every row
    wants an answer.

    Raises:
        TaskError: If the file has no such columns, or a row is incomplete; with file and line.
    """
    lines = _read_lines(path)
    header = lines[0].split("\t")
    first, second = GLUE[task].file_columns if task in GLUE else ("sentence", "sentence2")
    if first not in header or (second is not None and second not in header):
        is_pair = "sentence2" in header or (task in GLUE and second is not None)
        first, second = "sentence", "sentence2" if is_pair else None
    for column in (first, second):
        if column is not None and column not in header:
            raise TaskError(f"{path}:1: column {column!r} is missing from the header {header}")
    if len(lines) == 1:
        raise TaskError(f"{path}: no rows after the header; there is nothing to predict")
    name = next((column for column in ("index", "id") if column in header), None)
    rows = []
    for number, line in enumerate(lines[1:]):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise TaskError(f"{path}:{number + 2}: {len(fields)} fields, but the header has {len(header)}: {header}")
        row = dict(zip(header, fields, strict=True))
        rows.append(UnlabelledRow(row[name] if name else str(number), row[first], row[second] if second else None))
    return tuple(rows)


def _read_lines(path: Path) -> list[str]:
    """Return the header and the rows."""
    try:
        # A byte-order mark, which some spreadsheets write, is not part of the first column's name.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise TaskError(f"{path}: no such file; a task folder holds train.tsv and dev.tsv") from error
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path}: byte {error.start} is not UTF-8 ({error.reason}); save the file as UTF-8 and try again"
        ) from error
    # Only "\n" ends a row: str.splitlines would also cut sentences at the rarer Unicode separators.
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _read_rows(lines: list[str], path: Path) -> tuple[Row, ...]:
    columns = _read_header(lines[0].split("\t"), path)
    if len(lines) == 1:
        raise TaskError(f"{path}: no rows after the header; a split needs at least one")
    return tuple(_read_row(line, number, columns, path) for number, line in enumerate(lines[1:], start=2))


def _glue_header(line: str, task: str) -> list[str] | None:
    """Return the columns of a file of GLUE's, or None if it is none; CoLA's have no header."""
    fields = line.split("\t")
    if task == "cola" and len(fields) == 4:
        return ["source", "label", "mark", "sentence"] if fields[1] in GLUE["cola"].labels else None
    return fields


def _read_glue_rows(
    lines: list[str], header: list[str], glue: GlueTask, path: Path, *, skip_broken: bool
) -> tuple[Row, ...]:
    """Read rows in GLUE's layout. A few of QQP's are cut in the middle or empty; they are left out."""
    first, second = glue.file_columns
    has_header = lines[0].split("\t") == header
    rows = []
    for number, line in enumerate(lines[has_header:], start=1 + has_header):
        fields = line.split("\t")
        row = dict(zip(header, fields, strict=False))
        wanted = [row.get(column, "") for column in (first, second, glue.label_column) if column is not None]
        if len(fields) == len(header) and all(field.strip() for field in wanted):
            rows.append(Row(row[first], row[second] if second else None, row[glue.label_column].strip(), number))
        elif not skip_broken:
            raise TaskError(
                f"{path}:{number}: a row needs {len(header)} fields and text in {first!r} and {glue.label_column!r}"
            )
    if not rows:
        raise TaskError(f"{path}: no whole row; a split needs at least one")
    return tuple(rows)


def _read_header(columns: list[str], path: Path) -> list[str]:
    for column in columns:
        if column not in COLUMNS:
            raise TaskError(f"{path}:1: unknown column {column!r} (known: {', '.join(COLUMNS)})")
        if columns.count(column) > 1:
            raise TaskError(f"{path}:1: column {column!r} appears twice")
    for column in ("sentence", "label"):
        if column not in columns:
            raise TaskError(f"{path}:1: column {column!r} is missing from the header {columns}")
    return columns


def _read_row(line: str, number: int, columns: list[str], path: Path) -> Row:
    fields = line.split("\t")
    if len(fields) != len(columns):
        raise TaskError(f"{path}:{number}: {len(fields)} fields, but the header has {len(columns)}: {columns}")
    row = dict(zip(columns, fields, strict=True))
    for column, field in row.items():
        if not field.strip():
            raise TaskError(f"{path}:{number}: field {column!r} is empty")
    return Row(row["sentence"], row.get("sentence2"), row["label"].strip(), number)


def read_glue(
    name: str, *, columns: tuple[str, str | None], dev_split: str
) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[str, ...]]:
    """Fetch the training and dev rows of a GLUE task from the Hub, with its label names in order.

    Args:
        name: The task's configuration name on the Hub.
        columns: The Hub's names of the first and the second sentence.
        dev_split: The Hub's name of the split to score on.

    Returns:
        Training rows, dev rows, and the label names (empty for regression).

    Raises:
        MissingExtraError: If the ``datasets`` package is not installed.
        TaskError: If the Hub cannot be reached or does not have the task.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature=f"task {name!r} from the Hugging Face Hub", extra="hub") from error
    try:
        splits = datasets.load_dataset(GLUE_REPOSITORY, name)
    except OSError as error:
        raise TaskError(
            f"task {name!r} cannot be fetched from the Hugging Face Hub ({_first_line(error)}); "
            "give a folder with train.tsv and dev.tsv instead"
        ) from error
    label_names = tuple(getattr(splits["train"].features["label"], "names", ()))
    train, dev = (_hub_rows(splits[split], columns, label_names) for split in ("train", dev_split))
    return train, dev, label_names


def _hub_rows(split: Any, columns: tuple[str, str | None], label_names: tuple[str, ...]) -> tuple[Row, ...]:
    first, second = columns
    return tuple(
        Row(
            record[first],
            record[second] if second is not None else None,
            label_names[record["label"]] if label_names else repr(record["label"]),
            line,
        )
        for line, record in enumerate(split, start=2)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

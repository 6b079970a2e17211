"""``nas predict``: a found model's answers to texts without labels, as GLUE's server takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import print_json, stdout
from nas.cli.options import AsJson


def predict(
    model: Annotated[Path, typer.Argument(help="folder that `nas export` wrote")],
    *,
    task_dir: Annotated[Path | None, typer.Option(help="folder of the task, with test.tsv")] = None,
    test: Annotated[Path | None, typer.Option(help="one file without labels")] = None,
    to: Annotated[Path, typer.Option(help="folder for GLUE's file names, or one file ending in .tsv")],
    as_json: AsJson = False,
) -> None:
    """Predict the rows of a task's unlabelled files and write what GLUE's server takes: index, tab, prediction.

    A file has a header with ``sentence`` and perhaps ``sentence2`` and
    ``index``, or is one of GLUE's own test files.

    Example: nas predict my-model --task-dir glue/RTE --to submission
    """
    from device_lab.files import write_atomically
    from nas.errors import SettingsError
    from nas.saved_model import load
    from nas.submissions import submission, submission_files, submission_name
    from nas.task_files import read_unlabelled

    if (task_dir is None) == (test is None):
        raise SettingsError("texts come from one place; give --task-dir or --test")
    loaded = load(model)
    if test is not None:
        files = [(test, submission_name(loaded.task, test))]
    else:
        files = submission_files(loaded.task, task_dir or Path())
    is_file = to.suffix == ".tsv"
    if is_file and len(files) > 1:
        names = ", ".join(path.name for path, _ in files)
        raise SettingsError(f"{task_dir} has {len(files)} files to predict ({names}); give a folder instead of {to}")
    written = {}
    for path, name in files:
        rows = read_unlabelled(path, task=loaded.task)
        texts = [row.sentence if row.sentence2 is None else (row.sentence, row.sentence2) for row in rows]
        written[to if is_file else to / name] = submission(loaded.task, rows, loaded.predict(texts))
    for target, content in written.items():
        write_atomically(target, content)
    if as_json:
        print_json({"task": loaded.task, "files": [str(target) for target in written]})
        return
    for target, content in written.items():
        stdout.print(f"{target}: {content.count(chr(10)) - 1} predictions for {loaded.task}", markup=False)

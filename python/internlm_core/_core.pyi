"""The Rust core: typed, GIL-free entry points used by the rooms; not a public surface.

String columns are anything with `__arrow_c_stream__` or `__arrow_c_array__` (polars, pyarrow, …).
`threads=0` means all cores.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

class _ArrowStrings(Protocol):
    def __len__(self) -> int: ...

__all__ = [
    "ArrowColumn",
    "ArrowTable",
    "__version__",
    # text
    "LineRules",
    "c4_filter",
    "detect_languages",
    "json_documents",
    "json_file_documents",
    "metric_table",
    "normalise_texts",
    "spacy_words",
    "suspects_mojibake",
    "record_ids",
    "text_metrics",
    "text_rules",
    # web
    "decode_brotli",
    "decode_bytes",
    "normalise_url",
    "normalise_urls",
    "registered_domain",
    # dedup
    "DedupWork",
    "RepeatedLines",
    "RepeatedSpans",
    "candidate_probability",
    "dedup_keep_order",
    "dedup_order_keys",
    "exact_copies",
    "find_contamination",
    "find_duplicates",
    "jaccard_of_pairs",
    "minhash_band_keys",
    "minhash_signatures",
    # bpe
    "BpeStream",
    "BpeTokenizer",
    "BpeTrainer",
    # decoder
    "CpuDecoder",
    "CpuMatrix",
]

__version__: str

@final
class ArrowColumn:
    """A column to hand to `polars.Series(...)`."""

    def __len__(self) -> int: ...
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]: ...

@final
class ArrowTable:
    """A table to hand to `polars.DataFrame(...)`."""

    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> Any: ...

# --- text ---------------------------------------------------------------------------------------

def record_ids(
    sources: _ArrowStrings, urls: _ArrowStrings, texts: _ArrowStrings, threads: int = 0
) -> ArrowColumn:
    """Identity of each record: xxh3-128 of source, url and text as 32 hex digits."""

def text_metrics(
    texts: _ArrowStrings,
    langs: _ArrowStrings,
    compat: str | None = None,
    compression: bool = False,
    threads: int = 0,
) -> dict[str, npt.NDArray[Any]]: ...
def c4_filter(
    texts: _ArrowStrings,
    by_line: bool,
    remove_citations: bool,
    end_punctuation: bool,
    bounds: tuple[int, int, int],
    drops: tuple[bool, bool, bool, bool],
    threads: int = 0,
) -> tuple[ArrowColumn, ArrowColumn, npt.NDArray[np.uint32], dict[str, npt.NDArray[Any]]]:
    """Text that C4's filter keeps, reason of the drop, sentences, and lines by fate."""

def spacy_words(texts: _ArrowStrings, threads: int = 0) -> list[tuple[list[str], int]]:
    """English tokens as spaCy cuts them, of each text, blanks left out, and the number of its sentences."""

def text_rules(
    texts: _ArrowStrings,
    langs: _ArrowStrings,
    sources: _ArrowStrings,
    rules: str,
    compat: str | None = None,
    threads: int = 0,
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.uint8],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    dict[str, npt.NDArray[Any]],
]:
    """Rule number (-1: kept), profile, value, threshold by row; and the statistics."""

def metric_table() -> list[tuple[str, bool, str]]:
    """Name, whether it is a count, meaning of every statistic."""

@final
class LineRules:
    """Compiled rules about lines, from JSON."""

    def __new__(cls, json: str) -> LineRules: ...

def normalise_texts(
    texts: _ArrowStrings,
    sources: _ArrowStrings,
    form: str = "nfc",
    citations: bool = False,
    lines: LineRules | None = None,
    threads: int = 0,
) -> tuple[
    ArrowColumn,
    dict[str | int, npt.NDArray[np.uint32]],
    dict[str | int, npt.NDArray[np.uint32]],
]:
    """Repaired texts; edits and the characters they took, by kind or number of the line rule."""

def suspects_mojibake(texts: _ArrowStrings, threads: int = 0) -> npt.NDArray[np.bool_]:
    """Whether each text may hold UTF-8 that was read as another encoding."""

def detect_languages(
    texts: _ArrowStrings, threads: int = 0
) -> tuple[
    ArrowColumn,
    npt.NDArray[np.float32],
    ArrowColumn,
    npt.NDArray[np.float32],
    npt.NDArray[np.uint32],
    ArrowColumn,
    npt.NDArray[np.float32],
]:
    """Code, score, script (of Chinese) and its share by row; row, code, share of each language."""

# --- web ----------------------------------------------------------------------------------------

def decode_bytes(
    data: bytes, http_charset: str | None = None, html: bool = True
) -> tuple[str, str, int, str]:
    """Text, encoding, how many U+FFFD stand for bad bytes, and what settled the encoding."""

def decode_brotli(data: bytes, limit: int) -> bytes | None: ...
def normalise_url(url: str) -> str | None: ...
def normalise_urls(urls: _ArrowStrings) -> ArrowColumn:
    """Null where there is no web address."""

def registered_domain(url: str, private: bool = True) -> str | None: ...
def json_documents(
    parts: list[tuple[bytes, int, int]], lines: dict[str, Any], threads: int = 0
) -> ArrowTable | None:
    """Columns id, text, source, url, snapshot of the whole lines in `bytes[start:end]`, in order.

    `lines`: `text_keys` (the first of them wins), `source` and `snapshot` (for lines that name none)
    and `limit` in bytes. None where a line is longer, no JSON object with a string under one of the
    keys, or needs mending.
    """

def json_file_documents(
    path: str, start: int, size: int, lines: dict[str, Any], threads: int = 0
) -> list[tuple[ArrowTable, int, int]]:
    """The same for the lines of a plain file that begin in the `size` bytes from `start` on.

    Rows, with where their first line begins and where the line behind them does. What is missing
    before, between and behind them has a line that is as above, without an end, or can't be read.
    """

# --- dedup --------------------------------------------------------------------------------------

def find_duplicates(
    texts: _ArrowStrings,
    code: npt.NDArray[np.bool_] | None,
    rank: npt.NDArray[np.uint32],
    options: dict[str, Any],
    threads: int = 0,
) -> tuple[
    npt.NDArray[np.bool_],
    npt.NDArray[np.uint32],
    npt.NDArray[np.float64],
    tuple[int, int, int, int],
]:
    """keep, duplicate_of, jaccard by row; copies, candidates, comparisons, cut short."""

def minhash_signatures(
    texts: _ArrowStrings,
    code: npt.NDArray[np.bool_] | None,
    options: dict[str, Any],
    threads: int = 0,
) -> npt.NDArray[np.uint32]: ...
def minhash_band_keys(
    texts: _ArrowStrings,
    code: npt.NDArray[np.bool_] | None,
    options: dict[str, Any],
    threads: int = 0,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Number of shingles and halves of their hash [texts, 3]; keys [texts, bands]."""

def jaccard_of_pairs(
    left: _ArrowStrings,
    right: _ArrowStrings,
    code_left: npt.NDArray[np.bool_] | None,
    code_right: npt.NDArray[np.bool_] | None,
    options: dict[str, Any],
    threads: int = 0,
) -> npt.NDArray[np.float64]: ...

# Strings, whole numbers with which of them count, or floats with NaN for none.
_Key: TypeAlias = (
    _ArrowStrings | tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | npt.NDArray[np.float64]
)
_Keys: TypeAlias = tuple[_Key | None, _Key | None, _Key | None]

def dedup_keep_order(texts: _ArrowStrings, keys: _Keys, threads: int = 0) -> npt.NDArray[np.uint32]:
    """Rank of each row; keys: snapshot, score, id."""

def dedup_order_keys(
    texts: _ArrowStrings, keys: _Keys, threads: int = 0
) -> tuple[list[bytes], list[bytes]]:
    """Bytes that sort as ranks do, and a hash of them, 16 bytes, that names the row."""

def exact_copies(
    values: _ArrowStrings, rank: npt.NDArray[np.uint32], threads: int = 0
) -> npt.NDArray[np.uint32]:
    """Row that is kept of each row."""

@final
class RepeatedLines:
    """Pieces that several documents have: `count` all, `settle`, share by share; then `cut`."""

    def __new__(
        cls, paragraphs: bool, min_chars: int, min_documents: int, fold: bool, lists: bool
    ) -> RepeatedLines: ...
    def shares(self, text_bytes: int, memory: int) -> int:
        """Shares that the pieces of so many bytes of text are to be counted in."""

    def count(
        self,
        texts: _ArrowStrings,
        skip: npt.NDArray[np.bool_] | None,
        rank: npt.NDArray[np.uint32],
        share: int,
        shares: int,
        threads: int = 0,
    ) -> None: ...
    def settle(self, threads: int = 0) -> None: ...
    def cut(
        self,
        texts: _ArrowStrings,
        skip: npt.NDArray[np.bool_] | None,
        rank: npt.NDArray[np.uint32],
        threads: int = 0,
    ) -> tuple[ArrowColumn, npt.NDArray[np.uint32]]:
        """Edited texts of some rows, null where nothing was cut; pieces cut by row."""

@final
class RepeatedSpans:
    """Passages that stand elsewhere, by row."""

    def __new__(
        cls,
        texts: _ArrowStrings,
        rank: npt.NDArray[np.uint32],
        min_length: int,
        characters: bool,
        keep_first: bool,
        max_memory: int,
        threads: int = 0,
    ) -> RepeatedSpans: ...
    def cut(self, texts: _ArrowStrings, first: int) -> tuple[ArrowColumn, npt.NDArray[np.uint32]]:
        """Edited texts of the rows from `first` on, as `RepeatedLines.cut`."""

def find_contamination(
    items: _ArrowStrings,
    texts: _ArrowStrings,
    code: npt.NDArray[np.bool_] | None,
    options: dict[str, Any],
    min_units: int,
    threads: int = 0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Item (-1: none), overlap, Jaccard similarity by row."""

@final
class DedupWork:
    """A deduplication on disk, step by step; documents of an index come first in numbers.

    `index`: its folder, and how many documents each of its segments has.
    """

    def __new__(
        cls,
        folder: str,
        options: dict[str, Any],
        memory: int,
        corpus: int,
        index: tuple[str, list[int]] | None = None,
        threads: int = 0,
    ) -> DedupWork: ...
    @property
    def fixed(self) -> int: ...
    def signed(self) -> list[tuple[int, int]]: ...
    def firsts(self) -> list[int]: ...
    def sign(
        self,
        first: int,
        texts: _ArrowStrings,
        code: npt.NDArray[np.bool_] | None,
        keys: _Keys,
    ) -> None: ...
    def sign_signatures(self, first: int, signatures: npt.NDArray[np.uint32]) -> None: ...
    def group(self) -> int: ...
    def compared(self, first: int, rows: int) -> npt.NDArray[np.bool_]: ...
    def is_collected(self, first: int) -> bool: ...
    def collect(
        self, first: int, texts: _ArrowStrings, code: npt.NDArray[np.bool_] | None
    ) -> None: ...
    def decide(self, part: int, firsts: list[int]) -> None: ...
    def add_to(self, index: str, keep: npt.NDArray[np.bool_]) -> int: ...
    def outcome(
        self,
    ) -> tuple[
        npt.NDArray[np.bool_],
        npt.NDArray[np.uint32],
        npt.NDArray[np.float64],
        tuple[int, int, int, int],
    ]: ...

def candidate_probability(similarity: float, bands: int, rows: int) -> float: ...

# --- bpe ----------------------------------------------------------------------------------------

@final
class BpeTokenizer:
    """A loaded tokenizer. `allowed` names the special tokens that text may hold; None: all."""

    @staticmethod
    def from_hf(json: bytes, config: str | None = None, parity: bool = False) -> BpeTokenizer: ...
    @staticmethod
    def from_tiktoken(
        ranks: bytes, pattern: str, specials: list[tuple[str, int]]
    ) -> BpeTokenizer: ...
    @staticmethod
    def from_sentencepiece(model: bytes, config: str | None = None) -> BpeTokenizer: ...
    def to_hf(self) -> str: ...
    def to_tiktoken(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def n_merges(self) -> int: ...
    @property
    def around(self) -> tuple[list[int], list[int]]: ...
    def join(
        self, first: npt.NDArray[np.uint32], second: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]: ...
    @property
    def strips_space(self) -> bool: ...
    def fingerprint(self) -> str: ...
    def added(self) -> list[tuple[str, int, bool]]: ...
    def piece(self, token: int) -> bytes: ...
    def id_of(self, token: bytes) -> int | None: ...
    def count(self, text: str, allowed: list[str] | None) -> int: ...
    def find(self, text: str, names: list[str] | None) -> int | None: ...
    def encode(self, text: str, allowed: list[str] | None) -> npt.NDArray[np.uint32]: ...
    def encode_with_offsets(
        self, text: str, allowed: list[str] | None, characters: bool
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]: ...
    def encode_arrow(
        self, texts: _ArrowStrings, allowed: list[str] | None, threads: int = 0
    ) -> ArrowColumn: ...
    def encode_batch(
        self, texts: _ArrowStrings, allowed: list[str] | None, threads: int = 0
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]: ...
    def decode(self, ids: npt.NDArray[np.uint32]) -> str: ...
    def decode_bytes(self, ids: npt.NDArray[np.uint32]) -> bytes: ...

@final
class BpeStream:
    """Decodes one id at a time."""

    def __new__(cls, tokenizer: BpeTokenizer) -> BpeStream: ...
    @property
    def push(self) -> Callable[[int], str]: ...
    def flush(self) -> str: ...

@final
class BpeTrainer:
    """Counts pieces of text, then learns merges."""

    def __new__(
        cls,
        pattern: str,
        memory: int = 0,
        folder: Path | None = None,
        digits: int = 0,
        one_script: bool = False,
        runs: int | None = None,
    ) -> BpeTrainer: ...
    def add(self, texts: _ArrowStrings, threads: int = 0) -> None: ...
    def checkpoint(self) -> int: ...
    @property
    def spills(self) -> int: ...
    @property
    def n_pieces(self) -> int: ...
    @staticmethod
    def check(options: dict[str, Any]) -> None: ...
    def train(
        self,
        options: dict[str, Any],
        progress: Callable[[int], object] | None = None,
        state: Path | None = None,
    ) -> BpeTokenizer: ...

_F32: TypeAlias = npt.NDArray[np.float32]

@final
class CpuMatrix:
    """Weights `[outputs, inputs]` packed for products on a CPU; used up by a decoder."""

    @staticmethod
    def f32(weight: _F32) -> CpuMatrix: ...
    @staticmethod
    def bf16(weight: npt.NDArray[np.uint16]) -> CpuMatrix:
        """From the bits of bf16."""

    @staticmethod
    def int8(weight: npt.NDArray[np.int8], scales: _F32) -> CpuMatrix:
        """W = weight·scale, a scale for each 128 inputs: `[outputs, ceil(inputs / 128)]`."""

    @staticmethod
    def int4(weight: npt.NDArray[np.uint8], scales: _F32, zeros: _F32) -> CpuMatrix:
        """W = (weight − zero)·scale; weights 0 to 15, scales and zeros as for `int8`."""

    def product(self, x: _F32) -> _F32:
        """`x` `[rows, inputs]` times the transposed weights, flat; a row never depends on others."""

@final
class CpuDecoder:
    """InternLM2 on a CPU with a cache of `pages` pages of 16 tokens.

    Raises InferError where parts don't fit each other.
    """

    def __new__(
        cls,
        shape: tuple[int, int, int, int],
        eps: float,
        embedding: _F32 | npt.NDArray[np.uint16],
        layers: list[
            tuple[
                list[float],
                CpuMatrix,
                list[float],
                CpuMatrix,
                list[float],
                list[float],
                CpuMatrix,
                list[float],
                CpuMatrix,
                list[float],
            ]
        ],
        norm: list[float],
        head: CpuMatrix,
        cos: _F32,
        sin: _F32,
        kv: str,
        pages: int,
        threads: int,
    ) -> CpuDecoder:
        """`shape`: hidden size, key heads, query heads of each, head width.

        A layer: norm, wqkv, its bias, wo, bias, norm, w1 and w3 one after the other, bias, w2, bias.
        `embedding`, `cos` and `sin` are flat.
        """

    @property
    def weight_bytes(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    def step(
        self,
        ids: list[int],
        segments: list[tuple[int, int, list[int]]],
        wanted: list[int],
        scored: list[int],
        labels: list[int],
    ) -> list[_F32]:
        """Logits of `wanted` rows, flat; log Σ e^logit of each; log p of `labels` after `scored`.

        A segment: tokens in the cache, new tokens, pages. Raises InferError for ids, pages or rows
        that aren't there.
        """

"""The tokenizer: text to ids and back."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from internlm_core._core import BpeTokenizer
from internlm_core._files import atomic_path
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer._published import TIKTOKEN_DIGESTS, TIKTOKEN_SPECIALS
from internlm_core.tokenizer.streaming import DecodeStream

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy.typing as npt
    from typing_extensions import Self, Unpack

    from internlm_core._core import ArrowColumn

    Ids = npt.NDArray[np.uint32]
    Special = Literal["all"] | Collection[str]
    # Kind of file, its bytes, and what else it takes to load it again.
    Source = tuple[str, bytes | str, Unpack[tuple[str, ...]]]

__all__ = ["Tokenizer"]


class Tokenizer:
    """A byte-pair encoding, loaded by `from_file` or made by `train`.

    Control tokens never come from text unless a call allows them by name. Lone surrogates in a
    Python string, which no UTF-8 text can hold, are replaced by U+FFFD.
    """

    def __init__(self, core: BpeTokenizer, source: Source) -> None:
        self._core = core
        # What `pickle` needs to make it again.
        data = source[1].encode() if isinstance(source[1], str) else source[1]
        self._source = (source[0], data, *source[2:])

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        pattern: Literal["gpt2", "cl100k", "qwen", "o200k"] | None = None,
        parity: bool = False,
    ) -> Self:
        """Load a tokenizer.

        Args:
            path: A Hugging Face `tokenizer.json`, a SentencePiece `.model` (names of special tokens
                are then read from a `tokenizer_config.json` beside it too), a `.tiktoken` rank file,
                or a folder with one of the first two.
            pattern: For rank files, how text is cut; guessed from the name where it can be, and a
                file with a published name must be the published one then.
            parity: Let text merge into control tokens as the reference library does (InternLM2's
                text "<s>" becomes id 1). Off, such text stays text.

        Raises:
            TokenizerError: The file is missing, damaged, contradictory, or asks for what is not supported.
        """
        path = Path(path)
        if path.is_dir():
            names = ("tokenizer.json", "tokenizer.model")
            present = (path / name for name in names if (path / name).is_file())
            path = next(present, path / names[0])
        try:
            if path.suffix == ".tiktoken":
                return cls._from_tiktoken(path, pattern)
            config_path = path.with_name("tokenizer_config.json")
            if path.suffix == ".model":
                data = path.read_bytes()
                config = config_path.read_text("utf-8") if config_path.is_file() else None
                core = BpeTokenizer.from_sentencepiece(data, config)
                return cls(core, ("sentencepiece", data, config or ""))
            data = path.read_bytes()
            config = config_path.read_text("utf-8") if config_path.is_file() else None
            return cls._from_hf(data, config, parity)
        except OSError as error:
            raise TokenizerError(f"{path}: can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenizerError(f"{path}: is not UTF-8 text") from None
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from None

    @classmethod
    def _from_hf(cls, data: bytes, config: str | None, parity: bool) -> Self:
        core = BpeTokenizer.from_hf(data, config, parity)
        return cls(core, ("hf", data, config or "", str(int(parity))))

    @classmethod
    def _from_tiktoken(cls, path: Path, pattern: str | None) -> Self:
        ranks = path.read_bytes()
        if pattern is None:
            expected = TIKTOKEN_DIGESTS.get(path.name)
            if expected is not None and (found := hashlib.sha256(ranks).hexdigest()) != expected:
                raise TokenizerError(
                    f"SHA-256 is {found}, that of the published file {expected}: copy it anew, or "
                    "pass pattern= for a vocabulary of your own"
                )
            pattern = next((name for name in TIKTOKEN_SPECIALS if name in path.name), None)
        if pattern is None:
            raise TokenizerError(
                "a rank file does not say how text is cut; pass pattern='cl100k' or 'o200k'"
            )
        specials = list(TIKTOKEN_SPECIALS.get(pattern, {}).items())
        core = BpeTokenizer.from_tiktoken(ranks, pattern, specials)
        return cls(core, ("tiktoken", ranks, pattern))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._source,)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint[:12]!r})"

    # --- encoding ---------------------------------------------------------------------------------

    def encode(
        self,
        text: str,
        *,
        allowed_special: Special = (),
        disallowed_special: Special = (),
        add_special_tokens: bool = False,
    ) -> Ids:
        """Ids of a text, uint32 `[n]`. Ctrl-C ends it.

        Args:
            text: Any string.
            allowed_special: Names of special tokens that may be found in the text, or `"all"`; by
                default none: the text is text, whatever it spells.
            disallowed_special: Names that must not occur in the text unless allowed, or `"all"` as
                is tiktoken's default; by default none.
            add_special_tokens: Put around it what the file's template puts around a text.

        Raises:
            TokenizerError: A name that is no special token of this vocabulary, or a text that holds
                a disallowed one.
        """
        names = self._names(allowed_special)
        self._refuse([text], allowed_special, disallowed_special)
        try:
            ids = self._core.encode(text, names)
        except UnicodeEncodeError:
            ids = self._core.encode(clean_text(text), names)
        if not add_special_tokens:
            return ids
        before, after = self._core.around
        return np.concatenate([np.array(before, np.uint32), ids, np.array(after, np.uint32)])

    def encode_pair(self, first: str, second: str, *, allowed_special: Special = ()) -> Ids:
        """Ids of two texts as the file's template joins them, uint32 `[n]`."""
        texts = (self.encode(text, allowed_special=allowed_special) for text in (first, second))
        return self._core.join(*texts)

    def encode_ordinary(self, text: str) -> Ids:
        """Ids of a text without any special token, uint32 `[n]`."""
        return self.encode(text)

    def encode_with_offsets(
        self,
        text: str,
        *,
        unit: Literal["characters", "bytes"] = "characters",
        allowed_special: Special = (),
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Ids, and where in the text each comes from.

        In bytes (of UTF-8) the spans tile the text. In characters, which index the Python string, a
        token that is a part of a character has the whole of it. Where NFC changed a stretch, each of
        its tokens has the whole stretch. A lone surrogate counts as the U+FFFD that replaces it.

        Returns:
            `(ids, offsets)`: uint32 `[n]`; int64 `[n, 2]`, start and end.

        Raises:
            TokenizerError: As for `encode`; or the normalizer replaces strings of several characters.
        """
        if unit not in ("characters", "bytes"):
            raise TokenizerError(f"unit={unit!r}: expected 'characters' or 'bytes'")
        names = self._names(allowed_special)
        return self._core.encode_with_offsets(clean_text(text), names, unit == "characters")

    def encode_batch(
        self,
        texts: pl.Series | Sequence[str],
        *,
        allowed_special: Special = (),
        disallowed_special: Special = (),
        threads: int = 0,
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Ids of many texts in one array. Ctrl-C ends it.

        Args:
            texts: Strings, or any Arrow string column; null counts as empty.
            allowed_special: As for `encode`.
            disallowed_special: As for `encode`.
            threads: 0 means all cores; the result does not depend on it.

        Returns:
            `(ids, offsets)`: uint32 `[n]` and int64 `[len(texts) + 1]`; text `i` has
            `ids[offsets[i]:offsets[i + 1]]`.
        """
        column = _column(texts)
        self._refuse(column, allowed_special, disallowed_special)
        return self._core.encode_batch(column, self._names(allowed_special), threads)

    def encode_arrow(
        self,
        texts: pl.Series | Sequence[str],
        *,
        allowed_special: Special = (),
        threads: int = 0,
    ) -> ArrowColumn:
        """Ids of many texts as an Arrow list array, LargeList of uint32; null stays null.

        Its buffers are handed over as they are: `polars.Series(result)`, `pyarrow.array(result)`.
        """
        return self._core.encode_arrow(_column(texts), self._names(allowed_special), threads)

    def count(self, text: str, *, allowed_special: Special = ()) -> int:
        """Number of ids of a text; no array of them is made."""
        names = self._names(allowed_special)
        try:
            return self._core.count(text, names)
        except UnicodeEncodeError:
            return self._core.count(clean_text(text), names)

    def _refuse(self, texts: Iterable[str | None], allowed: Special, disallowed: Special) -> None:
        if isinstance(disallowed, str):
            names = set(self.special_tokens) if self._names(disallowed) is None else set()
        else:
            names = set(disallowed)
        names -= set(self.special_tokens) if self._names(allowed) is None else set(allowed)
        if not names:
            return
        for number, text in enumerate(texts):
            found = self._core.find(clean_text(text or ""), sorted(names))
            if found is not None:
                raise TokenizerError(
                    f"text {number} holds the special token {self.id_to_token(found)!r}; name it in "
                    "allowed_special to have its id, or leave it out of disallowed_special to have "
                    "it read as text"
                )

    def _names(self, allowed: Special) -> list[str] | None:
        if isinstance(allowed, str):
            if allowed != "all":
                raise TokenizerError(
                    f"allowed_special={allowed!r}: expected 'all' or a set of names"
                )
            return None
        return list(allowed)

    # --- decoding ---------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int] | Ids, *, parity: bool = False) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD, one for each maximal invalid part.

        Args:
            ids: Token ids.
            parity: Drop one leading space where the file's own decoder does so (InternLM2); by
                default nothing is lost.

        Raises:
            TokenizerError: An id is outside the vocabulary.
        """
        text = self._core.decode(_as_ids(ids))
        if parity and self._core.strips_space:
            return text.removeprefix(" ")
        return text

    def decode_bytes(self, ids: Iterable[int] | Ids) -> bytes:
        """The exact bytes of ids.

        Raises:
            TokenizerError: An id is outside the vocabulary.
        """
        return self._core.decode_bytes(_as_ids(ids))

    def stream(self) -> DecodeStream:
        """A decoder for ids that come one at a time."""
        return DecodeStream(self._core)

    # --- vocabulary -------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of ids, special and unused ones included."""
        return self._core.vocab_size

    @property
    def n_merges(self) -> int:
        """Number of merge rules."""
        return self._core.n_merges

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Name → id of the added tokens."""
        return {name: token for name, token, _ in self._core.added()}

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Ids that the file's template puts before a text (`<s>` for InternLM2)."""
        return tuple(self._core.around[0])

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        """Ids that the file's template puts after a text."""
        return tuple(self._core.around[1])

    def id_to_bytes(self, token: int) -> bytes:
        """The bytes an id stands for; for a special token its name.

        Raises:
            TokenizerError: The id is outside the vocabulary.
        """
        return self._core.piece(token)

    def id_to_token(self, token: int) -> str:
        """The text an id stands for; bytes that are no UTF-8 are shown as U+FFFD.

        Raises:
            TokenizerError: The id is outside the vocabulary.
        """
        return self.id_to_bytes(token).decode("utf-8", "replace")

    def token_to_id(self, token: str | bytes) -> int | None:
        """The id of exactly this special token, text or byte string; `None` where there is none."""
        return self._core.id_of(token.encode() if isinstance(token, str) else token)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids, as hex digits; equal for equal tokenizers."""
        return self._core.fingerprint()

    def to_json(self) -> str:
        """The vocabulary as a `tokenizer.json` with all names of special tokens in place.

        Raises:
            TokenizerError: The format can't express this vocabulary.
        """
        return self._core.to_hf()

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` (the `tokenizers` library gives the same ids) or `.tiktoken`.

        Raises:
            TokenizerError: The format can't express this vocabulary.
        """
        path = Path(path)
        if path.suffix == ".tiktoken":
            with atomic_path(path) as partial:
                partial.write_text(self._core.to_tiktoken(), "utf-8")
            return
        kind, data, rest = self._source[0], self._source[1], self._source[2:]
        config = rest[0] if kind != "tiktoken" else ""
        data = data if kind == "hf" else self._core.to_hf().encode()
        with atomic_path(path) as partial:
            partial.write_bytes(data)
        if config:
            with atomic_path(path.with_name("tokenizer_config.json")) as partial:
                partial.write_text(config, "utf-8")


def _restore(source: tuple[str, bytes, Unpack[tuple[str, ...]]]) -> Tokenizer:
    """Make a pickled tokenizer again."""
    kind, data, rest = source[0], source[1], source[2:]
    if kind == "hf":
        core = BpeTokenizer.from_hf(data, rest[0] or None, rest[1] == "1")
    elif kind == "sentencepiece":
        core = BpeTokenizer.from_sentencepiece(data, rest[0] or None)
    else:
        specials = list(TIKTOKEN_SPECIALS.get(rest[0], {}).items())
        core = BpeTokenizer.from_tiktoken(data, rest[0], specials)
    return Tokenizer(core, source)


def _column(texts: pl.Series | Sequence[str]) -> Any:
    """An Arrow column: the one given, or one of the strings."""
    if hasattr(texts, "__arrow_c_stream__") or hasattr(texts, "__arrow_c_array__"):
        return texts
    return pl.Series([clean_text(text) for text in texts], dtype=pl.String)


def clean_text(text: str) -> str:
    """The text, or with U+FFFD for lone surrogates where there are any."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _as_ids(ids: Iterable[int] | Ids) -> Ids:
    if isinstance(ids, np.ndarray) and ids.dtype == np.uint32:
        return np.ascontiguousarray(ids)
    values = ids if isinstance(ids, np.ndarray) else np.array(list(ids), dtype=np.int64)
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint32).max):
        worst = int(values.min()) if values.min() < 0 else int(values.max())
        raise TokenizerError(f"id {worst} is outside the vocabulary")
    return values.astype(np.uint32)

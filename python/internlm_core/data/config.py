"""Configuration of a pipeline run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ByteSize, Field, model_validator

from internlm_core._config import Config
from internlm_core.data.near_duplicates import DedupConfig
from internlm_core.data.readers import ReadLimits, SourceSpec
from internlm_core.data.repeat_stages import RepeatsConfig

__all__ = [
    "DedupStageConfig",
    "FilterConfig",
    "LanguageConfig",
    "NormaliseConfig",
    "PipelineConfig",
    "SourceConfig",
]


_COPIES_OF_A_RECORD = 16
"""How often a record is in memory at once, as line, text, repaired text and column, roughly."""

_PROCESS = 400 * 1024**2
"""What interpreter, libraries and the allocator's leftovers of earlier stages take, measured."""


class SourceConfig(Config):
    """Where the files of one source are, and what records are called that don't say it."""

    path: str = Field(min_length=1)
    """A file, a folder (read recursively) or a glob pattern, relative to the configuration file."""
    source: str | None = None
    """webpages, books, code, …; default: the path's own name."""
    lang: str | None = Field(None, pattern="^[a-z]{2}$")
    """ISO 639-1 code; detected when it is left out."""
    snapshot: str | None = None
    """Crawl or dump; in deduplication the newest (last in string order) wins."""
    text_key: str | None = None
    """Key or column with the text, where it is neither `text` nor `content`."""

    extraction: Literal["trafilatura", "resiliparse", "hybrid"] = "trafilatura"
    """How the main text of HTML pages is found (docs/pipeline.md compares them)."""

    def spec(self) -> SourceSpec:
        """The same for the readers."""
        return SourceSpec(**self.model_dump())


class NormaliseConfig(Config):
    """Repair of characters, white space and boilerplate lines before anything is measured."""

    enabled: bool = True
    form: Literal["nfc", "nfkc"] = "nfc"
    """Unicode normalisation; NFKC also folds width, ligatures and superscripts outside code."""
    mojibake: bool = True
    """Repair UTF-8 that was read as another encoding."""
    lines: str = "boilerplate"
    """Rules about lines that go: `boilerplate`, `c4`, `none`, or the path of a .toml file."""
    citations: bool = False
    """Take out citation marks such as `[1]`."""


class LanguageConfig(Config):
    """Detection of the language where neither record nor source names it."""

    enabled: bool = True
    keep: tuple[str, ...] = ()
    """Languages to keep; empty: all. Records of the source `code` have none and stay."""
    min_score: float = Field(0.0, ge=0, le=1)
    """Least certainty of a detected language."""


class FilterConfig(Config):
    """Heuristic rules that drop records."""

    enabled: bool = True
    preset: str = "report"
    """A rule preset of the package, or the path of a .toml file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """New bounds by reason: `gopher.word_count.min = 20`."""
    compat: bool | Literal["spacy", "blanks"] = False
    """Decide as datatrove does, over spaCy's English words (true) or those between blanks (`blanks`)
    (docs/filters.md says what is covered)."""


class DedupStageConfig(DedupConfig):
    """Near-duplicate removal over all that the rules kept."""

    enabled: bool = True
    max_memory: ByteSize | None = Field(None, ge=1_000_000)
    """Bytes to work in, where that is to be less than the run's `max_memory` leaves. A corpus of more
    is deduplicated on disk, with the same outcome."""
    index: str | None = None
    """Folder of a `DedupIndex`, made if need be: documents like one of it go, and what stays joins it.
    Relative to where the command is run."""


class PipelineConfig(Config):
    """Everything a run can be told: sources → normalise → language → filter → repeats → dedup → shards."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    normalise: NormaliseConfig = NormaliseConfig()
    language: LanguageConfig = LanguageConfig()
    filter: FilterConfig = FilterConfig()
    repeats: RepeatsConfig = RepeatsConfig()
    dedup: DedupStageConfig = DedupStageConfig()
    max_memory: ByteSize = Field(ByteSize(2 * 1024**3), ge=256 * 1024**2)
    """Most bytes of memory to take, such as "1GB", whatever the size of the corpus: batches and shards
    are made smaller where they would not fit, dedup goes to disk. With more than 2 GiB batches and
    shards stay as they are, so a run may go on with more than it began with."""
    shard_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """Bytes of text after which an output shard is closed; at most `max_memory` / 32."""
    batch_bytes: int = Field(12 * 1024 * 1024, ge=1024)
    """Bytes of input in a batch of the stages before dedup; at most `max_memory` / 160."""
    batch_rows: int = Field(8_192, ge=1)
    """Rows of a Parquet file read at once."""
    max_record_bytes: int = Field(16 * 1024 * 1024, ge=16)
    """Longest line, text file, page or Parquet text; longer ones are rejected."""
    max_expansion: float = Field(200.0, ge=1)
    """Bytes that may come out for a compressed one: beyond that a page is rejected (over 1 MiB) and a
    file ends (over 1 GiB). Text rarely reaches 20."""
    threads: int = Field(0, ge=0)
    """0: all cores. Results do not depend on it."""

    @model_validator(mode="after")
    def _records_fit(self) -> PipelineConfig:
        if self.max_record_bytes * _COPIES_OF_A_RECORD > self.max_memory:
            raise ValueError(
                f"max_record_bytes = {self.max_record_bytes:,} needs max_memory = "
                f"{self.max_record_bytes * _COPIES_OF_A_RECORD:,} at least, it is "
                f"{self.max_memory:,}; give more memory or reject shorter records"
            )
        return self

    @property
    def shard_limit(self) -> int:
        """`shard_bytes`, or less where memory is short: five kinds of shard are open at once."""
        return min(self.shard_bytes, self.max_memory // 32)

    @property
    def batch_limit(self) -> int:
        """`batch_bytes`, or less where memory is short.

        A batch is in memory as lines, columns and results; two are in work, one is being read.
        """
        return min(self.batch_bytes, self.max_memory // 160)

    @property
    def corpus_memory(self) -> int:
        """Bytes that stages over all records may take beside what the process has already."""
        return max(self.max_memory - _PROCESS, self.max_memory // 4)

    @property
    def dedup_memory(self) -> int:
        """`corpus_memory`, or less where `dedup.max_memory` is."""
        return min(self.corpus_memory, self.dedup.max_memory or self.corpus_memory)

    def bounded_repeats(self) -> RepeatsConfig:
        """`repeats`, of which no stage takes more than `corpus_memory`, unless it is told to."""
        # Passages are looked for in all texts at once, which takes three times their size.
        shares = {"lines": 1, "substrings": 3}
        bounded = {}
        for name, share in shares.items():
            stage = getattr(self.repeats, name)
            if "max_memory" not in stage.model_fields_set:
                memory = ByteSize(min(stage.max_memory, self.corpus_memory // share))
                bounded[name] = stage.model_copy(update={"max_memory": memory})
        return self.repeats.model_copy(update=bounded)

    def limits(self) -> ReadLimits:
        """The part of it that the readers need."""
        return ReadLimits(
            self.batch_limit,
            self.batch_rows,
            self.max_record_bytes,
            self.max_expansion,
            self.threads or None,
        )

    def identity(self) -> dict[str, Any]:
        """What fixes the result, as JSON values: all but the number of threads and the memory.

        Of memory counts what it makes of batches and shards.
        """
        apart: dict[str, Any] = {
            "threads": True,
            "max_memory": True,
            "dedup": {"max_memory"},
            "repeats": {"lines": {"max_memory"}, "substrings": {"max_memory"}},
        }
        if not self.repeats.enabled:
            # Runs from before there were these stages go on.
            apart["repeats"] = True
        limits = {"batch_bytes": self.batch_limit, "shard_bytes": self.shard_limit}
        return self.model_dump(mode="json", exclude=apart) | limits

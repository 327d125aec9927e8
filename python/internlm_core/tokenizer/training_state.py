"""The folder that lets an interrupted training go on.

state.json     options, how many texts are counted and a digest of them, number of files with counts
counts-NNNNN   counts of pieces (rust/bpe/src/train_counts.rs)
merging        merges and words as they are (rust/bpe/src/train_state.rs)

`state.json` is written last, so it only tells of files that are whole.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._files import folder_lock, read_json, remove_leftovers, write_json
from internlm_core.errors import TokenizerError

if TYPE_CHECKING:
    from types import TracebackType

    import polars as pl
    from typing_extensions import Self

    from internlm_core._core import BpeTrainer

__all__ = ["TrainingState"]

_FILE = "state.json"
_OURS = ("counts-", "merging")


class TrainingState:
    """State of one training, held for this process while it is entered.

    Args:
        folder: Where it is, or is to be.
        options: Everything that decides the result but the texts.
        save_every: Seconds between two updates.

    Attributes:
        runs: Number of files with counts.
        counted: Whether all texts are counted.
    """

    def __init__(self, folder: str | Path, options: dict[str, Any], save_every: float) -> None:
        self.folder = Path(folder)
        self._options, self._every = options, save_every
        self.runs, self.counted = 0, False
        self._texts, self._digest = 0, hashlib.sha256()
        self._known, self._known_digest = 0, ""
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        self._lock = folder_lock(self.folder)
        self._lock.__enter__()
        try:
            self._read()
            remove_leftovers(self.folder)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def _read(self) -> None:
        path = self.folder / _FILE
        if not path.exists():
            # Left by an interruption before the first update, or of a removal.
            ours = [p for p in self.folder.iterdir() if p.name.startswith(_OURS)]
            others = {p.name for p in self.folder.iterdir()} - {p.name for p in ours} - {".lock"}
            if others:
                raise TokenizerError(
                    f"{self.folder}: no state of a training, it has {min(others)}; give a folder of its own"
                )
            for path in ours:
                path.unlink()
            return
        try:
            found = read_json(path)
            options, runs, counted = found["options"], int(found["runs"]), bool(found["counted"])
            known, digest = int(found["texts"]), str(found["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(
                f"{path}: can't be read ({error}); remove the folder and start anew"
            ) from None
        for name, value in self._options.items():
            # As JSON has them: pairs are lists.
            wanted = [list(pair) for pair in value] if name == "script_limits" else value
            if options.get(name) != wanted:
                raise TokenizerError(
                    f"{self.folder}: a training with {name}={options.get(name)!r} was interrupted "
                    f"here, but {value!r} is asked for; give another folder, or remove this one"
                )
        self.runs, self.counted = runs, counted
        self._known, self._known_digest = known, digest

    def skips(self, column: pl.Series) -> bool:
        """Whether a column was counted before the interruption.

        Raises:
            TokenizerError: Other texts come than came then.
        """
        if self._texts >= self._known:
            return False
        self._take(column)
        if self._texts >= self._known and (
            self._texts > self._known or self._digest.hexdigest() != self._known_digest
        ):
            raise TokenizerError(
                f"{self.folder}: the first {self._known:,} texts are not those that were counted "
                "before the interruption; give the same in the same order, or remove the folder"
            )
        return True

    def _take(self, column: pl.Series) -> None:
        self._texts += len(column)
        for text in column:
            # Length first, so that where one text ends counts.
            data = b"" if text is None else text.encode()
            self._digest.update(len(data).to_bytes(8, "little"))
            self._digest.update(data)

    def add(self, trainer: BpeTrainer, column: pl.Series) -> None:
        """Note that a column was counted, and save when it is time."""
        self._take(column)
        if self.is_due():
            self._save(trainer, counted=False)

    def finish_counting(self, trainer: BpeTrainer) -> None:
        """Save that there is no more to count.

        Raises:
            TokenizerError: Fewer texts came than before the interruption.
        """
        if self._texts < self._known:
            raise TokenizerError(
                f"{self.folder}: {self._texts:,} texts, but {self._known:,} were counted before the "
                "interruption; give the same again, or remove the folder"
            )
        self._save(trainer, counted=True)

    def is_due(self) -> bool:
        """Whether the last update is long enough ago; starts the time anew if so."""
        now = time.monotonic()
        due = now - self._saved >= self._every
        if due:
            self._saved = now
        return due

    def _save(self, trainer: BpeTrainer, *, counted: bool) -> None:
        self.runs, self.counted = trainer.checkpoint(), counted
        values = {"texts": self._texts, "digest": self._digest.hexdigest(), "runs": self.runs}
        write_json(
            self.folder / _FILE, {**values, "options": self._options, "counted": self.counted}
        )
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Take the folder away: the training is done."""
        # The state first: without it the rest means nothing.
        (self.folder / _FILE).unlink()
        shutil.rmtree(self.folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, trace)

"""Which shards a run reads: one folder, a folder of folders, or a mapping by source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core.errors import TrainError
from internlm_core.tokenizer import Shard

if TYPE_CHECKING:
    from typing import TypeAlias

    ShardPaths: TypeAlias = "str | Path | Mapping[str, str | Path]"

__all__ = ["describe", "fingerprint_of", "open_sources"]

_MARK = "shard.json"


def open_sources(shards: ShardPaths) -> dict[str, list[Shard]]:
    """Open token shards by source.

    Args:
        shards: A shard folder; or a folder whose subfolders are named after their source and are
            shards or hold shards; or source → such a folder.

    Raises:
        TrainError: Nothing is there, or the shards were made with different tokenizers.
    """
    if not isinstance(shards, Mapping):
        root = Path(shards)
        shards = {root.name: root}
        if root.is_dir() and not (root / _MARK).is_file():
            shards = {p.name: p for p in sorted(root.iterdir()) if _shards_below(p)}
        if not shards:
            raise TrainError(f"{root}: no token shards there (folders with {_MARK})")
    found: dict[str, list[Shard]] = {}
    for name, path in shards.items():
        paths = _shards_below(Path(path))
        if not paths:
            raise TrainError(f"{path}: no token shards there (folders with {_MARK})")
        found[name] = [Shard.open(p) for p in paths]
    fingerprint_of(found)
    return found


def fingerprint_of(sources: Mapping[str, list[Shard]]) -> str:
    """Fingerprint of the one tokenizer that made all shards.

    Raises:
        TrainError: There are two.
    """
    first = next(iter(sources.values()))[0]
    for group in sources.values():
        for shard in group:
            if shard.fingerprint != first.fingerprint:
                raise TrainError(
                    f"{shard.path} and {first.path} were made with different tokenizers"
                    f" ({shard.fingerprint[:12]}, {first.fingerprint[:12]}); pack them again with one"
                )
    return first.fingerprint


def describe(sources: Mapping[str, list[Shard]]) -> dict[str, Any]:
    """What identifies the data of a run, for the checkpoint."""
    return {
        name: [{"tokens": int(s.n_tokens), "documents": len(s)} for s in group]
        for name, group in sources.items()
    }


def _shards_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if (path / _MARK).is_file():
        return [path]
    return sorted(p.parent for p in path.glob(f"*/{_MARK}"))

"""Copies by equal text or equal address, and near-copies of whole repositories."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core import _core
from internlm_core.data.dedup_input import keep_keys, table, text_frame
from internlm_core.data.near_duplicates import dedup
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["dedup_exact", "dedup_repositories", "dedup_urls"]


def dedup_exact(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any, *, threads: int = 0
) -> pl.DataFrame:
    """Find documents whose texts are equal byte by byte.

    Which one stays is decided as by `dedup`: newest `snapshot`, highest `score`, smallest `id`. Equal
    hashes are confirmed by the texts. An empty text or null is a copy of nothing.

    Args:
        data: As for `dedup`, but for paths.
        threads: 0 means all cores.

    Returns:
        One row a document, in input order: `id`, `cluster` (id of the document that is kept of it),
        `keep`, `duplicate_of` (null where it is kept).

    Raises:
        DataError: There is no column `text`, or it holds no strings.
    """
    frame = text_frame(data)
    return _copies(frame, frame["text"], threads)


def dedup_urls(
    data: pl.DataFrame | pl.LazyFrame | Any, *, ignore: Sequence[str] = (), threads: int = 0
) -> pl.DataFrame:
    """Find documents with one address, in the spelling of `normalise_url`; the newest stays.

    An address in two dumps is one page at two times, so `snapshot` decides first, then as for
    `dedup`. Rows without a web address are copies of nothing.

    Args:
        data: A frame with `url` and `text`, and the columns that `dedup` looks at.
        ignore: Query parameters that do not tell pages apart, such as `utm_source`. None are left
            out by default: a query often names the page.
        threads: 0 means all cores.

    Returns:
        As `dedup_exact`.

    Raises:
        DataError: There is no column `url` or `text`, or it holds no strings.
    """
    whole = table(data, ("url",))
    if whole["url"].dtype not in (pl.String, pl.Null):
        raise DataError(f"column 'url' must hold strings, it holds {whole['url'].dtype}")
    return _copies(text_frame(whole), url_keys(whole["url"], ignore), threads)


def url_keys(urls: pl.Series, ignore: Sequence[str] = ()) -> pl.Series:
    """What `dedup_urls` compares: the address in one spelling, null where there is none."""
    keys = pl.Series(_core.normalise_urls(urls.cast(pl.String)), dtype=pl.String)
    if not ignore:
        return keys
    names = frozenset(ignore)
    return keys.map_elements(lambda url: _without(url, names), return_dtype=pl.String)


def _without(url: str, names: frozenset[str]) -> str:
    """The address without these query parameters; the others keep their order and spelling."""
    front, mark, query = url.partition("?")
    left = [part for part in query.split("&") if part.partition("=")[0] not in names]
    return front + mark + "&".join(left) if any(left) else front


def _copies(frame: pl.DataFrame, values: pl.Series, threads: int) -> pl.DataFrame:
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    kept_row = pl.Series(_core.exact_copies(values, rank, threads))
    keep = kept_row == pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
    ids = frame["id"]
    return pl.DataFrame(
        {
            "id": ids,
            "cluster": ids.gather(kept_row),
            "keep": keep,
            "duplicate_of": ids.gather(kept_row.set(keep, None)),
        }
    )


def dedup_repositories(
    data: pl.DataFrame | pl.LazyFrame | Any, threshold: float = 0.7, **settings: Any
) -> pl.DataFrame:
    """Find near-copies among repositories: forks, and folders vendored as a whole.

    A repository is its files one after another in the order of `path`, compared as code: shingles
    of its lexer tokens, so that indent and layout do not count. Of copies the one stays that
    `dedup` keeps; its snapshot and score are the largest of its files.

    Args:
        data: A frame with `repo`, `path` and `text`, one row a file; optionally `snapshot`, `score`.
            Files without a `repo` are in none.
        threshold: Smallest Jaccard similarity of near-copies.
        **settings: As for `dedup`.

    Returns:
        One row a repository, in order of its name: as `dedup`, where `id` is `repo`. Its files are
        found by a join: `data.join(found.filter("keep"), left_on="repo", right_on="id", how="semi")`.

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: A column is missing, or `text` holds no strings.
    """
    whole = table(data, ("repo", "path", "text")).filter(pl.col("repo").is_not_null())
    extra = [pl.col(name).max() for name in ("snapshot", "score") if name in whole.columns]
    repeated = whole.height - whole.n_unique(["repo", "path"])
    if repeated:
        warnings.warn(f"{repeated} rows repeat the repo and path of another one", stacklevel=2)
    joined = (
        whole.sort("repo", "path", "text")
        .group_by("repo", maintain_order=True)
        .agg(pl.col("text").drop_nulls().str.join("\n"), *extra)
        .rename({"repo": "id"})
    )
    return dedup(joined, threshold, **{"unit": "code", **settings})

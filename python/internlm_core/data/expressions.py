"""Statistics as polars expressions: `pl.col("text").internlm.metric("words")`.

Importing this module registers the namespace; `internlm_core.data.metrics` imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from internlm_core.data import statistics
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from internlm_core.data.compat import Compat

__all__ = ["InternlmExpressions", "metrics"]

metrics = statistics.metrics

_COMPRESSION = "compression_ratio"


def _type(name: str) -> type[pl.DataType]:
    return pl.UInt32 if name in statistics.COUNTS else pl.Float64


@pl.api.register_expr_namespace("internlm")
class InternlmExpressions:
    """The namespace `internlm` of a polars expression over strings.

    Its expressions are elementwise: they work on lazy frames, in the streaming engine, in `filter`,
    `with_columns` and `over`. A null text counts as empty. Each expression measures the texts once;
    take `metrics()` and its fields where several statistics are wanted.
    """

    def __init__(self, expr: pl.Expr) -> None:
        self._expr = expr

    def metrics(
        self,
        lang: pl.Expr | str | None = None,
        *,
        compat: Compat = False,
        compression: bool = False,
    ) -> pl.Expr:
        """All statistics of each text, as a struct with a field each.

        Args:
            lang: ISO 639-1 code of all texts, or an expression with each text's, which chooses the
                stop words; without it stop words are not counted.
            compat: Count as datatrove 0.10 does; as in `internlm_core.data.metrics`.
            compression: With the field `compression_ratio`.
        """
        names = [name for name in statistics.METRICS if compression or name != _COMPRESSION]

        def measure(texts: pl.Series, langs: pl.Series | str | None) -> pl.Series:
            table = statistics.metrics(texts, langs, compat=compat, compression=compression)
            return table.to_struct(texts.name)

        return self._map(measure, lang, pl.Struct({name: _type(name) for name in names}))

    def metric(self, name: str, lang: pl.Expr | str | None = None) -> pl.Expr:
        """One statistic of each text.

        Args:
            name: One of `internlm_core.data.METRICS`.
            lang: As in `metrics`; needed for the statistics about stop words.

        Raises:
            ConfigError: There is no such statistic.
        """
        if name not in statistics.METRICS:
            known = ", ".join(statistics.METRICS)
            raise ConfigError(f"{name!r}: unknown statistic; expected one of {known}")

        def measure(texts: pl.Series, langs: pl.Series | str | None) -> pl.Series:
            table = statistics.metrics(texts, langs, compression=name == _COMPRESSION)
            return table[name].rename(texts.name)

        return self._map(measure, lang, _type(name)())

    def _map(
        self,
        measure: Callable[[pl.Series, pl.Series | str | None], pl.Series],
        lang: pl.Expr | str | None,
        dtype: pl.DataType,
    ) -> pl.Expr:
        if not isinstance(lang, pl.Expr):
            return self._expr.map_batches(
                lambda texts: measure(texts, lang), return_dtype=dtype, is_elementwise=True
            )

        def both(columns: pl.Series) -> pl.Series:
            texts, langs = columns.struct.unnest().get_columns()
            return measure(texts, langs.cast(pl.String))

        # A struct, and so the result, takes the name of its first field.
        pair = pl.struct(self._expr, lang.alias("__internlm_lang"))
        return pair.map_batches(both, return_dtype=dtype, is_elementwise=True)

"""The languages of texts."""

from __future__ import annotations

import orjson
import polars as pl

from internlm_core import _core

__all__ = ["add_facts", "detect_language", "language_facts"]


def detect_language(
    texts: pl.Series, *, script: bool = False, languages: bool = False, threads: int = 0
) -> pl.DataFrame:
    """Tell the language of each text by 4 KiB from all over it.

    The script decides where it can, by shares of bytes (Chinese, Japanese, Korean); between the rest
    decide the models of the crates whichlang (16 languages) and whatlang (70) and the commonest
    words of each language, of which two must agree. Code is told by a record's source, not here.

    Args:
        texts: Strings.
        script: Add the columns `script` and `script_share`.
        languages: Add the column `languages`.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        `lang`: ISO 639-1 of the language that most of the text is in, or `und` where there are too
        few letters to tell. `lang_score`: float32 from 0 to 1, an estimate of how likely that is
        right, low for few letters (docs/normalisation.md says how good it is). `script`: `Hans` or
        `Hant` for Chinese that shows which, else null; `script_share`: its share among the
        characters that show it. `languages`: the languages and their shares of the letters' bytes,
        the largest first; those above 5 % only.
    """
    langs, scores, scripts, script_shares, rows, codes, shares = _core.detect_languages(
        texts, threads
    )
    found = pl.DataFrame({"lang": pl.Series(langs), "lang_score": scores})
    if script:
        found = found.with_columns(script=pl.Series(scripts), script_share=pl.Series(script_shares))
    if languages:
        parts = pl.DataFrame({"row": rows, "lang": pl.Series(codes), "share": shares})
        lists = parts.group_by("row", maintain_order=True).agg(languages=pl.struct("lang", "share"))
        numbered = found.with_row_index("row").join(
            lists, on="row", how="left", maintain_order="left"
        )
        found = numbered.drop("row").with_columns(
            pl.col("languages").fill_null(pl.lit([], numbered.schema["languages"]))
        )
    return found


def language_facts(found: pl.DataFrame) -> pl.Series:
    """What a record's `meta` says of its languages, as JSON text; null where there is nothing to say.

    Args:
        found: With the columns that `script` and `languages` add.

    Returns:
        `{"lang_script": "Hant", "languages": {"en": 0.6, "zh": 0.4}}`: the first for Chinese, the
        second for texts in several languages.
    """
    pair = pl.format('"{}":{}', pl.element().struct[0], pl.element().struct[1].round(3))
    several = pl.concat_str(
        pl.lit('"languages":{'), pl.col("languages").list.eval(pair).list.join(","), pl.lit("}")
    )
    facts = pl.concat_str(
        pl.when(pl.col("script").is_not_null()).then(pl.format('"lang_script":"{}"', "script")),
        pl.when(pl.col("languages").list.len() > 1).then(several),
        separator=",",
        ignore_nulls=True,
    )
    whole = pl.when(facts.str.len_bytes() > 0).then(pl.concat_str(pl.lit("{"), facts, pl.lit("}")))
    return found.select(whole.alias("facts")).to_series()


def add_facts(meta: pl.Series, facts: pl.Series) -> pl.Series:
    """Join JSON objects to records' `meta`; what a record said itself stays.

    Args:
        meta: JSON objects or nulls.
        facts: JSON objects, as many.
    """
    joined = [
        new if old is None else orjson.dumps({**orjson.loads(new), **orjson.loads(old)}).decode()
        for old, new in zip(meta, facts, strict=True)
    ]
    return pl.Series("meta", joined, dtype=pl.String)

"""Records in and out, the stages, the pipeline that runs them, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data import ray, readers, spark
    from internlm_core.data.config import PipelineConfig, SourceConfig
    from internlm_core.data.contamination import ContaminationConfig, decontaminate
    from internlm_core.data.dedup_index import DedupIndex
    from internlm_core.data.exact_duplicates import dedup_exact, dedup_repositories, dedup_urls
    from internlm_core.data.extraction import Extracted, PageResult, extract_html, extract_pages
    from internlm_core.data.language import detect_language
    from internlm_core.data.near_duplicates import DedupConfig, dedup
    from internlm_core.data.near_thresholds import borderline
    from internlm_core.data.normalise import normalise_texts
    from internlm_core.data.pipeline import Pipeline, RunSummary
    from internlm_core.data.records import SCHEMA
    from internlm_core.data.repeated_text import (
        LineDedupConfig,
        SubstringConfig,
        dedup_lines,
        dedup_substrings,
    )
    from internlm_core.data.rules import filter, load_rules  # noqa: A004
    from internlm_core.data.semantic_duplicates import SemanticDedupConfig, dedup_semantic
    from internlm_core.data.statistics import METRICS, metrics
    from internlm_core.data.urls import normalise_url, registered_domain

__all__ = [
    "METRICS",
    "SCHEMA",
    "ContaminationConfig",
    "DedupConfig",
    "DedupIndex",
    "Extracted",
    "LineDedupConfig",
    "PageResult",
    "Pipeline",
    "PipelineConfig",
    "RunSummary",
    "SemanticDedupConfig",
    "SourceConfig",
    "SubstringConfig",
    "borderline",
    "decontaminate",
    "dedup",
    "dedup_exact",
    "dedup_lines",
    "dedup_repositories",
    "dedup_semantic",
    "dedup_substrings",
    "dedup_urls",
    "detect_language",
    "extract_html",
    "extract_pages",
    "filter",
    "load_rules",
    "metrics",
    "normalise_texts",
    "normalise_url",
    "ray",
    "readers",
    "registered_domain",
    "spark",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ContaminationConfig": "contamination",
        "DedupConfig": "near_duplicates",
        "DedupIndex": "dedup_index",
        "Extracted": "extraction",
        "LineDedupConfig": "repeated_text",
        "METRICS": "statistics",
        "PageResult": "extraction",
        "Pipeline": "pipeline",
        "PipelineConfig": "config",
        "RunSummary": "pipeline",
        "SCHEMA": "records",
        "SemanticDedupConfig": "semantic_duplicates",
        "SourceConfig": "config",
        "SubstringConfig": "repeated_text",
        "borderline": "near_thresholds",
        "decontaminate": "contamination",
        "dedup": "near_duplicates",
        "dedup_exact": "exact_duplicates",
        "dedup_lines": "repeated_text",
        "dedup_repositories": "exact_duplicates",
        "dedup_semantic": "semantic_duplicates",
        "dedup_substrings": "repeated_text",
        "dedup_urls": "exact_duplicates",
        "detect_language": "language",
        "extract_html": "extraction",
        "extract_pages": "extraction",
        "filter": "rules",
        "load_rules": "rules",
        "metrics": "expressions",
        "normalise_texts": "normalise",
        "normalise_url": "urls",
        "ray": None,
        "readers": None,
        "registered_domain": "urls",
        "spark": None,
    },
)

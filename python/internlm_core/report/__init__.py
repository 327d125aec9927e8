"""Drawing: charts, text blocks and self-contained HTML pages, shared by the rooms' reports.

Every function returns markup that is safe to put into a page: text from a corpus is escaped where
it enters, and a page loads nothing and runs no script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.report.bars import Segment, bar_chart, funnel
    from internlm_core.report.numbers import (
        bytes_text,
        count_of,
        count_text,
        share_text,
        short_number,
    )
    from internlm_core.report.pages import Section, page, paragraph, stack
    from internlm_core.report.plots import Line, Mark, histogram, line_chart
    from internlm_core.report.tables import Tile, table, tiles
    from internlm_core.report.texts import fold, sample, side_by_side

__all__ = [
    "Line",
    "Mark",
    "Section",
    "Segment",
    "Tile",
    "bar_chart",
    "bytes_text",
    "count_of",
    "count_text",
    "fold",
    "funnel",
    "histogram",
    "line_chart",
    "page",
    "paragraph",
    "sample",
    "share_text",
    "short_number",
    "side_by_side",
    "stack",
    "table",
    "tiles",
]

_NAMES = {
    "bars": ("Segment", "bar_chart", "funnel"),
    "numbers": ("bytes_text", "count_of", "count_text", "share_text", "short_number"),
    "pages": ("Section", "page", "paragraph", "stack"),
    "plots": ("Line", "Mark", "histogram", "line_chart"),
    "tables": ("Tile", "table", "tiles"),
    "texts": ("fold", "sample", "side_by_side"),
}
__getattr__, __dir__ = attach(
    __name__, {name: module for module, names in _NAMES.items() for name in names}
)

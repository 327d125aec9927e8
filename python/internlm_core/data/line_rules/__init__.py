"""Rules about lines: menus, notices and footers that are the site's, not the page's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data.line_rules.rules import LineRule, LineRules, load_line_rules

__all__ = ["LineRule", "LineRules", "load_line_rules"]

__getattr__, __dir__ = attach(
    __name__, {"LineRule": "rules", "LineRules": "rules", "load_line_rules": "rules"}
)

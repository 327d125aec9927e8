"""MathML without its TeX source, written as TeX."""

from __future__ import annotations

from typing import Any

__all__ = ["formula_source", "to_tex"]

_SYMBOLS = {
    "\u2061": "",
    "\u2062": " ",
    "\u2063": ",",
    "\u2212": "-",
    "\u00d7": r"\times ",
    "\u22c5": r"\cdot ",
    "\u00b1": r"\pm ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u2208": r"\in ",
    "\u2211": r"\sum ",
    "\u220f": r"\prod ",
    "\u222b": r"\int ",
    "\u221e": r"\infty ",
    "\u2192": r"\to ",
    "\u2202": r"\partial ",
    "\u2207": r"\nabla ",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
}
_GREEK = {
    chr(code): rf"\{name} "
    for code, name in zip(
        [*range(0x3B1, 0x3C2), *range(0x3C3, 0x3CA)],
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "varepsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "o",
            "pi",
            "rho",
            "sigma",
            "tau",
            "upsilon",
            "varphi",
            "chi",
            "psi",
            "omega",
        ],
        strict=True,
    )
}
_FUNCTIONS = frozenset(
    [
        "arg",
        "cos",
        "cot",
        "det",
        "dim",
        "exp",
        "gcd",
        "inf",
        "lim",
        "ln",
        "log",
        "max",
        "min",
        "sin",
        "sup",
        "tan",
    ]
)
_TABLE = str.maketrans({**_SYMBOLS, **_GREEK})
_ACCENTS = {"^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "¯": "bar", "‾": "overline",
            "→": "vec", "˙": "dot", "¨": "ddot"}  # fmt: skip


def formula_source(node: Any) -> str:
    """TeX of a `<math>` element: its annotation, its `alttext`, or its presentation converted.

    Args:
        node: The element, of the parser's tree.
    """
    for annotation in node.css("annotation"):
        if "tex" in (annotation.attributes.get("encoding") or "").lower():
            return _unwrap(annotation.text(deep=True).strip())
    alternative = (node.attributes.get("alttext") or "").strip()
    return _unwrap(alternative) if alternative else to_tex(node).strip()


def _unwrap(formula: str) -> str:
    """Without the style that MediaWiki puts around every formula, and without delimiters."""
    for head in (r"{\displaystyle", r"{\textstyle"):
        if formula.startswith(head) and formula.endswith("}"):
            formula = formula[len(head) : -1].strip()
    if formula.startswith("$") and formula.endswith("$"):
        formula = formula.strip("$")
    return formula


def to_tex(node: Any) -> str:
    """TeX of a presentation MathML element.

    Elements as in MathML Core; what is not known gives its content.
    """
    children = list(node.iter(include_text=False))
    parts = [to_tex(child) for child in children]
    tag = node.tag
    if not children:
        return _token(tag, " ".join(node.text(deep=True).split()))
    if tag == "mfrac" and len(parts) == 2:
        return rf"\frac{{{parts[0]}}}{{{parts[1]}}}"
    if tag == "msqrt":
        return rf"\sqrt{{{''.join(parts)}}}"
    if tag == "mroot" and len(parts) == 2:
        return rf"\sqrt[{parts[1]}]{{{parts[0]}}}"
    if tag in ("msup", "msub", "munder") and len(parts) == 2:
        sign = "^" if tag == "msup" else "_"
        return f"{_base(parts[0])}{sign}{{{parts[1]}}}"
    if tag == "mover" and len(parts) == 2:
        accent = _ACCENTS.get(children[1].text(deep=True).strip())
        return rf"\{accent}{{{parts[0]}}}" if accent else f"{_base(parts[0])}^{{{parts[1]}}}"
    if tag in ("msubsup", "munderover") and len(parts) == 3:
        return f"{_base(parts[0])}_{{{parts[1]}}}^{{{parts[2]}}}"
    if tag == "mtr":
        return " & ".join(parts)
    if tag == "mtable":
        return r"\begin{matrix}" + r" \\ ".join(parts) + r"\end{matrix}"
    if tag == "mfenced":
        opening = node.attributes.get("open") or "("
        closing = node.attributes.get("close") or ")"
        return f"{opening}{', '.join(parts)}{closing}"
    if tag == "semantics":
        return parts[0]
    return "".join(parts)


def _token(tag: str, text: str) -> str:
    if tag == "mtext":
        return rf"\text{{{text}}}" if text else " "
    if tag == "mspace":
        return " "
    if tag == "mi" and len(text) > 1 and text.isalpha() and text.isascii():
        return rf"\{text} " if text in _FUNCTIONS else rf"\mathrm{{{text}}}"
    return text.translate(_TABLE)


def _base(part: str) -> str:
    single = len(part) <= 1 or (part.startswith("\\") and part[1:].strip().isalpha())
    return part.strip() if single else f"{{{part}}}"

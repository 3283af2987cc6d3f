"""Numbers, times and names as the page writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

__all__ = [
    "GAP",
    "Digits",
    "clean",
    "decimal",
    "duration",
    "listed",
    "number",
    "percent",
    "plural",
    "real",
    "said",
    "score",
    "score_name",
    "short",
    "size",
    "tick",
    "title",
]

GAP = "\u202f"  # narrow no-break space: between thousands, before a unit
MINUS = "\u2212"
NAMES = {
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "f1": "F1",
    "auc": "AUC",
    "roc_auc": "ROC-AUC",
    "lr": "learning rate",
    "adjusted_rand": "adjusted Rand index",
    "calinski_harabasz": "Calinski-Harabasz",
    "davies_bouldin": "Davies-Bouldin",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def clean(value: Any) -> str:
    """Any value as text that HTML and SVG can hold: no control characters, no half of a surrogate pair."""
    text = number(value) if isinstance(value, float) else str(value)
    return _CONTROL.sub("\ufffd", text.encode("utf-8", "replace").decode())


def short(value: Any, length: int = 40) -> str:
    """The text, cut at the end with an ellipsis."""
    text = " ".join(clean(value).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def title(name: str) -> str:
    """A file's or field's name as a heading: "learning-curve" is "Learning curve"."""
    text = " ".join(re.split(r"[\s_-]+", clean(name).strip("-_ "))) or clean(name)
    return text[:1].upper() + text[1:]


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 item", "2 items"."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def real(value: Any) -> float:
    """A float; what is no number becomes NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def number(value: Any, digits: int = 4) -> str:
    """A number in as many digits as a reader wants: 61 706, 0.08123, 1.2e-5, −3."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else clean(value)
    if isinstance(value, int):
        text = f"{value:,}" if abs(value) < 10**15 else f"{value:.3e}" if abs(value) < 10**300 else "huge"
    elif math.isnan(value):
        return "–"
    elif math.isinf(value):
        text = "∞" if value > 0 else "-∞"
    elif value == int(value) and abs(value) < 1e6:
        text = f"{int(value):,}"
    else:
        text = f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}" if abs(value) < 1e9 else ""
        if not text or "e" in text:
            mantissa, _, exponent = f"{value:.3g}".partition("e")
            text = f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return text.replace(",", GAP).replace("-", MINUS)


class Digits(str):
    """A number that is text already."""

    __slots__ = ()


def decimal(value: float) -> Digits:
    """Three decimals, so that the numbers of a column can be compared; a dash for NaN."""
    return Digits(f"{value:.3f}".replace("-", MINUS) if math.isfinite(value) else "–")


def size(count: Any) -> str:
    """Bytes: "450 B", "12.3 MiB"."""
    value, unit = real(count), 0
    if not math.isfinite(value):
        return "–"
    while abs(value) >= 1024 and unit < 4:
        value, unit = value / 1024, unit + 1
    text = f"{value:.0f}" if unit == 0 or value >= 99.95 else f"{value:.1f}"
    return f"{text}{GAP}{('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}".replace("-", MINUS)


def tick(value: float) -> str:
    """A number on an axis: as short as can be."""
    size = abs(value)
    for limit, divisor, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if limit <= size < 1e12:
            return f"{value / divisor:g}{letter}".replace("-", MINUS)
    if size and not 1e-3 <= size < 1e4:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", MINUS)
    return f"{value:.6g}".replace("-", MINUS)


def percent(share: float, of: int = 100) -> str:
    """A share, with two decimals where `of` so many items can carry them."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:.{2 if of >= 1000 else 1}f}{GAP}%".replace("-", MINUS)


def duration(seconds: Any) -> str:
    """ "0.35 ms", "450 ms", "12.3 s", "3 min 20 s", "2 h 05 min"."""
    value = real(seconds)
    if not math.isfinite(value):
        return "–"
    if 0 < value < 0.00995:
        return f"{float(f'{1000 * value:.2g}'):g}{GAP}ms"
    if value < 0.9995:
        return f"{1000 * value:.0f}{GAP}ms"
    if value < 59.95:
        return f"{value:.1f}{GAP}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{GAP}min {whole % 60:02d}{GAP}s"
    minutes = round(value / 60)
    return f"{number(minutes // 60)}{GAP}h {minutes % 60:02d}{GAP}min"


def score_name(name: str) -> str:
    """The name of a score as people write it."""
    return NAMES.get(name, clean(name).replace("_", " "))


def score(name: str, value: Any, of: int = 100) -> str:
    """The value of a score: a share as per cent, anything else as a number."""
    plain = real(value)
    if "accuracy" in name and 0 <= plain <= 1:
        return percent(plain, of)
    if name in ("r2", "f1", "auc", "roc_auc", "average_precision", "adjusted_rand", "silhouette") and math.isfinite(
        plain
    ):
        return f"{plain:.3f}".replace("-", MINUS)
    return number(plain if isinstance(value, (int, float)) else value)


def said(value: Any) -> str:
    """A truth or a prediction, which may be a list."""
    if isinstance(value, (list, tuple)):
        return ", ".join(said(v) for v in value)
    return short(number(value, 3) if isinstance(value, float) else "–" if value is None else value)


def listed(names: Sequence[Any], at_most: int = 8) -> str:
    """ "a, b, c and 12 more"."""
    shown = ", ".join(short(n) for n in names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"

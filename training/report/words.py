"""Numbers as the page writes them."""

from __future__ import annotations


def count(value: int) -> str:
    return f"{value:,}"


def figure(value: float | None, digits: int = 4) -> str:
    """With so many decimals; a dash for what is not known."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """Without decimals that say nothing: a rating, a quantile."""
    return f"{value:,.6g}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %".replace("-", "−")


def beside(share: float) -> str:
    """How far something lies from what it is compared with: `share` of that below it."""
    return f"{percent(abs(share))} {'below' if share >= 0 else 'above'}"

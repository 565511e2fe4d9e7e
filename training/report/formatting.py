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
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", "−")


def beside(ours: float, theirs: float) -> str:
    """How far one error lies from another: `12.3 % below`."""
    if ours == theirs:
        return "equal to"
    where = "below" if ours < theirs else "above"
    return f"{percent(abs(ours / theirs - 1))} {where}" if theirs else where

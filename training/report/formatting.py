"""How the report writes numbers."""

from __future__ import annotations


def count(value: int) -> str:
    return f"{value:,}"


def figure(value: float | None, digits: int = 4) -> str:
    """With a fixed number of decimals; a dash for an unknown value."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """Without trailing zeros: a rating, a quantile."""
    return f"{value:,.6g}".replace("-", "−")


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", "−")


def compared(ours: float, theirs: float) -> str:
    """How one error compares with another: `12.3 % below`."""
    if ours == theirs:
        return "equal to"
    where = "below" if ours < theirs else "above"
    return f"{percent(abs(ours / theirs - 1))} {where}" if theirs else where

"""Plots of a model as inline SVG: no script, no file beside the page, a title and a description for screen readers.

Drawn from what this side received alone: the table of test rows by score, and its own coefficients. Names are escaped
here: the page takes the drawings as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["model_plots"]

_SIZE, _LEFT, _TOP, _RIGHT, _BOTTOM = 260, 46, 12, 12, 40
_BAR, _NAMES, _WIDTH = 20, 200, 520
_MOST_BARS = 60

Point = tuple[float, float]


def model_plots(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Heading and SVG of each plot there is something to draw for."""
    found = []
    table = model["metrics"].get("by_score")
    if table:
        found = [("ROC", _roc(table)), ("KS", _ks(table)), ("Calibration", _calibration(table))]
    if model["coefficients"]:
        found.append(("Coefficients", _coefficients(model["coefficients"])))
    return found


def _cumulative(table: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """Parts of all rows, of events and of the others down to each group, from the highest scores, 0 first."""
    events = sum(line["events"] for line in table)
    rows = sum(line["rows"] for line in table)
    found, seen = [(0.0, 0.0, 0.0)], [0, 0]
    for line in table:
        seen = [seen[0] + line["rows"], seen[1] + line["events"]]
        found.append((seen[0] / rows, seen[1] / max(events, 1), (seen[0] - seen[1]) / max(rows - events, 1)))
    return found


def _roc(table: Sequence[Mapping[str, Any]]) -> str:
    points = [(others, events) for _, events, others in _cumulative(table)]
    told = (
        f"Part of events found against part of others taken, at the cuts of {len(table)} groups of test rows by score."
    )
    return _chart(
        ("ROC curve", told),
        ("false positive rate", "true positive rate"),
        [_line([(0, 0), (1, 1)], "stroke-dasharray='4 4' opacity='.5'"), _line(points), _dots(points)],
    )


def _ks(table: Sequence[Mapping[str, Any]]) -> str:
    found = _cumulative(table)
    depth, events, others = max(found, key=lambda point: abs(point[1] - point[2]))
    told = (
        f"Parts of events and of others in the highest scores; they are {abs(events - others):.3f} apart at"
        f" {depth:.0%} of test rows."
    )
    lines = [
        _line([(x, y) for x, y, _ in found]),
        _line([(x, y) for x, _, y in found], "stroke-dasharray='6 3'"),
        _line([(depth, others), (depth, events)], "stroke-dasharray='2 3' opacity='.7'"),
        _dots([(x, y) for x, y, _ in found] + [(x, y) for x, _, y in found]),
    ]
    return _chart(
        ("KS curve", told), ("part of test rows, highest scores first", "events (solid), others (dashed)"), lines
    )


def _calibration(table: Sequence[Mapping[str, Any]]) -> str:
    points = [(line["predicted"], line["rate"]) for line in table if line["rows"]]
    told = f"Mean prediction and rate of events in {len(points)} groups of test rows; the dashed line is perfect."
    lines = [_line([(0, 0), (1, 1)], "stroke-dasharray='4 4' opacity='.5'"), _line(points[::-1]), _dots(points)]
    return _chart(("Calibration", told), ("mean prediction", "rate of events"), lines)


def _coefficients(coefficients: Mapping[str, float]) -> str:
    """Bars to both sides of zero, the largest first."""
    ordered = sorted(coefficients.items(), key=lambda pair: -abs(pair[1]))[:_MOST_BARS]
    most = max(abs(value) for _, value in ordered) or 1.0
    middle, half = _NAMES + (_WIDTH - _NAMES) / 2, (_WIDTH - _NAMES) / 2 - 60
    parts = []
    for place, (name, value) in enumerate(ordered):
        y, width = place * _BAR + 4, abs(value) / most * half
        start = middle - width if value < 0 else middle
        shown = name if len(name) <= 28 else name[:27] + "…"
        at, anchor = (start - 4, "end") if value < 0 else (start + width + 4, "start")
        parts.append(
            f"<text x='{_NAMES - 8}' y='{y + 11}' text-anchor='end'>{escape(shown)}</text>"
            f"<rect x='{start:.1f}' y='{y}' width='{max(width, 0.5):.1f}' height='{_BAR - 8}' class='fill'/>"
            f"<text x='{at:.1f}' y='{y + 11}' text-anchor='{anchor}'>{value:+.3f}</text>"
        )
    height = len(ordered) * _BAR + 8
    parts.append(f"<line x1='{middle}' y1='0' x2='{middle}' y2='{height}' class='axis'/>")
    told = f"Our own coefficients on the standardised scale, the largest of {len(coefficients)} first."
    return _svg(("Coefficients", told), (_WIDTH, height), parts)


def _chart(words: tuple[str, str], axes: tuple[str, str], parts: Iterable[str]) -> str:
    """A square with both axes from 0 to 1."""
    x0, y0 = _LEFT, _TOP + _SIZE
    frame = [f"<rect x='{x0}' y='{_TOP}' width='{_SIZE}' height='{_SIZE}' class='axis' fill='none'/>"]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _at((tick, tick))
        frame.append(f"<text x='{x:.1f}' y='{y0 + 15}' text-anchor='middle'>{tick:g}</text>")
        frame.append(f"<text x='{x0 - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick:g}</text>")
    frame.append(f"<text x='{x0 + _SIZE / 2}' y='{y0 + 32}' text-anchor='middle'>{escape(axes[0])}</text>")
    turned = f"transform='rotate(-90 12 {_TOP + _SIZE / 2})'"
    frame.append(f"<text x='12' y='{_TOP + _SIZE / 2}' text-anchor='middle' {turned}>{escape(axes[1])}</text>")
    return _svg(words, (_LEFT + _SIZE + _RIGHT, _TOP + _SIZE + _BOTTOM), [*frame, *parts])


def _svg(words: tuple[str, str], size: tuple[int, int], parts: Iterable[str]) -> str:
    title, told = words
    name = title.split()[0].lower()
    return (
        f"<svg viewBox='0 0 {size[0]} {size[1]}' width='{size[0]}' height='{size[1]}' class='plot' role='img'"
        f" aria-labelledby='{name}-title {name}-desc'><title id='{name}-title'>{escape(title)}</title>"
        f"<desc id='{name}-desc'>{escape(told)}</desc>{''.join(parts)}</svg>"
    )


def _at(point: Point) -> Point:
    return _LEFT + _SIZE * point[0], _TOP + _SIZE * (1 - point[1])


def _line(points: Sequence[Point], style: str = "") -> str:
    told = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_at, points))
    return f"<polyline points='{told}' class='line' {style}/>"


def _dots(points: Sequence[Point]) -> str:
    return "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' class='fill'/>" for x, y in map(_at, points))

"""Small charts as SVG, drawn here: no script, no library, and nothing that a strict CSP minds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trubrics_instrument.collector.figures import Series

WIDTH = 300
HEIGHT = 72
_GAP = 0.18
_LEAST_BAR = 1.5
_SVG = Markup(
    '<svg class="chart" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
    'aria-label="{label}">{marks}</svg>'
)
_BAR = Markup('<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" rx="1"/>')
_HOVER = Markup(
    '<rect class="hover" x="{x:.2f}" y="0" width="{width:.2f}" height="{height}">'
    "<title>{title}</title></rect>"
)
_LINE = Markup('<polyline class="{name}" points="{points}"/>')
_DOT = Markup('<line class="{name} dot" x1="{x:.2f}" y1="{y:.2f}" x2="{x:.2f}" y2="{y:.2f}"/>')


def bars(
    label: str, series: Series, periods: Sequence[str], write: Callable[[float | None], str]
) -> Markup:
    """Draw one value a period as bars."""
    top = _top([series])
    step = WIDTH / len(periods)
    marks = Markup()
    for index, value in enumerate(series.values):
        if not value:
            continue
        height = max(value / top * (HEIGHT - 2), _LEAST_BAR)
        marks += _BAR.format(
            x=(index + _GAP / 2) * step,
            y=HEIGHT - height,
            width=step * (1 - _GAP),
            height=height,
        )
    titles = [
        f"{_name(period)}: {write(value)}"
        for period, value in zip(periods, series.values, strict=True)
    ]
    return _svg(_summary(label, [series], periods, write), marks + _hovers(titles))


def lines(
    label: str,
    named: Sequence[tuple[str, str, Series]],
    periods: Sequence[str],
    write: Callable[[float | None], str],
) -> Markup:
    """Draw several series as lines; a gap is where there is nothing to measure.

    Args:
        label: What is drawn.
        named: Each series with its CSS class and its words.
        periods: The names of the periods.
        write: How a value is written.
    """
    every = [series for _, _, series in named]
    top = _top(every)
    marks = Markup().join(_line(name, series, top) for name, _, series in named)
    titles = [
        f"{_name(period)}: "
        + ", ".join(f"{words} {write(series.values[index])}" for _, words, series in named)
        for index, period in enumerate(periods)
    ]
    return _svg(_summary(label, every[:1], periods, write), marks + _hovers(titles))


def _line(name: str, series: Series, top: float) -> Markup:
    step = WIDTH / len(series.values)
    parts: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(series.values):
        if value is None:
            parts.append([])
            continue
        parts[-1].append(((index + 0.5) * step, HEIGHT - 1 - value / top * (HEIGHT - 3)))
    marks = Markup()
    for part in parts:
        if len(part) == 1:
            marks += _DOT.format(name=name, x=part[0][0], y=part[0][1])
        elif part:
            marks += _LINE.format(name=name, points=" ".join(f"{x:.2f},{y:.2f}" for x, y in part))
    return marks


def _hovers(titles: Sequence[str]) -> Markup:
    """The whole height of a period tells its value, so that one need not hit a thin bar."""
    step = WIDTH / len(titles)
    return Markup().join(
        _HOVER.format(x=index * step, width=step, height=HEIGHT, title=title)
        for index, title in enumerate(titles)
    )


def _svg(label: str, marks: Markup) -> Markup:
    return _SVG.format(width=WIDTH, height=HEIGHT, label=label, marks=marks)


def _top(every: Sequence[Series]) -> float:
    values = [value for series in every for value in series.values if value]
    return max(values, default=1.0)


def _name(period: str) -> str:
    return f"{period[:10]} {period[11:]}:00" if "T" in period else period


def _summary(
    label: str,
    every: Sequence[Series],
    periods: Sequence[str],
    write: Callable[[float | None], str],
) -> str:
    values = [value for series in every for value in series.values if value is not None]
    return (
        f"{label}, {_name(periods[0])} to {_name(periods[-1])}: "
        f"at most {write(max(values, default=None))}, at last {write(every[0].values[-1])}"
    )

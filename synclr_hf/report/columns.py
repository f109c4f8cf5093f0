"""Histograms as inline SVG, in the colours of the page."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from synclr_hf.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number_text, ticks

MOST_COLUMNS = 36


def histogram_svg(counts: Mapping[int, int], *, title: str, divisor: int = 1) -> Markup:
    """Draw how often each whole number comes, as shares in percent; a wide range is put into bins.

    Args:
        counts: number -> how often, not empty.
        title: what is shown, for readers who do not see.
        divisor: numbers on the axis are divided by it.
    """
    low, high = min(counts), max(counts)
    width = -(-(high - low + 1) // MOST_COLUMNS)
    total = sum(counts.values())
    shares: dict[int, float] = {}
    for number, count in counts.items():
        column = (number - low) // width
        shares[column] = shares.get(column, 0.0) + 100 * count / total
    columns, top = (high - low) // width + 1, max(shares.values()) * 1.06
    room = max(columns, 8)  # few columns stay narrow, in the middle
    step = (WIDTH - LEFT - RIGHT) / room
    first = LEFT + (room - columns) / 2 * step

    def x(number: float) -> float:
        return round(first + ((number - low) / width + 0.5 / width) * step, 1)

    def y(share: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share / top, 1)

    parts = []
    for tick in ticks(0, top):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5}" text-anchor="end">{number_text(tick)}</text>'
        )
    for tick in ticks(low / divisor, high / divisor):
        text = number_text(tick)
        parts.append(f'<text class="tick" x="{x(tick * divisor)}" y="{HEIGHT - 7}" text-anchor="middle">{text}</text>')
    for column, share in sorted(shares.items()):
        left, height = round(first + (column + 0.06) * step, 1), round(y(0) - y(share), 1)
        parts.append(
            f'<rect class="column" x="{left}" y="{y(share)}" width="{round(0.88 * step, 1)}" height="{height}"/>'
        )
    label = f"{title}: {number_text(low / divisor)} to {number_text(high / divisor)}, shares in percent"
    return Markup(
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )

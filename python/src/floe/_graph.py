"""The stages of a query as a picture, SVG without any tool; and as text or DOT, where nobody knows more of them than a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floe import _html
from floe._report import Stage

#: The size of a picture that Polars Cloud takes where none is given.
FIGURE = (16.0, 12.0)
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 250, 62, 30, 46, 12


def svg(stages: Mapping[int, Stage]) -> str:
    """The graph, sources at the top, each stage below those that it reads.

    >>> svg({0: Stage(0, "scan"), 1: Stage(1, "sort", deps=(0,))}).count("<rect")
    2
    """
    levels = _levels(stages)
    rows: dict[int, list[int]] = {}
    for id in sorted(stages):
        rows.setdefault(levels[id], []).append(id)
    widest = max((len(row) for row in rows.values()), default=1)
    width = 2 * _MARGIN + widest * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(len(rows), 1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    at: dict[int, tuple[float, float]] = {}
    for level, ids in rows.items():
        left = (width - len(ids) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for place, id in enumerate(ids):
            at[id] = (left + place * (_WIDTH + _GAP_X), _MARGIN + level * (_HEIGHT + _GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" role="img" aria-label="stages of the query">',
        '<defs><marker id="floe-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#888"/></marker></defs>',
    ]
    for id, stage in stages.items():
        x, y = at[id]
        for dep in stage.deps:
            if dep in at:
                from_x, from_y = at[dep][0] + _WIDTH / 2, at[dep][1] + _HEIGHT
                to_x, middle = x + _WIDTH / 2, (from_y + y) / 2
                path = f"M{from_x} {from_y}C{from_x} {middle} {to_x} {middle} {to_x} {y}"
                parts.append(f'<path d="{path}" fill="none" stroke="#888" marker-end="url(#floe-arrow)"/>')
    parts += [_box(stage, *at[id]) for id, stage in stages.items()]
    return "".join([*parts, "</svg>"])


def text(stages: Mapping[int, Stage], single_worker: Sequence[str]) -> str:
    """The stages as `floe explain` shows those of a status."""
    lines = []
    for id in sorted(stages):
        stage = stages[id]
        lines.append(f"stage {id}: {stage.label}")
        lines += [f"  <- stage {dep}" for dep in stage.deps]
        lines.append("  -> " + ", ".join(_amounts(stage)))
    if single_worker:
        lines += ["on one worker:", *(f"  {one}" for one in single_worker)]
    return "\n".join(lines)


def dot(stages: Mapping[int, Stage]) -> str:
    """The same in Graphviz' language.

    >>> print(dot({0: Stage(0, "scan", tasks_total=1), 1: Stage(1, "sort", deps=(0,))}).splitlines()[-2])
      s0 -> s1;
    """
    lines = ["digraph query {", "  rankdir=BT;", '  node [shape=box, fontname="monospace"];']
    for id in sorted(stages):
        stage = stages[id]
        label = "".join(
            part.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + "\\l"
            for part in (f"stage {id}: {stage.label}", ", ".join(_amounts(stage)))
        )
        lines.append(f'  s{id} [label="{label}"];')
        lines += [f"  s{dep} -> s{id};" for dep in stage.deps]
    return "\n".join([*lines, "}"])


def _amounts(stage: Stage) -> list[str]:
    return [_html.count(stage.tasks_total, "task"), _html.count(stage.rows, "row"), _html.size(stage.bytes)]


def _box(stage: Stage, x: float, y: float) -> str:
    lines = _wrap(f"{stage.id}: {stage.label}", 40, 2)
    facts = []
    if stage.tasks_total:
        facts.append(f"{stage.tasks_total} tasks")
    if stage.state == "done":
        facts += [f"{stage.rows:,} rows", _html.size(stage.bytes)]
        if stage.elapsed_ms is not None:
            facts.append(f"{stage.elapsed_ms / 1000:.2f} s")
    text = "".join(
        f'<text x="{x + 10}" y="{y + 18 + 14 * at}" fill="#222">{_html.text(line)}</text>'
        for at, line in enumerate(lines)
    )
    return (
        f'<g><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" '
        f'stroke="{_html.color(stage.state)}" stroke-width="1.5"/>{text}'
        f'<text x="{x + 10}" y="{y + _HEIGHT - 9}" fill="#777">{_html.text(", ".join(facts))}</text></g>'
    )


def _levels(stages: Mapping[int, Stage]) -> dict[int, int]:
    """How far below the sources each stage is. Stages have higher numbers than those that they read."""
    levels: dict[int, int] = {}
    for id in sorted(stages):
        levels[id] = max((levels[dep] + 1 for dep in stages[id].deps if dep in levels), default=0)
    return levels


def _wrap(text: str, width: int, most: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: width - 1] + "…"]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]

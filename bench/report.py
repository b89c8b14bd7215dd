"""Tables and plots of measured ratios: what `bench.run` prints and what bench/results/ holds."""

from __future__ import annotations

import json
import math
import pathlib
import platform
import statistics
import subprocess


def revision() -> str:
    """The commit of this checkout, with `-dirty` when files other than results differ from it."""

    def git(*command: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *command], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)

    try:
        commit = git("rev-parse", "--short", "HEAD").stdout.strip()
        differs = commit and git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)bench/results").returncode != 0
    except OSError:
        return "unknown"
    return f"{commit}-dirty" if differs else commit or "unknown"


def machine() -> dict[str, str]:
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    import os

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": model,
        "cpus": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "revision": revision(),
    }


def best(seconds: list[float]) -> float:
    return min(seconds)


def table(results: dict) -> str:
    """One line a query: the best time of each engine, and Floe's over each of the others'; how long Floe planned, if known."""
    engines, base = results["engines"], results["measured"]
    others = [name for name in engines if name != base]
    planned = all("planning" in entry for entry in results["queries"].values())
    head = ["query", *engines, *(f"÷ {name}" for name in others), *(["of it planning"] if planned else []), "stages", "shuffled MB", "rows"]
    rows = [head, ["---:"] * len(head)]
    for query, entry in results["queries"].items():
        times = {name: best(entry["seconds"][name]) for name in engines}
        rows.append(
            [
                f"q{query}",
                *(f"{times[name] * 1000:.0f} ms" for name in engines),
                *(f"{times[base] / times[name]:.2f}" for name in others),
                *([f"{entry['planning'][base] * 1000:.0f} ms"] if planned else []),
                str(entry.get("stages", "")),
                f"{entry.get('bytes_shuffled', 0) / 1e6:.1f}",
                str(entry["rows"]),
            ]
        )
    sums = {name: sum(best(entry["seconds"][name]) for entry in results["queries"].values()) for name in engines}
    rows.append(
        [
            "**total**",
            *(f"{sums[name]:.2f} s" for name in engines),
            *(f"**{sums[base] / sums[name]:.2f}**" for name in others),
            *([f"{sum(entry['planning'][base] for entry in results['queries'].values()):.2f} s"] if planned else []),
            "",
            f"{sum(e.get('bytes_shuffled', 0) for e in results['queries'].values()) / 1e6:.1f}",
            "",
        ]
    )
    geo = []
    for name in others:
        ratios = [best(e["seconds"][base]) / best(e["seconds"][name]) for e in results["queries"].values()]
        geo.append(f"{math.exp(statistics.fmean(map(math.log, ratios))):.2f}")
    rows.append(["geometric mean", *([""] * len(engines)), *geo, *([""] * (4 if planned else 3))])
    width = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(head))]
    return "\n".join("| " + " | ".join(cell.rjust(width[i]) for i, cell in enumerate(row)) + " |" for row in rows)


def planning(results: dict) -> str:
    """The time that each engine takes to plan, in all, and in the query where it takes longest; of results that have it."""
    lines = []
    for name in results["engines"]:
        times = {query: entry["planning"][name] for query, entry in results["queries"].items()}
        slowest = max(times, key=times.get)
        lines.append(f"Planning, {name}: {sum(times.values()) * 1000:.0f} ms in all, at most {times[slowest] * 1000:.0f} ms (q{slowest})")
    return "\n".join(lines)


def plot(results: dict, path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    engines, base = results["engines"], results["measured"]
    queries = list(results["queries"])
    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 6.5), sharex=True, height_ratios=[3, 2])
    width = 0.8 / len(engines)
    for place, name in enumerate(engines):
        at = [i + (place - (len(engines) - 1) / 2) * width for i in range(len(queries))]
        above.bar(at, [best(results["queries"][q]["seconds"][name]) for q in queries], width, label=name)
    above.set_ylabel("seconds (best)")
    above.legend(frameon=False)
    above.set_title(results["title"], loc="left")
    for name in engines:
        if name != base:
            ratios = [best(e["seconds"][base]) / best(e["seconds"][name]) for e in results["queries"].values()]
            below.plot(range(len(queries)), ratios, "o-", label=f"{base} ÷ {name}", linewidth=1)
    below.axhline(1.0, color="black", linewidth=0.8)
    below.axhline(2.0, color="black", linewidth=0.8, linestyle=":")
    below.set_ylabel("ratio")
    below.set_ylim(bottom=0)
    below.set_xticks(range(len(queries)), [f"q{q}" for q in queries])
    below.legend(frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def save(results: dict, directory: pathlib.Path, name: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    about = results["machine"]
    text = [
        f"# {results['title']}",
        "",
        f"{about['cpu']}, {about['cpus']} CPUs, {about['memory']}, {about['system']}; revision {about['revision']};"
        f" {results['date']}; best of {results['repeats']} runs each, in turn; every result compared with the first engine's.",
        "",
        table(results),
        "",
        *([planning(results).replace("\n", "  \n"), ""] if "planning" in next(iter(results["queries"].values())) else []),
        f"![times and ratios]({name}.svg)",
        "",
    ]
    (directory / f"{name}.md").write_text("\n".join(text))
    plot(results, directory / f"{name}.svg")

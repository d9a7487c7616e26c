"""`python -m perf.plot`: the newest ratios as a picture, `results/ratios.png`. Measures nothing."""

from __future__ import annotations

from typing import Any

from perf import history
from perf.workloads import WORKLOADS

OURS, MISSED, PALE, INK = "#2a6f97", "#c1440e", "#a9c7d9", "#333333"


def main() -> None:
    table = history.merged(history.records())
    path = history.RESULTS / "ratios.png"
    draw(table, str(path))
    print(path)


def draw(table: dict[str, Any], path: str) -> None:
    """Bars: the best other's time by ours, on a logarithmic axis; a tick where the target is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [
        (name, w.mode) for name, w in WORKLOADS.items() if w.mode in table["ratios"].get(name, {})
    ]
    entries = [table["ratios"][name][mode] for name, mode in rows]
    figure, axes = pyplot.subplots(figsize=(8, 0.32 * len(rows) + 1.4), layout="constrained")
    for place, ((name, _), entry) in enumerate(zip(rows, entries, strict=True)):
        below = entry["target"] is not None and entry["ratio"] < entry["target"]
        colour = PALE if entry["disturbed"] else MISSED if below else OURS
        axes.barh(place, entry["ratio"] - 1, left=1, height=0.6, color=colour)
        if entry["target"] is not None:
            axes.plot([entry["target"]] * 2, [place - 0.4, place + 0.4], color=INK, lw=2)
        eager = table["ratios"][name].get("autojit-eager")
        if eager is not None:
            axes.plot(eager["ratio"], place, "o", ms=4, mfc="white", mec=INK)
        mark = "~" * entry["published"]
        axes.text(
            1.005,
            place,
            f"{entry['ratio']:.2f}  {entry['rival']}{mark}",
            va="center",
            fontsize=8,
            transform=axes.get_yaxis_transform(),
        )
    axes.set_yticks(
        range(len(rows)), [n + " (bound)" * (m == "autojit-bound") for n, m in rows], fontsize=9
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color=INK, lw=0.8)
    axes.set_xlabel(
        "fastest other's time by ours; | target; ○ eager against torch eager", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    main()

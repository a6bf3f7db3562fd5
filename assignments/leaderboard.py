"""The leaderboard of problem set 6: accuracy against budget, as a table and as a picture.

Each line was measured while the submission was graded. It rests on NumPy and matplotlib, and on
ngs.figures for the style.
"""

import csv
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from ngs.figures import use_style

HERE = Path(__file__).resolve().parent


def entries() -> list[dict]:
    """Return the lines of all graded submissions, the best first."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((HERE / "autograded").glob("*/ps6/leaderboard.json"))
    ]
    return sorted(found, key=lambda entry: -entry["full"])


def main() -> None:
    """Print the table; write leaderboard.csv and leaderboard.png."""
    found = entries()
    if not found:
        sys.exit("no graded submission of ps6 has a line: run 'python grade.py ps6' first")
    print(f"{'':>3} {'nickname':40} {'10 billion':>10} {'60 billion':>10}")
    for place, entry in enumerate(found, start=1):
        sixth, full = (f"{100 * entry[key]:.1f} %" for key in ("sixth", "full"))
        print(f"{place:3} {entry['nickname']:40} {sixth:>10} {full:>10}")
    with (HERE / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["nickname", "dataset", "sixth", "full", "seconds"])
        table.writeheader()
        table.writerows(found)
    use_style()
    figure, axis = plt.subplots(figsize=(7.0, 4.2))
    for entry in found[:10]:
        shares = [100 * entry["sixth"], 100 * entry["full"]]
        axis.plot([10, 60], shares, "o-", label=entry["nickname"])
    axis.set_xscale("log")
    axis.set_xticks([10, 60], ["10", "60"])
    axis.minorticks_off()
    axis.set(xlabel="budget (billion multiply-adds)", ylabel=f"accuracy, {found[0]['dataset']} (%)")
    axis.legend(fontsize=8)
    figure.savefig(HERE / "leaderboard.png")
    print("written: leaderboard.csv, leaderboard.png")


if __name__ == "__main__":
    main()

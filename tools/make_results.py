"""Write the appendix "Results and how they were measured" from the records in ``results/``.

A file of records that has no description here is an error. The functions are used by
tests/test_results_page.py too.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/results.md"

Record = dict[str, Any]


class Study(NamedTuple):
    """What a file of records is: its title, the chapters that read it, and what it holds.

    One that no chapter reads is read in an appendix, the execution statistics.
    """

    title: str
    read_in: tuple[str, ...]
    text: str


STUDIES = {
    "cifar10_data": Study(
        "CIFAR-10 itself",
        ("ch-cifar10", "ch-convnet", "ch-claims"),
        "Number of images of each class, mean and standard deviation by channel, after every file "
        "matched its official md5.",
    ),
    "last_batch": Study(
        "A last batch of 16 images",
        ("ch-cifar10",),
        "10,000 images in batches of 256, the last one of 16, and 9,984 images in batches of 256, "
        "on reduced CIFAR-10. Made before `ngs` cut an epoch into batches of nearly equal size.",
    ),
    "cifar10_convnet": Study(
        "The ConvNet in full",
        ("ch-convnet", "ch-fast", "ch-claims"),
        "The article's network on all 50,000 training images: once as `ngs` trains it, once with "
        "the article's own settings.",
    ),
    "convnet_tuning": Study(
        "The ConvNet's learning rates",
        ("ch-convnet",),
        "Three epochs on 10,000 images, for each of two optimizers and five learning rates.",
    ),
    "convnet_race": Study(
        "Ten epochs, three settings",
        ("ch-convnet", "ch-claims"),
        "The ConvNet with batch normalisation on 45,000 images, one seed each: the tutorial's "
        "setting, torch's Nesterov form and NGS.",
    ),
    "cifar10_fast": Study(
        "The fast network on all images",
        ("ch-fast",),
        "The preset `fast` and the published recipe, one after the other on two quiet cores, three "
        "seeds each.",
    ),
    "fast_choice": Study(
        "Seven fast recipes",
        ("ch-fast",),
        "The runs by which the preset `fast` was chosen, and one that was tried after it, with "
        "5,000 training images held out, one seed each. (The field `low_epochs` became the setting "
        "`low-share`.)",
    ),
    "golden": Study(
        "The golden trajectories, in every framework",
        ("ch-frameworks",),
        "The largest relative deviation of each implementation from `tests/golden.json`, over "
        "three problems, six schedules and ten sets of options.",
    ),
    "fast_variants": Study(
        "The fast recipe, part by part",
        ("ch-fast",),
        "Six epochs on 45,000 images with one part taken out, with all eight taken out, and with "
        "two other optimizers; three seeds. Made side by side with other work, so its times say "
        "nothing.",
    ),
    "fast_levers": Study(
        "The fast recipe, lever by lever",
        ("ch-fast",),
        "Milliseconds of a training step with each of the things that make it shorter or longer, "
        "alternating in one process.",
    ),
    "faults": Study(
        "Six faults, without a guard and with one",
        ("ch-wrong",),
        "A small network on reduced CIFAR-10, with batch normalisation and without, undisturbed "
        "and with every fault. A run with `failed` diverged, or was stopped by the guard.",
    ),
    "guard_cost": Study(
        "What the guard costs",
        ("ch-wrong",),
        "Milliseconds of a training step without the guard and with it, alternating in one "
        "process.",
    ),
    "depth": Study(
        "Deep networks on digits",
        ("ch-wrong", "ch-claims"),
        "The final loss of deep fully connected networks by size of the initial weights, depth, "
        "remedy and optimizer, for every learning rate and seed.",
    ),
    "comparison": Study(
        "Eight optimizers",
        ("ch-comparison", "ch-claims"),
        "The same small network on reduced CIFAR-10 with every optimizer, learning rate and seed.",
    ),
    "tuning_momentum": Study(
        "Learning rate and momentum",
        ("ch-tuning", "ch-claims"),
        "A map of validation accuracy on reduced CIFAR-10; chosen and shown by the validation "
        "images.",
    ),
    "tuning_batch": Study(
        "Batch size",
        ("ch-tuning", "ch-claims"),
        "Learning rate and batch size on reduced CIFAR-10, at equal epochs.",
    ),
    "epochs_judged": Study(
        "Four epochs, judged",
        ("ch-claims",),
        "NGS planned for four epochs on reduced CIFAR-10, at the rate that two seeds chose, by the "
        "five seeds that judge the comparison.",
    ),
    "tuning_epochs": Study(
        "Number of epochs",
        ("ch-tuning", "ch-claims"),
        "Learning rate and length of the run on reduced CIFAR-10.",
    ),
    "lr_range": Study(
        "Range tests",
        ("ch-tuning",),
        "The loss while the learning rate grows, for six momentum coefficients.",
    ),
    "transfer_source": Study(
        "Weights to begin with",
        ("ch-bigger",),
        "The small network on the first five classes of CIFAR-10, one run a seed; the next study "
        "begins with these weights.",
    ),
    "transfer": Study(
        "Five classes, then the other five",
        ("ch-bigger",),
        "The same network on the last five classes, from scratch and from those weights: two seeds "
        "for every learning rate, five others for the rate that they chose. Of runs of 30 epochs "
        "and more every tenth epoch is kept.",
    ),
    "processes": Study(
        "Two processes",
        ("ch-bigger",),
        "Time of a training step of one process, of two side by side, and of two together.",
    ),
    "lr_span": Study(
        "Starts a thousand times apart",
        ("ch-factor",),
        "The exact method with the acceleration factor, and torch's Nesterov form, from learning "
        "rates over a factor of 1,000 on reduced CIFAR-10; the hypergradient, Prodigy and "
        "Schedule-Free beside them.",
    ),
    "lr_span_plain": Study(
        "The same without normalisation",
        ("ch-factor",),
        "As before, in a network without batch normalisation.",
    ),
    "lr_span_narrow": Study(
        "The same on a network that nothing was chosen on",
        ("ch-factor",),
        "As before, on the ConvNet of a quarter of the width and images of 32 pixels.",
    ),
    "lr_span_offline": Study(
        "Where it fails",
        ("ch-factor",),
        "As before, on the offline data set. Synthetic data, not CIFAR-10.",
    ),
    "factor_every": Study(
        "The factor at every tenth step",
        ("ch-factor",),
        "Accuracy where the factor is asked for at every step, and at every tenth.",
    ),
    "onecycle_exactness": Study(
        "What exactness is worth",
        ("ch-schedules", "ch-pytorch"),
        "The exact method, its rescaled velocities and torch's form under a one-cycle schedule.",
    ),
    "course": Study(
        "A class for each problem set",
        ("ch-course",),
        "The solution, the untouched release and every wrong submission, graded by the "
        "instructor's commands: the marks that are stated, the marks that were given, the seconds.",
    ),
    "course_hostile": Study(
        "Submissions that mean harm",
        ("ch-course",),
        "The right solution of problem set 1 with hostile code at its top, graded in containers.",
    ),
    "ngs_step_cost": Study(
        "The cost of a step",
        ("ch-pytorch", "ch-claims"),
        "Time of an optimizer step beside torch's fused SGD and a plain copy.",
    ),
    "executions": Study(
        "The notebooks themselves",
        (),
        "The last run of every notebook from top to bottom, and its seconds.",
    ),
}
"""By the stem of the file in ``results/``, in the order of the appendix."""


def files() -> dict[str, list[Record]]:
    """Return the records of every file, by its stem."""
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((ROOT / "results").glob("*.jsonl"))
    }


def page(found: dict[str, list[Record]]) -> str:
    """Return the appendix as a page of the book.

    Raises:
        KeyError: a file has no description.
    """
    lines = [
        "(results)=",
        "# Results and How They Were Measured",
        "",
        "Every number of the book that was not computed on its page was read from one of",
        "these files in `results/`. A line of such a file is one run: the command, the",
        "configuration, the commit, the device, the versions of what it ran on, the seed, the",
        "date, and what came out. `ngs results results/*.jsonl` prints them as a table, `--json`",
        "prints them whole. To repeat a run, check out its commit and give its command.",
        "",
        "Times were taken on shared machines, so compare those of one file with each other only.",
        "",
    ]
    undescribed = sorted(found.keys() - STUDIES.keys())
    if undescribed:
        raise KeyError(f"no description in tools/make_results.py of {', '.join(undescribed)}")
    for stem, study in STUDIES.items():
        if stem not in found:
            continue
        records = found[stem]
        commands = dict.fromkeys(record["command"] for record in records)
        chapters = [f"{{ref}}`{chapter}`" for chapter in study.read_in or ("statistics",)]
        lines += [
            f"## {study.title}",
            "",
            f"`results/{stem}.jsonl`, read in {' and '.join(chapters)}. {study.text}",
            "",
            "| records | date | device | threads | precision | torch | commit |",
            "|---|---|---|---|---|---|---|",
            *_rows(records),
            "",
            "```bash",
            *commands,
            "```",
            "",
        ]
    return "\n".join(lines)


def _rows(records: list[Record]) -> list[str]:
    """Return a line of the table for all records that agree in what it shows."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        key = (
            str(record["device"]),
            str(record["threads"]),
            str(record.get("precision", "-")),
            str(record["versions"].get("torch", "-")),
            f"`{record['commit'][:7]}`",
        )
        groups.setdefault(key, []).append(record["date"][:10])
    rows = []
    for (device, threads, precision, version, commit), dates in groups.items():
        first, last = min(dates), max(dates)
        when = first if first == last else f"{first} to {last}"
        rows.append(
            f"| {len(dates)} | {when} | {device} | {threads} | {precision} | {version} | {commit} |"
        )
    return rows


if __name__ == "__main__":
    PAGE.write_text(page(files()), encoding="utf-8")

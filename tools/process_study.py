"""What two processes on one machine gain, and what their exchange costs.

``torchrun --standalone --nproc-per-node 2 tools/process_study.py --out FILE`` times training steps
with the same number of images a process: of one process alone, of both side by side without a word
to each other, and of both together, with either engine. Chapter 18 reads the record.
"""

import shlex
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
from torch import distributed

from ngs.train.config import TrainConfig
from ngs.train.loop import set_up
from ngs.train.processes import ENGINES, Processes, join
from ngs.train.records import append_record, provenance

BASE = TrainConfig(device="cpu", precision="float32", batch_size=32)
MODELS = {"small": 16, "resnet18": 32, "vit": 32}
"""Networks, and the width of their images."""
WARMUP = 3


def seconds(config: TrainConfig, processes: Processes, steps: int) -> float:
    """Return the median time of a step."""
    run = set_up(config, processes=processes)
    run.train_mode(1)
    source, times = run.endless(), []
    for _ in range(WARMUP + steps):
        batch = next(source)
        begin = time.perf_counter()
        run.train_step(*batch)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[WARMUP:])


@click.command()
@click.option("--steps", default=15, help="Steps of each kind that are timed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of records.")
def main(steps: int, out: Path) -> None:
    """Time every network in every way."""
    rows = []
    for model, side in MODELS.items():
        config = replace(BASE, model=model, side=side)
        row: dict[str, object] = {"model": model}
        for engine in ENGINES:
            with join(engine, "cpu") as processes:
                both = replace(config, batch_size=config.batch_size * processes.count)
                if engine == "ddp":
                    if processes.main:
                        row["alone_ms"] = round(1e3 * seconds(config, Processes(), steps), 2)
                    distributed.barrier()
                    row["side_by_side_ms"] = round(1e3 * seconds(config, Processes(), steps), 2)
                    distributed.barrier()
                row[f"{engine}_ms"] = round(1e3 * seconds(both, processes, steps), 2)
                main_process, count = processes.main, processes.count
        run = set_up(config)
        rows.append({**row, "parameters": run.parameters, "multiply_adds": run.cost.multiply_adds})
        if main_process:
            click.echo(rows[-1])
    if main_process:
        command = ["torchrun", "--standalone", "--nproc-per-node", str(count)]
        append_record(
            out,
            {
                "command": shlex.join([*command, "tools/process_study.py", *sys.argv[1:]]),
                "kind": "processes",
                **provenance(run.device),
                "processes": count,
                "images_a_process": BASE.batch_size,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()

"""Training runs of several processes, for tests/test_processes.py: torchrun starts this file.

``python -m torch.distributed.run ... process_runs.py JOBS OUT`` takes a file of jobs, each a name,
an engine, settings, and perhaps a checkpoint and the step to stop after. Every process leaves the
weights of every job in OUT, and the first one the records.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from ngs.errors import InputError
from ngs.train.config import TrainConfig
from ngs.train.loop import Stopped, train
from ngs.train.processes import Processes, join


def one(job: dict[str, Any], out: Path, processes: Processes) -> dict[str, Any]:
    """Run a job; return what is to be known of it."""
    steps, last = itertools.count(1), job.get("stop_after")
    checkpoint = Path(job["checkpoint"]) if "checkpoint" in job else None
    try:
        network, record = train(
            TrainConfig(**job["settings"]),
            processes=processes,
            checkpoint=checkpoint,
            stop=lambda: next(steps) == last and processes.main,  # the others must notice
        )
    except Stopped:
        return {"stopped": True}
    except InputError as error:
        return {"refused": str(error)}
    torch.save(network.state_dict(), out / f"{job['name']}-{processes.rank}.pt")
    return record


def main() -> None:
    """Run every job, one after the other."""
    jobs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    found = {}
    for engine in ("ddp", "fsdp"):
        with join(engine, "cpu") as processes:
            for job in jobs:
                if job["engine"] == engine:
                    found[job["name"]] = one(job, out, processes)
                    distributed.barrier()
            if processes.main:
                (out / f"{engine}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

"""Records of runs: one JSON object a line, with all that is needed to judge and repeat it.

It rests on torch for the versions and the device. What reads records is ngs/records.py.
"""

import errno
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ngs.records import Record, held
from ngs.train.data import Dataset


def provenance(device: torch.device) -> Record:
    """Return commit, date, device and versions of this moment and machine."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **_commit(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("ngs", "torch", "torchvision", "numpy")},
        },
        "system": f"{platform.system()} {platform.machine()}",
    }


def data_record(data: Dataset) -> Record:
    """Return what a data set holds: images by class in each part, mean and deviation by channel."""
    return {
        "kind": "data",
        "dataset": data.name,
        **provenance(torch.device("cpu")),
        "classes": list(data.classes),
        "images": {
            part: torch.bincount(split.labels, minlength=len(data.classes)).tolist()
            for part, split in (("train", data.train), ("test", data.test))
        },
        "mean": [round(x, 6) for x in data.mean],
        "std": [round(x, 6) for x in data.std],
    }


def append_record(path: Path, record: Record) -> None:
    """Append one record in one write, so that no reader or crash ever sees half of it.

    Raises:
        OSError: the file cannot be written.
    """
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with held(descriptor, alone=True):
            before = os.fstat(descriptor).st_size
            written = os.write(descriptor, line)
            if written != len(line):  # a full disk: take the half line back
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> Record:
    """Return the commit of the checkout that this package runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return {"commit": None, "modified": None}

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--untracked-files=no", "--", "ngs")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    features = "".join(f" {unit}" for unit in bfloat16_units())
    return f"{device.type}: {name}, {torch.backends.cpu.get_cpu_capability()}{features}"


def bfloat16_units() -> list[str]:
    """Return what this CPU has that makes bfloat16 faster than float32: AMX, BF16, both or none."""
    asked = {"AMX": "_is_amx_tile_supported", "BF16": "_is_avx512_bf16_supported"}
    # Private to torch, so a release may lack one; then float32 is the safe answer.
    return [unit for unit, name in asked.items() if getattr(torch.cpu, name, lambda: False)()]

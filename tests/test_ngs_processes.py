"""NGS in several processes, as in one: sharded, replicated, laid over a mesh, and checkpoints."""

import ast
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import ngs

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("torch was built without gloo", allow_module_level=True)

import process_cases as cases

PROCESSES = 2
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # so it is
SCRIPT = Path(cases.__file__)
PACKAGE = Path(ngs.__file__).parent

every_option = pytest.mark.parametrize("name", cases.OPTIONS)
every_rank = pytest.mark.parametrize("rank", range(PROCESSES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the processes meet, with a checkpoint of a run in one process."""
    path = tmp_path_factory.mktemp("processes")
    model = cases.Network(idle=False)
    optimizer = cases.first_half(model, cases.batch())
    cases.save(model, optimizer, path / "whole", alone=True)
    return path


@pytest.fixture(scope="module")
def found(folder):
    """What each process has found."""
    launch(folder)
    paths = [folder / f"{rank}.json" for rank in range(PROCESSES)]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def launch(folder):
    """Run process_cases.py; where one process fails or hangs, end them all."""
    logs = [folder / f"{rank}.log" for rank in range(PROCESSES)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    running = []
    try:
        for rank, log in enumerate(logs):
            command = [sys.executable, *map(str, (SCRIPT, rank, PROCESSES, folder))]
            with log.open("w") as file:
                running.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
        end = time.monotonic() + 2 * cases.SECONDS
        codes = [process.poll() for process in running]
        while None in codes and not any(codes) and time.monotonic() < end:
            time.sleep(0.1)
            codes = [process.poll() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    if codes != [0] * PROCESSES:
        said = "\n".join(log.read_text(encoding="utf-8")[-3000:] for log in logs)
        pytest.fail(f"the processes ended with {codes}:\n{said}", pytrace=False)


def assert_near(ours, theirs, where="all"):
    """Numbers to 1e-12, everything else exactly."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_near(ours[key], theirs[key], f"{where}, {key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_near(one, other, f"{where}, {place}")
    elif isinstance(theirs, float):
        assert math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-14), (where, ours, theirs)
    else:
        assert ours == theirs, where


def assert_same_run(ours, theirs):
    """All but the number of collectives, of which one process needs none."""
    ours, theirs = ({**run, "collectives": None} for run in (ours, theirs))
    assert_near(ours, theirs)


def in_one_process(name):
    return cases.run(cases.Network(), cases.batch(), cases.OPTIONS[name])


# --- parameters that are cut ----------------------------------------------------------------------


@every_option
def test_sharded_parameters_take_the_steps_of_whole_ones(found, name):
    for own in found:
        assert_same_run(own["sharded"][name], in_one_process(name))


@every_option
def test_every_process_decides_the_same_to_the_bit(found, name):
    first, *others = (own["sharded"][name] for own in found)
    assert all(other == first for other in others)


def test_the_options_do_something():
    runs = {name: in_one_process(name) for name in cases.OPTIONS}
    kernels = ("plain", "for-loop", "foreach", "fused")
    for name, run in runs.items():
        assert name in kernels or run["ahead"] != runs["plain"]["ahead"], name
    everything = runs["everything"]
    assert everything["restarts"] > 0
    assert everything["refused"] == 1
    assert everything["reports"][5]["refused"] == ("first.weight",)
    assert max(report["grad_norm"] or 0.0 for report in everything["reports"]) > 0.3


def test_a_step_takes_one_collective_where_it_reads_and_none_where_it_does_not(found):
    for own in found:
        for name, run in own["sharded"].items():
            read = [
                report["grad_norm"] is not None or bool(report["refused"])
                for report in run["reports"]
            ]
            assert run["collectives"] == [int(reads) for reads in read], name


@every_rank
def test_copies_of_parts_are_counted_once(found, rank):
    assert_same_run(found[rank]["copies of parts"], in_one_process("everything"))
    assert found[rank]["copies of parts"] == found[0]["copies of parts"]


@every_rank
@pytest.mark.parametrize("mesh", ["laid", "laid in one row"])
def test_however_parameters_and_gradients_lie_the_steps_are_those_of_whole_ones(found, rank, mesh):
    ours, theirs = found[rank][mesh], cases.laid_run()
    assert ours == found[0][mesh]
    assert_same_run(ours, theirs)
    assert ours["collectives"] == [2] * cases.STEPS, "one for each dimension of the mesh"
    assert ours["like the parameter"]


@every_rank
def test_squares_that_leave_float32_on_one_process_are_summed_again_there_alone(found, rank):
    assert found[rank]["out of range"] == {"norm": 2.0**80, "collectives": 1}


@every_rank
def test_a_first_step_without_a_rate_counts_where_any_process_has_a_gradient(found, rank):
    assert found[rank]["clock"] == 1


@every_rank
def test_autograd_knows_that_a_step_has_changed_a_parameter_that_is_cut(found, rank):
    assert "modified by an inplace operation" in found[rank]["changed"]


@every_rank
def test_a_state_that_is_cut_where_the_parameters_are_not_is_refused_in_one_line(found, rank):
    ways = ("cut over processes", "whole"), ("whole", "cut over processes")
    assert found[rank]["unfit"] == [
        f"the saved state is {there} and the parameters are {here}: load it with "
        "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict"
        for there, here in ways
    ]


# --- parameters of which every process has a copy -------------------------------------------------


def test_replicated_processes_take_the_steps_of_one(found):
    for own in found:
        assert_same_run(own["replicated"], in_one_process("everything"))


def test_replicated_processes_decide_the_same_to_the_bit_without_a_collective(found):
    first, *others = (own["replicated"] for own in found)
    assert all(other == first for other in others)
    assert first["collectives"] == [0] * cases.STEPS


# --- checkpoints ----------------------------------------------------------------------------------


@every_rank
@pytest.mark.parametrize("source", ["from sharded", "from full"])
def test_sharded_processes_go_on_identically_from_what_they_saved(found, rank, source):
    runs = found[rank]["checkpoints"]
    assert runs[source] == runs["without a break"]


def one_process_goes_on(fill):
    model = cases.Network(idle=False)
    optimizer = cases.optimizer_of(model, **cases.EVERYTHING)
    fill(model, optimizer)
    return cases.second_half(model, optimizer, cases.batch())


def test_one_process_goes_on_from_what_sharded_processes_saved(found, folder):
    saved = found[0]["checkpoints"]["without a break"]
    whole = torch.load(folder / "full.pt", weights_only=True)
    for fill in (
        lambda *pair: cases.load(*pair, folder / "sharded", alone=True),
        lambda *pair: cases.set_states(*pair, whole, cases.StateDictOptions()),
    ):
        run = one_process_goes_on(fill)
        assert as_json(run["state"]) == saved["state"], "to the bit"
        assert_same_run(run, saved)


@every_rank
def test_sharded_processes_go_on_from_what_one_process_saved(found, folder, rank):
    run = one_process_goes_on(lambda *pair: cases.load(*pair, folder / "whole", alone=True))
    ours = found[rank]["checkpoints"]["from whole"]
    assert ours["state"] == as_json(run["state"]), "to the bit"
    assert_same_run(ours, run)


def test_a_checkpoint_goes_on_identically_in_one_process(folder, tmp_path):
    model = cases.Network(idle=False)
    optimizer = cases.first_half(model, cases.batch())
    cases.save(model, optimizer, tmp_path / "flat", alone=True, flat=True)
    expected = cases.second_half(model, optimizer, cases.batch())
    for path, flat in ((folder / "whole", False), (tmp_path / "flat", True)):
        run = one_process_goes_on(
            lambda *pair, path=path, flat=flat: cases.load(*pair, path, alone=True, flat=flat)
        )
        assert run == expected


@every_option
def test_asking_for_a_state_before_the_first_step_changes_nothing(name):
    """``get_state_dict`` takes a step with learning rate 0 to make one."""
    model = cases.Network()
    optimizer = cases.optimizer_of(model, **cases.OPTIONS[name])
    before = optimizer.state_dict()["param_groups"]
    _, state = cases.get_state_dict(model, optimizer)
    assert state["state"].keys() == dict(model.named_parameters()).keys()
    assert optimizer.state_dict()["param_groups"] == before
    run = cases.course(model, optimizer, cases.batch(), range(cases.STEPS))
    assert {**run, **cases.outcome(model, optimizer)} == in_one_process(name)


# --- torch without torch.distributed --------------------------------------------------------------


def test_torch_distributed_is_imported_for_its_types_alone():
    for path in (PACKAGE / "optim" / "torch").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = {
            id(node)
            for test in ast.walk(tree)
            if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
            for node in ast.walk(test)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in for_types:
                assert "torch.distributed" not in ast.unparse(node), path.name


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_ordinary_tensors_need_nothing_of_torch_distributed(name, monkeypatch):
    expected = in_one_process(name)
    monkeypatch.setattr(torch, "distributed", None)
    assert in_one_process(name) == expected


def as_json(found):
    return json.loads(json.dumps(found))

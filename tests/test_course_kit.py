"""The kit of the problem sets: claims that cost their own points alone, numbers of one's own."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from ngs import course
from ngs.course import Claims, answer, close, expect, hidden, number, own_numbers, owner
from ngs.errors import InputError


def test_a_claim_that_fails_costs_its_own_points_alone(capsys):
    claims = Claims()
    with claims(2, "the first"):
        expect(False, "this was expected")
    with claims(3, "the second"):
        expect(True, "never said")
    assert claims.points == 3
    assert capsys.readouterr().out.splitlines() == [
        "✗ the first (0 of 2): this was expected",
        "✓ the second (3 of 3)",
    ]


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (lambda: 1 / 0, "your code raised ZeroDivisionError: division by zero"),
        (lambda: (_ for _ in ()).throw(NotImplementedError), "this is not written yet"),
        (lambda: sys.exit(0), "your code ended Python"),
        (lambda: undefined, "your code raised NameError"),  # noqa: F821
        (lambda: [].pop("a\nb"), "your code raised TypeError"),
    ],
)
def test_whatever_a_students_code_raises_is_said_in_one_line(student, said, capsys):
    claims = Claims()
    with claims(1, "a claim"):
        student()
    out = capsys.readouterr()
    assert claims.points == 0
    assert said in out.out
    assert out.out.count("\n") == 1
    assert out.err == ""


def test_what_a_students_code_prints_and_warns_of_is_not_shown(capsys):
    # nbgrader gives no points for a cell that wrote to stderr.
    claims = Claims()
    with claims(1, "a claim"):
        print("debugging")
        print("debugging", file=sys.stderr)
        np.log(np.array(0.0))
    out = capsys.readouterr()
    assert out.out == "✓ a claim (1 of 1)\n"
    assert out.err == ""


@pytest.mark.parametrize("swallow", [Exception, BaseException])
def test_a_loop_that_never_ends_is_given_up_even_if_it_swallows_exceptions(swallow, capsys):
    claims = Claims(seconds=0.2)
    begin, rounds = time.monotonic(), 0
    with claims(1, "it ends"):
        while rounds < 2:
            try:
                while True:
                    pass
            except swallow:
                rounds += 1
    with claims(1, "the next one"):
        expect(True, "")
    assert time.monotonic() - begin < 5
    assert claims.points == (1 if swallow is Exception else 2)
    if swallow is Exception:
        assert "it is too slow, or has a loop that never stops" in capsys.readouterr().out


def test_after_a_time_out_the_next_claims_are_given_less_time():
    claims = Claims(seconds=1.5)
    with claims(1, "the first"):
        time.sleep(9)
    begin = time.monotonic()
    with claims(1, "the second"):
        time.sleep(9)
    assert time.monotonic() - begin < 1.4


def test_patience_multiplies_the_limits(monkeypatch):
    monkeypatch.setenv(course.PATIENCE, "3")
    assert Claims(seconds=2.0).seconds == 6.0


def test_no_alarm_is_left_behind():
    claims = Claims(seconds=0.2)
    with claims(1, "quick"):
        pass
    time.sleep(0.4)


def test_an_interrupt_by_the_user_is_not_swallowed():
    claims = Claims()
    with pytest.raises(KeyboardInterrupt), claims(1, "a claim"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("given", "expected", "right"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([[1.0, 2.0]], [1.0, 2.0], False),
        ([1.0, np.nan], [1.0, 2.0], False),
        (None, 1.0, False),
        ("text", 1.0, False),
        (object(), 1.0, False),
        (1.0 + 1e-12, 1.0, True),
        (1.0 + 1e-6, 1.0, False),
    ],
)
def test_close_takes_anything_and_wants_shape_and_numbers(given, expected, right):
    assert close(given, expected) is right


def test_a_function_that_changes_its_arguments_is_told():
    def careless(x):
        x -= 1
        return x

    with pytest.raises(course.UnmetError, match="has changed"):
        answer(careless, np.ones(2))


def test_a_function_that_returns_nothing_is_told():
    with pytest.raises(course.UnmetError, match="returned None"):
        answer(lambda x: None, 1.0)


@pytest.mark.parametrize("given", ["four", [1, 2], float("nan"), float("inf"), 1j, 10**400])
def test_an_answer_that_is_no_number_is_told(given):
    with pytest.raises(course.UnmetError, match="lr should be a"):
        number(given, "lr")


@pytest.mark.parametrize("given", [None, "ab", [1.0], [[1, 2], [3]], [1.0, np.nan], 3.0, object()])
def test_an_answer_that_is_no_array_of_the_shape_is_told(given):
    with pytest.raises(course.UnmetError, match="the path should"):
        course.array(given, (2,), "the path")


@pytest.mark.parametrize("given", [None, "ab", [1.0], (1, 2, 3), np.array(2.0), {"a": 1, "b": 2}])
def test_an_answer_that_is_no_pair_is_told(given):
    with pytest.raises(course.UnmetError, match="should return a pair: this, that"):
        course.pair(given, "this, that")


def test_arrays_and_pairs_are_handed_on():
    assert course.array([1, 2], (2,), "it").dtype == float
    assert course.pair((1, 2), "it") == (1, 2)
    assert course.pair(np.ones((2, 3)), "it")[1].shape == (3,)


def test_an_answer_that_is_missing_is_not_written_yet():
    with pytest.raises(NotImplementedError):
        number(None, "lr")


def test_numbers_of_ones_own_are_the_same_in_every_process():
    code = "from ngs.course import own_numbers; print(own_numbers('ada', 'x').integers(10**9))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1
    assert own_numbers("ada", "x").integers(10**9) != own_numbers("bela", "x").integers(10**9)
    assert own_numbers("ada", "x").integers(10**9) != own_numbers("ada", "y").integers(10**9)


def test_an_empty_account_is_refused():
    with pytest.raises(InputError, match="type the name of your account"):
        owner("  ")
    assert owner(4711) == "4711"


def test_an_empty_account_is_told_in_a_claim_without_blaming_the_code(capsys):
    claims = Claims()
    with claims(1, "kappa"):
        own_numbers("", "ps1-hand")
    assert "(0 of 1): student_id is empty" in capsys.readouterr().out


def test_while_it_is_graded_a_notebook_belongs_to_its_folder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "ada" / "ps1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert owner("bela") == "bela"
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    capsys.readouterr()
    assert owner("ada") == "ada"
    assert capsys.readouterr().out == ""
    assert owner("bela") == "ada"
    assert "student_id is 'bela' here, but 'ada' handed this in" in capsys.readouterr().out


def test_hidden_checks_come_from_the_graders_folder_not_from_beside_the_notebook(
    tmp_path, monkeypatch
):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs" / "set_hidden.py").write_text("who = 'grader'\n")
    (tmp_path / "mine" / "set_hidden.py").write_text("who = 'student'\n")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.setenv(course.HIDDEN, str(tmp_path / "theirs"))
    assert hidden("set_hidden").who == "grader"


def test_hidden_checks_that_are_not_there_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv(course.HIDDEN, str(tmp_path))
    with pytest.raises(InputError, match=r"nbgrader_config\.py"):
        hidden("ps9_hidden")
    monkeypatch.delenv(course.HIDDEN)
    with pytest.raises(InputError, match="any folder"):
        hidden("ps9_hidden")

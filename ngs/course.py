"""What a graded notebook needs: numbers of one's own, and checks that say what was expected.

The problem sets in ``assignments/`` rest on it. It rests on NumPy, and on :mod:`ngs.errors`.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngs.errors import InputError

SECONDS = 10.0
"""How long the code that one claim calls may take before the claim is given up."""
PATIENCE = "NGS_COURSE_PATIENCE"
"""The environment variable that multiplies such limits: 3 where the machine is a third as fast."""
AFTERWARDS = 1.0
"""How long each further claim of a cell may take once one has taken too long."""
HIDDEN = "NGS_COURSE_HIDDEN"
"""The environment variable that names the folder of the hidden checks. Only graders have one."""


class UnmetError(AssertionError):
    """A claim about a student's answer does not hold; the message says what was expected."""


class _TimeUp(BaseException):
    """A claim took too long. Not an ``Exception``, so that no student's ``except`` swallows it."""


def being_graded() -> bool:
    """Return whether nbgrader runs the notebook to grade it, not a student or their validation."""
    return os.environ.get("NBGRADER_EXECUTION") == "autograde"


def owner(student_id: str | int) -> str:
    """Return whose numbers a notebook uses.

    Args:
        student_id: what the student typed, a name or a number. While the notebook is graded it does
            not count: then the folder in which nbgrader put the submission, ``STUDENT/SET``, names
            the student.

    Raises:
        InputError: nothing was typed.
    """
    typed = "" if student_id is None else str(student_id).strip()
    if being_graded():
        account = Path.cwd().parent.name
        if typed and typed.casefold() != account.casefold():
            print(
                f"Note: student_id is {typed!r} here, but {account!r} handed this in and has other"
            )
            print("numbers, which are the ones that count.")
        return account
    if not typed:
        raise InputError("student_id is empty: type the name of your account, in quotes")
    return typed


def own_numbers(student_id: str | int, part: str) -> np.random.Generator:
    """Return a source of random numbers that is a student's own, and the same on every machine.

    Args:
        student_id: the student's account (:func:`owner`).
        part: for which part of which set, such as ``"ps1-rate"``: no two share their numbers.

    >>> int(own_numbers("ada", "ps1-rate").integers(100)) == int(
    ...     own_numbers(" ada ", "ps1-rate").integers(100))
    True
    """
    name = f"{part}:{owner(student_id).casefold()}"
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def hidden(name: str) -> ModuleType:
    """Return a module of hidden checks, from the folder that only the grader has.

    It is loaded by its path: a file of that name beside a submission is not looked at.

    Args:
        name: the module, such as ``"ps1_hidden"``.

    Raises:
        InputError: the grader's settings do not say where the hidden checks are, or it has none
            of this name.
    """
    folder = os.environ.get(HIDDEN, "")
    path = Path(folder) / f"{name}.py"
    if not folder or not path.is_file():
        raise InputError(
            f"the hidden checks {name} are not in {folder or 'any folder'}: set {HIDDEN} to the "
            "folder that has them, as nbgrader_config.py does"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018  (a path always gives both)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Claims:
    """The claims of one graded cell, a line each, and the points of those that hold.

    Each claim is a ``with`` block. Whatever goes wrong in it costs its points alone, and is said in
    one line: a claim that :func:`expect` finds unmet, an exception, an answer that is not written
    yet, code that does not come to an end. What the student's code prints or warns of inside is
    not shown: nbgrader gives no points where a graded cell writes to stderr.

    Args:
        seconds: how long one claim may take, :data:`SECONDS` unless said; where it has taken too
            long once, the claims after it get :data:`AFTERWARDS`.

    >>> claims = Claims()
    >>> with claims(1, "one and one is two"):
    ...     expect(1 + 1 == 2, "1 + 1 should be 2")
    ✓ one and one is two (1 of 1)
    >>> with claims(2, "two and two is four"):
    ...     expect(2 + 2 == 5, "2 + 2 should be 5")
    ✗ two and two is four (0 of 2): 2 + 2 should be 5
    >>> claims.points
    1.0
    """

    def __init__(self, seconds: float | None = None):
        self.points = 0.0
        patience = float(os.environ.get(PATIENCE, "1"))
        self.seconds = patience * (SECONDS if seconds is None else seconds)

    @contextlib.contextmanager
    def __call__(self, points: float, claim: str) -> Iterator[None]:
        """Run one claim.

        Args:
            points: what it earns.
            claim: what holds if it does, in the words of the chapter.
        """
        problem = None
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                warnings.catch_warnings(),
                np.errstate(all="ignore"),
                _limit(self.seconds),
            ):
                warnings.simplefilter("ignore")
                yield
        except UnmetError as unmet:
            problem = str(unmet)
        except NotImplementedError:
            problem = "this is not written yet"
        except _TimeUp:
            problem = (
                f"your code had not come to an end after {self.seconds:g} seconds: "
                "it is too slow, or has a loop that never stops"
            )
            self.seconds = min(self.seconds, AFTERWARDS)
        except InputError as error:
            problem = str(error)
        except Exception as error:  # whatever a student's code may raise
            problem = f"your code raised {type(error).__name__}: {_one_line(error)}"
        except SystemExit:
            problem = "your code ended Python: leave out exit() and quit()"
        if problem is None:
            self.points += points
            print(f"✓ {claim} ({points:g} of {points:g})")
        else:
            print(f"✗ {claim} (0 of {points:g}): {problem}")


def _one_line(error: Exception, width: int = 160) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= width else text[: width - 1] + "…"


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, where the system can (not on Windows, nor in a thread)."""
    can = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not can:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again, for code that swallows the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        # Twice: the signal may come on the way out too, and then once only, for half a second.
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def expect(holds: Any, message: str) -> None:
    """Give up the claim with a message if something does not hold.

    Args:
        holds: anything with a truth value.
        message: what was expected, in the words of the chapter; never the solution.

    Raises:
        UnmetError: it does not hold.
    """
    if not holds:
        raise UnmetError(message)


def close(given: Any, expected: ArrayLike, rtol: float = 1e-9, atol: float = 1e-9) -> bool:
    """Return whether an answer is of the right shape and, up to rounding, the right numbers.

    Args:
        given: the answer, whatever it is; what is no number is not close.
        expected: a number, or an array of any shape.
        rtol: room relative to the largest of the expected numbers.
        atol: absolute room.

    >>> close([1.0, 2.0], [1.0, 2.0]), close(None, 1.0), close([1.0], 1.0)
    (True, False, False)
    """
    try:
        found = np.asarray(given, dtype=float)
    except (TypeError, ValueError, RuntimeError):  # the last: a tensor that requires a gradient
        return False
    right = np.asarray(expected, dtype=float)
    if found.shape != right.shape:
        return False
    room = atol + rtol * float(np.abs(right).max(initial=0.0))
    return bool(np.all(np.abs(found - right) <= room))


def number(given: Any, name: str) -> float:
    """Return an answer as a number.

    Args:
        given: what the student's variable holds.
        name: its name, for the message.

    Raises:
        NotImplementedError: it is still ``None``.
        UnmetError: it is no finite number.
    """
    if given is None:
        raise NotImplementedError
    try:
        value = float(given)
    except (TypeError, ValueError, OverflowError):
        raise UnmetError(f"{name} should be a number, and is a {type(given).__name__}") from None
    expect(np.isfinite(value), f"{name} should be a finite number, and is {value}")
    return value


def array(given: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    """Return an answer as an array of finite numbers.

    Args:
        given: the answer, whatever it is.
        shape: what its shape should be.
        what: what it is, for the message.

    Raises:
        UnmetError: it is something else; the message says what it should be.
    """
    try:
        found = np.array(given, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        raise UnmetError(f"{what} should be an array of numbers of the shape {shape}") from None
    expect(found.shape == shape, f"{what} should have the shape {shape}; yours has {found.shape}")
    expect(np.isfinite(found).all(), f"{what} should be finite numbers; yours has nan or inf")
    return found


def pair(given: Any, what: str) -> tuple[Any, Any]:
    """Return an answer that should be two things.

    Args:
        given: the answer, whatever it is.
        what: the two things, for the message.

    Raises:
        UnmetError: it is no pair.
    """
    two = isinstance(given, tuple | list) or (isinstance(given, np.ndarray) and given.ndim > 0)
    expect(two and len(given) == 2, f"your function should return a pair: {what}")
    return given[0], given[1]


def answer(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a student's function answers, and see that it left its arguments alone.

    Args:
        function: the student's.
        arguments: what it is called with; arrays among them are compared before and after.
        named: the same, by name.

    Raises:
        NotImplementedError: it answered ``None``.
        UnmetError: an array that was passed in has changed.
    """
    given = [*arguments, *named.values()]
    before = [a.copy() if isinstance(a, np.ndarray) else None for a in given]
    result = function(*arguments, **named)
    for now, then in zip(given, before, strict=True):
        if then is not None and not np.array_equal(now, then, equal_nan=True):
            raise UnmetError("an array that was passed in has changed: work on a copy (x = x - …)")
    expect(
        result is not None, "your function returned None: does it end in a return, on every path?"
    )
    return result

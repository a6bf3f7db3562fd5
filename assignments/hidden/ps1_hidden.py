"""The checks of problem set 1 that run at grading: other numbers, the same tasks.

It rests on NumPy, on ngs.course and on the module of visible checks, which the grader puts back.
"""

import numpy as np
from ps1_checks import own_bowl

from ngs.course import Claims, answer, close, expect, number, pair


def _rotated(spectrum, seed):
    """Return a symmetric matrix with these eigenvalues, not along the axes."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(len(spectrum), len(spectrum))))
    return Q @ np.diag(spectrum) @ Q.T


def path(gradient_descent) -> float:
    """Check part A on bowls in general position."""
    claims = Claims()
    A = _rotated([0.5, 2.0, 7.0, 9.0], seed=1)
    start = np.random.default_rng(2).normal(size=4)
    with claims(1, "on any bowl the path is that of gradient descent"):
        found = np.asarray(answer(gradient_descent, lambda x: A @ x, start, 0.15, 25), float)
        M = np.eye(4) - 0.15 * A
        right = [np.linalg.matrix_power(M, t) @ start for t in range(26)]
        expect(close(found, right), "every iterate should be (I − ηA) times the one before; not so")
    with claims(1, "no steps, and a start given as integers"):
        found = answer(gradient_descent, lambda x: A @ x, start, 0.15, 0)
        expect(close(found, start[None]), "with 0 steps the path should be the start alone")
        found = answer(gradient_descent, lambda x: 0.5 * x, np.array([1, 3]), 1.0, 2)
        expect(
            close(found, [[1, 3], [0.5, 1.5], [0.25, 0.75]]),
            "from the start (1, 3) of integers, every step should leave half of the error",
        )
    with claims(1, "each step asks for the gradient once, at the iterate"):
        asked = []

        def grad(x):
            asked.append(np.array(x, float))
            return np.sin(x)

        found = np.asarray(answer(gradient_descent, grad, start, 0.3, 6), float)
        expect(len(asked) == 6, f"6 steps should ask for 6 gradients; yours asked for {len(asked)}")
        expect(
            close(asked, found[:-1]),
            "the gradient of step t should be taken at θₜ, the iterate of that step",
        )
    return claims.points


def step_sizes(largest_stable_lr, best_lr) -> float:
    """Check part B where the eigenvalues cannot be read off."""
    claims = Claims()
    A = _rotated([0.3, 1.0, 2.0, 8.0], seed=3)
    with claims(1, "the largest stable step of a bowl that is not along the axes"):
        expect(
            close(answer(largest_stable_lr, A), 0.25),
            "the largest eigenvalue decides; the diagonal has it only if A is diagonal",
        )
    with claims(1, "the best step of a bowl that is not along the axes"):
        lr, factor = pair(answer(best_lr, A), "the step size, and the factor")
        expect(
            close(lr, 2 / 8.3), "the best step should level the smallest and the largest eigenvalue"
        )
        expect(close(factor, 7.7 / 8.3), "the factor should be that of the worst direction")
    return claims.points


def by_hand(given: dict) -> float:
    """Check the rest of part C against the numbers of the student's account."""
    claims = Claims()
    bowl = own_bowl(given.get("student_id", ""))
    rho = (bowl.L - bowl.mu) / (bowl.L + bowl.mu)
    with claims(1, "factor"):
        found = number(given.get("factor"), "factor")
        expect(
            close(found, rho, rtol=1e-3),
            "it is the best possible factor ρ* of the chapter, for the numbers of your account",
        )
    with claims(1, "steps_needed"):
        needed = number(given.get("steps_needed"), "steps_needed")
        exact = np.log(1e6) / (-2 * np.log(rho))
        expect(
            abs(needed - 2 * exact) > 1,
            "that many steps shrink the error to a millionth; the gap needs fewer, it is a square",
        )
        expect(
            needed == np.ceil(exact),
            "it is the smallest k with ρ²ᵏ at most a millionth, rounded up",
        )
    with claims(1, "error"):
        found, right = number(given.get("error"), "error"), (1 - bowl.lr * bowl.L) ** 3
        expect(not close(found, -right, rtol=1e-3), "its size is right; look at its sign")
        expect(
            close(found, right, rtol=1e-3),
            "each of 3 steps multiplies the steep error by 1 − ηL, with the step size of the bowl",
        )
    with claims(1, "safe_steps"):
        promised = bowl.L * bowl.R**2 / bowl.target
        expect(
            number(given.get("safe_steps"), "safe_steps") == np.ceil((promised - 2) / 4),
            "it is the smallest k for which LR²/(4k + 2) is at most the target",
        )
    return claims.points


def rate(function) -> float:
    """Check part D on runs that do not shrink evenly."""
    claims = Claims()
    steps = np.arange(61)
    with claims(1, "the fast directions of the first steps do not count"):
        found = answer(function, 4.0 * 0.95 ** (2 * steps) + 1e4 * 0.3 ** (2 * steps))
        expect(
            close(found, 0.95, rtol=1e-6),
            "in the second half one direction is left, and its factor should be the rate",
        )
    with claims(1, "a run that jumps up and down"):
        gaps = np.exp(np.random.default_rng(4).normal(size=34) - 0.2 * np.arange(34))
        expect(
            close(answer(function, gaps), (gaps[33] / gaps[16]) ** (1 / 34)),
            "the average is geometric, over the k − h steps from gap h to gap k",
        )
    return claims.points


def slowest(bound, huber) -> float:
    """Check part E, and run gradient descent on the valley."""
    claims = Claims()
    L, R, k = 3.7, 2.3, 9
    right, s = L * R**2 / (4 * k + 2), L * R / (2 * k + 1)
    with claims(1, "the promise for any L, R and k"):
        expect(
            close(bound(L, R, k), right),
            "L and R should enter as they do in the chapter: L once, R squared",
        )
    with claims(1, "value and slope of the valley"):
        value, grad = pair(answer(huber, L, R, k), "the value, and the gradient")
        for x in (-1.7, -0.01, 0.0, 0.01, 1.7):
            rounded = L / 2 * x**2 if abs(x) <= s / L else s * abs(x) - s**2 / (2 * L)
            expect(
                close(value(np.array(x)), rounded),
                "the floor should be (L/2)x², and the walls straight, joined to it",
            )
            expect(
                close(grad(np.array(x)), np.clip(L * x, -s, s)),
                "the gradient should be the slope of the value",
            )
    with claims(1, "on it k steps of gradient descent reach the bound, exactly"):
        value, grad = pair(answer(huber, L, R, k), "the value, and the gradient")
        x = np.array(R)
        for _ in range(k):
            x = x - grad(x) / L
        expect(
            close(value(x), right),
            "k steps of size 1/L from R should end where the gap is the bound",
        )
    return claims.points

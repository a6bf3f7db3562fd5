"""The checks of problem set 1 that students see. It rests on NumPy and on ngs.course."""

from typing import NamedTuple

import numpy as np

from ngs.course import Claims, answer, close, expect, number, own_numbers, pair


class Bowl(NamedTuple):
    """A quadratic of one's own: its extreme curvatures, a step size, a distance and a target."""

    mu: float
    L: float
    lr: float
    R: float
    target: float


def own_bowl(student_id: str) -> Bowl:
    """Return the numbers of part C for one student."""
    numbers = own_numbers(student_id, "ps1-hand")
    mu = float(numbers.integers(2, 6))
    L = mu * float(numbers.integers(20, 60)) + 0.5 * float(numbers.integers(1, 4))
    lr = round(float(numbers.uniform(1.2, 1.8)) / L, 4)
    R = float(numbers.integers(2, 9))
    target = round(float(numbers.uniform(0.01, 0.05)) * L * R**2, 2)
    return Bowl(mu, L, lr, R, target)


def path(gradient_descent) -> float:
    """Check part A on one step, and on three."""
    claims = Claims()
    curvatures, start = np.array([1.0, 4.0]), np.array([1.0, -2.0])

    def grad(theta):
        return curvatures * theta

    with claims(1, "the path holds the start and every iterate after it"):
        found = answer(gradient_descent, grad, start, 0.25, 3)
        expect(isinstance(found, np.ndarray), "the path should be an array, not a list of them")
        expect(
            found.shape == (4, 2),
            f"3 steps in 2 dimensions should give an array of shape (4, 2), θ₀ to θ₃; "
            f"yours has {found.shape}",
        )
        expect(close(found[0], start), "the first row should be the start θ₀")
    with claims(1, "a step goes along the negative gradient"):
        found = np.asarray(answer(gradient_descent, grad, start, 0.1, 1), float)
        moved = found[-1] - start
        expect(np.any(moved != 0), "after one step the iterate should have moved")
        expect(
            moved @ grad(start) < 0,
            "the gradient points where f rises fastest, so the step should go against it",
        )
        expect(close(moved, -0.1 * grad(start)), "the step should be η times the gradient, no more")
    with claims(1, "along an eigenvector, each step multiplies the error by 1 − ηλ"):
        found = np.asarray(answer(gradient_descent, grad, start, 0.1, 3), float)
        expect(
            close(found[-1], (1 - 0.1 * curvatures) ** 3 * start),
            "after three steps the error along each eigenvector should be (1 − ηλ)³ of what it was",
        )
    return claims.points


def step_sizes(largest_stable_lr, best_lr) -> float:
    """Check part B where the eigenvalues can be read off the diagonal."""
    claims = Claims()
    A = np.diag([1.0, 10.0, 4.0])
    with claims(1, "the largest eigenvalue decides how large the step may be"):
        found = answer(largest_stable_lr, A)
        expect(not close(found, 1 / 10), "1/L is safe, but larger steps are stable too")
        expect(
            close(found, 2 / 10),
            "|1 − ηλ| < 1 must hold for every eigenvalue; for 1, 4 and 10 that is not your number",
        )
    with claims(1, "at the best step the flattest and the steepest direction are level"):
        lr, factor = pair(answer(best_lr, A), "the step size, and the factor")
        expect(
            close(1 - lr * 1.0, -(1 - lr * 10.0)),
            "at the best step size 1 − ημ and ηL − 1 should be equal; at yours one is worse",
        )
        expect(
            close(factor, 1 - lr * 1.0), "the factor should be that of the worst direction, 1 − ημ"
        )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the first number of part C, so that a wrong account is noticed at once."""
    claims = Claims()
    with claims(1, "kappa is that of your bowl"):
        bowl = own_bowl(given.get("student_id", ""))
        expect(
            close(number(given.get("kappa"), "kappa"), bowl.L / bowl.mu, rtol=1e-3),
            "κ should be the steepest curvature over the flattest, for the numbers of your account",
        )
    return claims.points


def rate(function) -> float:
    """Check part D on a run that shrinks evenly."""
    claims = Claims()
    with claims(1, "a gap is a square: its factor is not that of the error"):
        found = answer(function, 5.0 * 0.9 ** (2 * np.arange(41)))
        expect(
            not close(found, 0.81),
            "that is the factor of the gap. A gap is made of the squares of errors",
        )
        expect(close(found, 0.9), "where every error shrinks by 0.9 a step, the rate should be 0.9")
    with claims(1, "from h to k there are k − h steps"):
        found = answer(function, 5.0 * 0.9 ** (2 * np.arange(6)))
        expect(
            close(found, 0.9),
            "with 6 gaps there are k = 5 steps, and h = 2: the second half has 3 steps",
        )
    return claims.points


def slowest(bound, huber) -> float:
    """Check part E where it can be computed in one's head."""
    claims = Claims()
    with claims(1, "the promise for L = 1, R = 1"):
        expect(
            close([bound(1.0, 1.0, 1), bound(1.0, 1.0, 2)], [1 / 6, 1 / 10]),
            "for L = R = 1 one step promises 1/6, and two steps 1/10",
        )
    with claims(1, "walls and floor meet without a jump"):
        value, grad = pair(answer(huber, 1.0, 3.0, 1), "the value, and the gradient")
        below, above = 1 - 1e-9, 1 + 1e-9
        expect(
            close(grad(np.array([-2.0, 0.5, 2.0])), [-1.0, 0.5, 1.0]),
            "the slope should be Lx on the floor and ±s on the walls, with the sign of x",
        )
        expect(
            close(value(np.array(below)), value(np.array(above)), atol=1e-6),
            "at |x| = s/L wall and floor should have the same height",
        )
    return claims.points

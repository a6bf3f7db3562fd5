"""The checks of problem set 2 that students see. It rests on NumPy and on ngs.course."""

from fractions import Fraction
from numbers import Rational
from typing import NamedTuple

import numpy as np

from ngs.course import Claims, answer, close, expect, number, own_numbers

VALLEYS = (  # root of kappa, width of the middle piece, start: for a first corner at 1
    (6, "1", "3"),
    (6, "5/4", "4"),
    (6, "3/2", "19/4"),
    (7, "1", "31/10"),
    (7, "5/4", "19/5"),
    (7, "3/2", "47/10"),
    (9, "1", "3"),
    (9, "5/4", "19/5"),
    (9, "3/2", "9/2"),
)


class Bowl(NamedTuple):
    """A quadratic of one's own: its extreme curvatures, and a pair that somebody uses on it."""

    mu: float
    L: float
    lr: float
    momentum: float


class Valley(NamedTuple):
    """A slope of three pieces of one's own: curvatures, corners, the best pair, and a start."""

    L: int
    mu: int
    first: Fraction
    second: Fraction
    lr: Fraction
    momentum: Fraction
    start: Fraction


def own_bowl(student_id: str) -> Bowl:
    """Return the numbers of part C for one student."""
    numbers = own_numbers(student_id, "ps2-hand")
    mu = float(numbers.integers(2, 6))
    L = mu * float(numbers.integers(40, 90)) + 0.5 * float(numbers.integers(1, 4))
    lr = round(float(numbers.uniform(1.2, 1.8)) / L, 5)
    momentum = round(float(numbers.uniform(0.3, 0.5)), 2)
    return Bowl(mu, L, lr, momentum)


def own_valley(student_id: str) -> Valley:
    """Return the numbers of part D for one student."""
    numbers = own_numbers(student_id, "ps2-valley")
    root, width, start = VALLEYS[int(numbers.integers(len(VALLEYS)))]
    first, mu = Fraction(int(numbers.integers(1, 5))), int(numbers.integers(1, 4))
    return Valley(
        L=root**2 * mu,
        mu=mu,
        first=first,
        second=first * (1 + Fraction(width)),
        lr=Fraction(4, (root + 1) ** 2 * mu),
        momentum=Fraction((root - 1) ** 2, (root + 1) ** 2),
        start=first * Fraction(start),
    )


def path(heavy_ball) -> float:
    """Check part A without momentum, on a constant gradient, and for where gradients are taken."""
    claims = Claims()
    curvatures, start = np.array([1.0, 4.0]), np.array([1.0, -2.0])

    def bowl(theta):
        return curvatures * theta

    with claims(1, "at β = 0 it is gradient descent"):
        found = np.asarray(answer(heavy_ball, bowl, start, 0.1, 0.0, 3), float)
        expect(
            found.shape == (4, 2),
            f"3 steps in 2 dimensions should give an array of shape (4, 2), θ₀ to θ₃; "
            f"yours has {found.shape}",
        )
        expect(close(found[0], start), "the first row should be the start θ₀")
        moved = found[1] - found[0]
        expect(not close(moved, 0.1 * bowl(start)), "look at your signs: the step goes uphill")
        right = [(1 - 0.1 * curvatures) ** t * start for t in range(4)]
        expect(
            close(found, right),
            "with β = 0 nothing of the last step is kept, and your path should be gradient descent",
        )
    with claims(1, "the velocity keeps the fraction β of the last step"):
        pull = np.array([1.0, -2.0])
        found = np.asarray(answer(heavy_ball, lambda theta: pull, start, 0.1, 0.5, 4), float)
        expect(found.shape == (5, 2), "4 steps should give θ₀ to θ₄, shape (5, 2)")
        moves = np.diff(found, axis=0) / (-0.1 * pull)  # in gradient steps
        expect(
            not close(moves[0], [0.5, 0.5]),
            "at β = 0.5 your first step is half a gradient step: in this chapter a step adds the "
            "whole gradient step to what is kept, and takes no average of the two",
        )
        expect(
            close(moves[0], [1.0, 1.0]),
            "the first step starts at rest, so it should be one gradient step; is the velocity "
            "zero at the start of every run?",
        )
        expect(
            not close(moves[1], [1.0, 1.0]),
            "your second step is as if there had been no first: does the velocity survive from "
            "one step to the next, or is it made anew?",
        )
        expect(
            np.all(moves[1] > 1),
            "where the gradient always points the same way, the second step should be longer than "
            "the first: what is kept of the last step goes in its direction",
        )
        expect(
            close(moves, np.repeat((1 - 0.5 ** np.arange(1, 5)[:, None]) / 0.5, 2, axis=1)),
            "where the gradient always points the same way, the steps should grow as in the "
            "chapter, to twice a gradient step at β = 0.5",
        )
    with claims(1, "the gradient is taken at the iterate of the step"):
        asked = []

        def asking(theta):
            asked.append(np.array(theta, float))
            return bowl(theta)

        found = np.asarray(answer(heavy_ball, asking, start, 0.1, 0.5, 4), float)
        expect(len(asked) == 4, f"4 steps should ask for 4 gradients; yours asked for {len(asked)}")
        ahead = found[1:-1] + 0.5 * np.diff(found, axis=0)[:-1]
        expect(
            not close(asked[1:], ahead),
            "you take the gradient at the look-ahead point θₜ + βvₜ; that is Nesterov's method, "
            "of the next chapter. Heavy ball takes it at θₜ",
        )
        expect(
            not close(asked[1:], found[:-2]),
            "from the second step on, your gradients are one step old",
        )
        expect(close(asked, found[:-1]), "the gradient of step t should be taken at θₜ")
    return claims.points


def matrix(step_matrix, spectral_radius) -> float:
    """Check part B on one step, and on matrices whose eigenvalues can be seen."""
    claims = Claims()
    with claims(1, "the matrix takes error and velocity one step on"):
        found = np.asarray(answer(step_matrix, 3.0, 0.1, 0.6), float)
        expect(found.shape == (2, 2), f"the shape should be (2, 2); yours is {found.shape}")
        columns = []
        for error, velocity in ((1.0, 0.0), (0.0, 1.0)):
            after = 0.6 * velocity - 0.1 * 3.0 * error
            columns.append([error + after, after])
        right = np.array(columns).T
        expect(not close(found, right.T), "rows and columns are exchanged")
        expect(
            not close(found, right[::-1, ::-1]),
            "the error comes first, the velocity second; yours has them the other way round",
        )
        expect(
            not close(found[0], [1.0, 1.0]),
            "the error should move by the velocity after the step, not by that before it",
        )
        expect(
            close(found, right),
            "from error 1 at rest, and from error 0 with velocity 1, your matrix should lead to "
            "the error and the velocity after one step of heavy ball",
        )
    with claims(1, "the spectral radius is the largest modulus of an eigenvalue"):
        found = answer(spectral_radius, np.array([[0.5, 0.0], [4.0, -0.9]]))
        expect(
            not close(found, 0.5),
            "of the eigenvalues 0.5 and −0.9 the second has the larger modulus",
        )
        expect(not close(found, -0.9), "a modulus is never negative")
        expect(
            close(found, 0.9),
            "this matrix has the eigenvalues 0.5 and −0.9 and is not symmetric: no method for "
            "symmetric matrices and no norm of the matrix will do",
        )
        found = answer(spectral_radius, np.array([[0.0, -0.7], [0.7, 0.0]]))
        expect(
            close(found, 0.7),
            "the eigenvalues 0.7i and −0.7i both have the modulus 0.7, a real number",
        )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the first number of part C, so that a wrong account is noticed at once."""
    claims = Claims()
    with claims(1, "lr_best puts both ends of your bowl on an edge of the plateau"):
        bowl = own_bowl(given.get("student_id", ""))
        found = number(given.get("lr_best"), "lr_best")
        expect(
            not close(found, 2 / (bowl.L + bowl.mu), rtol=1e-3, atol=0),
            "that is the best step size of gradient descent; with momentum it may be longer",
        )
        edges = np.sqrt(found * bowl.mu) + np.sqrt(found * bowl.L)
        expect(
            close(edges, 2.0, rtol=1e-3),
            "at the best pair √(ημ) = 1 − √β and √(ηL) = 1 + √β; with your step size and the "
            "numbers of your account no β does both",
        )
    return claims.points


def circle(three_pieces, period) -> float:
    """Check part D on one slope, and on runs whose period can be seen."""
    claims = Claims()
    with claims(1, "three pieces, and no jump at a corner"):
        slope = answer(three_pieces, 10.0, 2.0, 1.0, 3.0)
        expect(callable(slope), "three_pieces should return a function, the slope")
        expect(
            close([slope(-2.0), slope(0.0), slope(0.5)], [-20.0, 0.0, 5.0]),
            "left of the first corner the slope should be Lθ, for negative θ too",
        )
        expect(
            close(slope(1.0), 10.0) and close(slope(1.0 + 1e-9), 10.0, atol=1e-6),
            "at the first corner the middle piece should begin where the left one ends",
        )
        expect(
            close(slope(2.0) - slope(1.0), 2.0),
            "between the corners the slope should rise by μ for each unit of θ",
        )
        expect(
            close(slope(3.0), 14.0) and close(slope(3.0 - 1e-9), 14.0, atol=1e-6),
            "at the second corner the right piece should begin where the middle one ends",
        )
        expect(
            close(slope(5.0) - slope(4.0), 10.0),
            "right of the second corner the slope should rise by L for each unit of θ",
        )
    with claims(1, "a period is that of the whole tail"):
        still = np.concatenate([np.geomspace(1.0, 1e-9, 20), np.zeros(20)])[:, None]
        expect(close(answer(period, still, 5), 1), "a run that rests should have the period 1")
        round_ = np.concatenate([np.arange(9.0), np.tile([1.0, -2.0, 0.5], 8)])[:, None]
        expect(
            close(answer(period, round_, 5), 3),
            "a run that ends in 1, −2, ½, 1, −2, ½, … should have the period 3",
        )
        twice = np.tile([0.0, 2.0, 0.0, 1.0], 8)[:-1, None]
        expect(
            not close(answer(period, twice, 6), 2),
            "a run that ends in …, 0, 2, 0, 1, 0, 2, 0 has not the period 2, though its last "
            "iterate is that of two steps before: every two of the tail must agree",
        )
        expect(
            close(answer(period, twice, 6), 4),
            "a run that goes 0, 2, 0, 1 over and over should have the period 4",
        )
    return claims.points


def three_points(given: dict) -> list[Fraction]:
    """Return the student's circle as three fractions, whatever it was given as."""
    points = given.get("circle")
    if points is None:
        raise NotImplementedError
    expect(
        isinstance(points, list | tuple) and len(points) == 3,
        "circle should be a list of three points",
    )
    expect(
        all(isinstance(point, Rational) for point in points),
        "each of the three should be a Fraction: a decimal is rounded, and proves no circle",
    )
    return [Fraction(int(point.numerator), int(point.denominator)) for point in points]


def fractions(given: dict) -> float:
    """Check of the circle what must hold for every circle."""
    claims = Claims()
    with claims(1, "three different fractions, at which the slopes add up to zero"):
        valley = own_valley(given.get("student_id", ""))
        points = three_points(given)
        expect(len(set(points)) == 3, "the three points should be different")
        right = [point for point in points if point >= valley.second]
        left = [point for point in points if point < valley.first]
        expect(
            len(left) == 2 and len(right) == 1,
            "one of your points should lie right of the second corner, and two left of the first",
        )
        slopes = valley.L * sum(points) - (valley.L - valley.mu) * (valley.second - valley.first)
        expect(
            slopes == 0 or abs(slopes) > Fraction(1, 10**4),
            "nearly, but not exactly: a fraction made of a rounded number is rounded too",
        )
        expect(
            slopes == 0,
            "over one round the three displacements add up to zero, and so do the velocities; "
            "therefore the three slopes must too, and yours do not",
        )
    return claims.points


def hump(hump, settled) -> float:
    """Check part E on a run that can be read."""
    claims = Claims()
    errors = np.array([2.0, -6.0, 0.1, 4.0, 0.1, -0.15, 0.05])
    with claims(1, "the hump: how high, and when"):
        found = answer(hump, errors)
        expect(
            isinstance(found, tuple | list) and len(found) == 2,
            "hump should return a pair, the height and the step",
        )
        height, when = found
        expect(not close(when, 3), "−6 is larger in size than 4: an error may be negative")
        expect(not close(height, 6.0), "the height is relative to the first error, here 2")
        expect(
            close(height, 3.0) and close(when, 1),
            "for the errors 2, −6, 0.1, 4, … the largest is 3 times the first, at step 1",
        )
    with claims(1, "settled means: it does not come back"):
        found = answer(settled, errors, 0.1)
        expect(
            not close(found, 1), "at step 1 the error is −6: small is meant without regard to sign"
        )
        expect(
            not close(found, 2),
            "at step 2 the error is small for the first time, but at step 3 it is large again",
        )
        expect(
            not close(found, 3),
            "at step 3 the error is still too large; the first settled step is the one after",
        )
        expect(
            close(found, 4),
            "for the errors 2, −6, 0.1, 4, 0.1, −0.15, 0.05 and the share 0.1, all from step 4 on "
            "are at most 0.2 in size, and that of step 3 is not",
        )
    return claims.points

"""The checks of problem set 2 that run at grading: other numbers, the same tasks.

It rests on NumPy, on ngs.course and on the module of visible checks, which the grader puts back.
"""

import numpy as np
from ps2_checks import own_bowl, own_valley, three_points

from ngs.course import Claims, answer, close, expect, number


def path(heavy_ball) -> float:
    """Check part A on a bowl in general position, on integers, and off bowls."""
    claims = Claims()
    rng = np.random.default_rng(1)
    Q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    A = Q @ np.diag([0.5, 2.0, 7.0, 9.0]) @ Q.T
    start = rng.normal(size=4)
    with claims(1, "on any bowl the path is that of heavy ball"):
        found = np.asarray(answer(heavy_ball, lambda x: A @ x, start, 0.15, 0.7, 25), float)
        theta, velocity, right = start, np.zeros(4), [start]
        for _ in range(25):
            velocity = 0.7 * velocity - 0.15 * A @ theta
            theta = theta + velocity
            right.append(theta)
        expect(
            close(found, right),
            "each displacement should be β times the one before it, less η times the gradient at "
            "the iterate",
        )
    with claims(1, "no steps, a start given as integers, and rest at every start"):
        found = answer(heavy_ball, lambda x: A @ x, start, 0.15, 0.7, 0)
        expect(close(found, start[None]), "with 0 steps the path should be the start alone")
        for _ in range(2):
            found = answer(heavy_ball, lambda x: 0.5 * x, np.array([1, 3]), 1.0, 0.5, 3)
            expect(
                close(found, [[1, 3], [0.5, 1.5], [0, 0], [-0.25, -0.75]]),
                "from the start (1, 3) of integers, with f = ¼‖θ‖², η = 1 and β = ½, the path "
                "should be (1, 3), (½, 1½), (0, 0), (−¼, −¾), whatever was run before",
            )
    with claims(1, "where the function is no bowl, too"):
        asked = []

        def grad(x):
            asked.append(np.array(x, float))
            return np.sin(x)

        found = np.asarray(answer(heavy_ball, grad, start, 0.3, 0.8, 6), float)
        expect(len(asked) == 6, f"6 steps should ask for 6 gradients; yours asked for {len(asked)}")
        expect(close(asked, found[:-1]), "the gradient of step t should be taken at θₜ")
        moves = np.diff(found, axis=0)
        expect(
            close(moves[1:], 0.8 * moves[:-1] - 0.3 * np.sin(found[1:-1])),
            "each displacement should be β times the one before it, less η times the gradient",
        )
    return claims.points


def matrix(step_matrix, spectral_radius) -> float:
    """Check part B against the method, and in every case of the rate."""
    claims = Claims()
    with claims(1, "powers of the matrix are runs of heavy ball"):
        for eigenvalue in (0.2, 3.0, 40.0):
            for momentum in (0.0, 0.37, 0.95):
                found = np.asarray(answer(step_matrix, eigenvalue, 0.045, momentum), float)
                error, velocity = -1.3, 0.4
                for _ in range(5):
                    velocity = momentum * velocity - 0.045 * eigenvalue * error
                    error += velocity
                expect(
                    found.shape == (2, 2)
                    and close(np.linalg.matrix_power(found, 5) @ [-1.3, 0.4], [error, velocity]),
                    "the fifth power of the matrix, applied to (e₀, v₀), should be (e₅, v₅)",
                )
    with claims(1, "the spectral radius: complex, real, stable or not"):
        for x, beta, case in (
            (1.0, 0.64, "a complex pair"),
            (0.004, 0.64, "two positive eigenvalues"),
            (3.26, 0.64, "two negative eigenvalues"),
            (3.3, 0.64, "beyond the limit 2(1 + β) of stability"),
            (0.3, 0.0, "no momentum"),
        ):
            disc = (1 + beta - x) ** 2 - 4 * beta
            right = (abs(1 + beta - x) + np.sqrt(max(disc, 0))) / 2 if disc > 0 else np.sqrt(beta)
            M = np.array([[1 - x, beta], [-x, beta]])
            expect(
                close(answer(spectral_radius, M), right, rtol=1e-6),
                f"the largest modulus of the eigenvalues is another one (the case: {case})",
            )
        large = np.diag([0.2, -0.3, 0.1]) + np.triu(np.full((3, 3), 5.0), 1)
        expect(close(answer(spectral_radius, large), 0.3), "any square matrix may come, 3×3 too")
    return claims.points


def by_hand(given: dict) -> float:
    """Check the rest of part C against the numbers of the student's account."""
    claims = Claims()
    bowl = own_bowl(given.get("student_id", ""))
    rho = (np.sqrt(bowl.L) - np.sqrt(bowl.mu)) / (np.sqrt(bowl.L) + np.sqrt(bowl.mu))
    slow = (bowl.L - bowl.mu) / (bowl.L + bowl.mu)
    with claims(1, "momentum_best and rate_best"):
        momentum = number(given.get("momentum_best"), "momentum_best")
        rate = number(given.get("rate_best"), "rate_best")
        expect(
            not close([momentum, rate], [rho, rho**2], rtol=1e-3),
            "the two are exchanged: which of them is the modulus of a complex pair?",
        )
        expect(
            not close(momentum, rho, rtol=1e-3),
            "what you give as momentum_best is the rate of the best pair, not its coefficient",
        )
        expect(
            close(momentum, rho**2, rtol=1e-3),
            "momentum_best should be that of the best pair, for the numbers of your account",
        )
        expect(
            not close(rate, rho**2, rtol=1e-3),
            "what you give as rate_best is the coefficient; the rate is the modulus of the pair",
        )
        expect(close(rate, rho, rtol=1e-3), "rate_best should be the rate of the best pair")
    with claims(1, "gd_steps and hb_steps"):
        for name, right in (("gd_steps", slow), ("hb_steps", rho)):
            found, exact = number(given.get(name), name), np.log(1000) / -np.log(right)
            expect(
                abs(found - exact / 2) > 1,
                f"{name} is right for a gap, which is a square; here the factor itself counts",
            )
            expect(
                found in (np.ceil(exact - 0.02), np.ceil(exact + 0.02)),
                f"{name} should be the smallest k with ρᵏ at most a thousandth, a whole number",
            )
    with claims(1, "flattest and steepest"):
        edges = [number(given.get(name), name) for name in ("flattest", "steepest")]
        right = (1 + np.array([-1, 1]) * np.sqrt(bowl.momentum)) ** 2
        expect(
            not close(edges, right, rtol=1e-3),
            "those are the edges for ηλ; an eigenvalue is asked for",
        )
        expect(
            close(edges, right / bowl.lr, rtol=1e-3)
            and close(edges[0], right[0] / bowl.lr, rtol=1e-3),
            "at both edges the discriminant is zero, with the pair that somebody uses",
        )
    with claims(1, "rate_flat"):
        trace = 1 + bowl.momentum - bowl.lr * bowl.mu
        right = (trace + np.sqrt(trace**2 - 4 * bowl.momentum)) / 2
        found = number(given.get("rate_flat"), "rate_flat")
        expect(
            not close(found, np.sqrt(bowl.momentum), rtol=1e-3),
            "is your flattest direction on the plateau? Compare it with your own edge",
        )
        expect(
            not close(found, 1 - bowl.lr * bowl.mu, rtol=1e-3),
            "that is the factor of gradient descent; with momentum this direction is faster",
        )
        expect(
            not close(found, 2 * right, rtol=1e-3) and found < 1,
            "a rate above 1 would diverge; is a factor ½ lost?",
        )
        expect(
            close(found, right, rtol=1e-3),
            "off the plateau both eigenvalues are real, and the rate is the larger of the two",
        )
    with claims(1, "lr_limit"):
        found = number(given.get("lr_limit"), "lr_limit")
        expect(
            not close(found, 2 / bowl.L, rtol=1e-3, atol=0),
            "that is the limit of gradient descent; momentum allows more",
        )
        expect(
            not close(found, 2 * (1 + bowl.momentum) / bowl.mu, rtol=1e-3),
            "the steepest direction decides, not the flattest",
        )
        expect(
            close(found, 2 * (1 + bowl.momentum) / bowl.L, rtol=1e-3, atol=0),
            "at the limit the characteristic polynomial has a zero at −1, in one direction of the "
            "bowl; it is not so at yours, with their momentum coefficient",
        )
    return claims.points


def circle(three_pieces, period) -> float:
    """Check part D on other corners, and on tails that deceive."""
    claims = Claims()
    with claims(1, "any curvatures and any corners"):
        for L, mu, first, second in ((7.5, 0.5, 0.4, 1.6), (30.0, 4.0, 2.5, 2.75)):
            slope = answer(three_pieces, L, mu, first, second)
            for theta in (-3.0, 0.0, 0.3, first, 0.9, 1.7, 2.6, second, 9.0):
                middle = min(max(theta, first), second) - first
                right = L * theta - (L - mu) * middle
                expect(
                    close(np.asarray(slope(theta), float), right),
                    "the slope should have the curvatures and corners that it is given",
                )
                expect(
                    close(np.ravel(slope(np.array([theta]))), [right]),
                    "the slope of an array of shape (1,) should be that of its number",
                )
    with claims(1, "tails that deceive"):
        rng = np.random.default_rng(5)
        both = np.stack([np.tile([0.0, 1.0], 30), np.tile([0.0, 1.0, 5.0], 20)], axis=1)
        expect(
            close(answer(period, both, 8), 6),
            "where one entry has the period 2 and another 3, the run should have the period 6",
        )
        for p in (1, 4, 7):
            points = np.tile(rng.normal(size=(p, 3)), (40 // p + 1, 1))[:40]
            points[:15] = rng.normal(size=(15, 3))
            expect(
                close(answer(period, points, 7), p),
                f"a tail of the period {p} should be found to have it, whatever came before",
            )
        often = np.tile([2.0, 2.0, 2.0, 2.0, 3.0], 12)[:-1, None]
        expect(
            close(answer(period, often, 5), 5),
            "2, 2, 2, 2, 3 over and over should have the period 5",
        )
        expect(
            close(answer(period, often, 4), 0),
            "a period above the longest that is looked for should not be found: 0",
        )
        expect(
            close(answer(period, rng.normal(size=(50, 2)), 12), 0),
            "a run that never repeats itself should give 0",
        )
        slow = 0.99 ** np.arange(60.0)[:, None]
        expect(
            close(answer(period, slow, 10), 0),
            "a run that still moves, however slowly, does not rest yet",
        )
    return claims.points


def fractions(given: dict) -> float:
    """Check the circle by running heavy ball on fractions."""
    claims = Claims()
    valley = own_valley(given.get("student_id", ""))
    with claims(1, "three steps of heavy ball lead back, exactly"):
        points = three_points(given)
        expect(len(set(points)) == 3, "the three points should be different")

        def closes(points):
            for now, before, after in zip(
                points, points[-1:] + points[:-1], points[1:] + points[:1], strict=True
            ):
                middle = min(max(now, valley.first), valley.second) - valley.first
                slope = valley.L * now - (valley.L - valley.mu) * middle
                if after != now + valley.momentum * (now - before) - valley.lr * slope:
                    return False
            return True

        expect(
            not closes(points[::-1]),
            "the three points are right, but the method visits them in the other order",
        )
        expect(
            closes(points),
            "from each point, with the velocity that led to it, one step should lead to the next",
        )
    return claims.points


def hump(hump, settled) -> float:
    """Check part E on runs that swing."""
    claims = Claims()
    steps = np.arange(200)
    swing = 0.95**steps * np.cos(0.7 * steps)
    wall = (1 + 1.9 * steps) * (-0.9) ** steps
    with claims(1, "humps, high and none"):
        for errors in (wall, -3 * wall, swing, 1e-8 * wall, -5 * 0.9**steps, [-1.0, 2.0, -2.0]):
            sizes = np.abs(np.array(errors)) / abs(errors[0])
            found = answer(hump, np.array(errors))
            expect(
                isinstance(found, tuple | list)
                and len(found) == 2
                and close(found[0], sizes.max())
                and close(found[1], int(np.flatnonzero(sizes == sizes.max())[0])),
                "the height is the largest error over the first, in size, with the first step at "
                "which it is reached; where nothing grows, 1 at step 0",
            )
    with claims(1, "settled, where a run swings"):
        for errors, share in ((swing, 0.05), (-4 * swing, 0.3), (wall, 1e-3), (wall, 2.5)):
            small = np.abs(errors) <= share * abs(errors[0])
            expect(
                close(answer(settled, errors, share), max(np.flatnonzero(~small)) + 1),
                "from the step that you return on, no error of the run should be larger than the "
                "share, and the one before it should",
            )
        expect(
            close(answer(settled, -(0.9**steps), 1.0), 0),
            "a run that is never above the share is settled from step 0 on",
        )
    return claims.points

"""The checks of problem set 3 that run at grading: other numbers, the same tasks.

It rests on NumPy, on ngs.course and on the module of visible checks, which the grader puts back.
"""

import numpy as np
from ps3_checks import FOUR_DECIMALS, Spy, enough, own_run, two_arrays, verdict

from ngs.course import Claims, answer, array, close, expect, number


def _rotated(spectrum, seed):
    """Return a symmetric matrix with these eigenvalues, not along the axes."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(len(spectrum), len(spectrum))))
    return Q @ np.diag(spectrum) @ Q.T


def _nesterov(grad, start, lr, momentum, steps):
    """Return the look-ahead points and the iterates, both with the last one."""
    theta = np.array(start, dtype=float)
    velocity, ahead, path = np.zeros_like(theta), [], []
    for t in range(steps + 1):
        ahead.append(theta + momentum(t) * velocity)
        path.append(theta)
        velocity = momentum(t) * velocity - lr * grad(ahead[-1])
        theta = theta + velocity
    return np.array(ahead), np.array(path)


def _lambdas(k):
    """Return λ₀, ..., λₖ."""
    lam = [0.0]
    for _ in range(k):
        lam.append((1 + (1 + 4 * lam[-1] ** 2) ** 0.5) / 2)
    return np.array(lam)


def _moving(t):
    """Return a momentum that rises, and is not 0 at the start."""
    return 0.9 * (t + 2) / (t + 5)


def by_hand(given: dict) -> float:
    """Check the rest of part A against the numbers of the student's account."""
    claims = Claims()
    with claims(1, "the second step"):
        run = own_run(given.get("student_id", ""))
        pull, beta = run.lr * run.curvature, run.momenta[1]
        v_1 = -pull * run.start
        theta_1 = run.start + v_1
        braked = beta * v_1 - pull * (theta_1 + beta * v_1)
        v_2, theta_2 = number(given.get("v_2"), "v_2"), number(given.get("theta_2"), "theta_2")
        expect(
            not close(v_2, beta * v_1 - pull * theta_1, atol=FOUR_DECIMALS),
            "in v_2 the gradient is that at θ₁: so steps the heavy ball. Take it where you look",
        )
        expect(
            not close(v_2, beta * v_1 - pull * run.start, atol=FOUR_DECIMALS),
            "in v_2 the gradient is that of the first step again: take it at y₁",
        )
        expect(
            not close(v_2, beta * v_1 + pull * (theta_1 + beta * v_1), atol=FOUR_DECIMALS),
            "in v_2 the gradient has the wrong sign",
        )
        expect(
            close(v_2, braked, atol=FOUR_DECIMALS),
            "v_2 should be the share β₁ of v₁, less a step along the gradient at y₁",
        )
        expect(
            close(theta_2, theta_1 + v_2, atol=2 * FOUR_DECIMALS),
            "θ₂ should be θ₁ moved by v₂",
        )
    with claims(1, "the third step, from your second"):
        run = own_run(given.get("student_id", ""))
        pull, beta = run.lr * run.curvature, run.momenta[2]
        theta_2, v_2 = number(given.get("theta_2"), "theta_2"), number(given.get("v_2"), "v_2")
        expect(
            min(abs(theta_2), abs(v_2)) > 0.01 * run.start,
            "the third step is judged from your second, whose numbers should not be 0",
        )
        ahead = theta_2 + beta * v_2
        y_2, v_3, theta_3 = (number(given.get(name), name) for name in ("y_2", "v_3", "theta_3"))
        expect(
            close(y_2, ahead, atol=FOUR_DECIMALS),
            "y_2 should lie ahead of your θ₂ by the share β₂ of your v₂",
        )
        expect(
            not close(v_3, beta * v_2 - pull * theta_2, atol=FOUR_DECIMALS),
            "in v_3 the gradient is that at θ₂: so steps the heavy ball. Take it where you look",
        )
        expect(
            close(v_3, beta * v_2 - pull * ahead, atol=FOUR_DECIMALS),
            "v_3 should be the share β₂ of your v₂, less a step along the gradient at y₂",
        )
        expect(
            close(theta_3, theta_2 + v_3, atol=FOUR_DECIMALS), "θ₃ should be your θ₂ moved by v₃"
        )
    with claims(1, "brake, from your v_2"):
        run = own_run(given.get("student_id", ""))
        pull = run.lr * run.curvature
        found, right = number(given.get("brake"), "brake"), pull**2 * run.momenta[1] * run.start
        heavy = pull * run.start * (pull - 1 - run.momenta[1])
        v_2 = number(given.get("v_2"), "v_2")
        expect(
            not close(found, -right, atol=FOUR_DECIMALS),
            "the size of brake is right; it is v₂ less the heavy ball's velocity, so look at its "
            "sign",
        )
        expect(
            close(found, right, atol=FOUR_DECIMALS)
            or (
                abs(v_2 - heavy) > 3 * FOUR_DECIMALS
                and close(found, v_2 - heavy, atol=FOUR_DECIMALS)
            ),
            "the first steps are the same; in the second the heavy ball takes its gradient at θ₁, "
            "and Nesterov's method further ahead",
        )
    return claims.points


def look_ahead(nesterov) -> float:
    """Check part B on bowls in general position, and on a function that is none."""
    claims = Claims()
    A = _rotated([0.5, 2.0, 7.0, 9.0], seed=31)
    start = np.random.default_rng(32).normal(size=4)
    with claims(1, "on any bowl, under a moving momentum, the iterates are Nesterov's"):
        found = answer(nesterov, lambda x: A @ x, start, 0.1, _moving, 25)
        found = array(found, (26, 4), "25 steps in 4 dimensions give θ₀ to θ₂₅, which")
        right = _nesterov(lambda x: A @ x, start, 0.1, _moving, 25)[1]
        expect(close(found[0], start), "the first row should be the start θ₀")
        expect(
            close(found[1], right[1]),
            "the method starts at rest: its first step should be one of gradient descent, "
            "whatever β₀ is",
        )
        expect(
            close(found, right),
            "the iterates should be those of the look-ahead form, with βₜ at step t, in the "
            "look-ahead and in the velocity",
        )
    with claims(1, "one gradient a step, at the look-ahead point, whatever the function"):
        spy = Spy(np.sin)
        answer(nesterov, spy, start, 0.3, lambda t: 0.7, 8)
        expect(
            len(spy.asked) == 8,
            f"8 steps should ask for 8 gradients; yours asked for {len(spy.asked)}",
        )
        right = _nesterov(np.sin, start, 0.3, lambda t: 0.7, 8)[0]
        expect(
            close(spy.asked, right[:-1]),
            "the gradient of step t should be taken at the look-ahead point yₜ of that step",
        )
    with claims(1, "no steps, and a start given as integers"):
        found = answer(nesterov, lambda x: A @ x, start, 0.1, _moving, 0)
        expect(close(found, start[None]), "with 0 steps the path should be the start alone")
        found = answer(nesterov, lambda x: 0.5 * x, np.array([1, 3]), 0.5, lambda t: 0.5, 1)
        expect(
            close(found, [[1, 3], [0.75, 2.25]]),
            "from the start (1, 3) of integers, the first step should leave three quarters of it",
        )
    return claims.points


def stored(stored_step, nesterov_stored) -> float:
    """Check part C against the look-ahead form, while the momentum moves."""
    claims = Claims()
    A = _rotated([0.4, 1.0, 5.0], seed=33)
    rng = np.random.default_rng(34)
    start, velocity, slope = rng.normal(size=(3, 3))
    names = "the look-ahead points y₀ to y₂₀", "the iterates θ₀ to θ₂₀"
    run = start, 0.15, _moving, 20
    right_ahead, right_path = _nesterov(lambda x: A @ x, *run)

    with claims(1, "while the momentum moves: the look-ahead points, and a step from anywhere"):
        ahead, _ = two_arrays(answer(nesterov_stored, lambda x: A @ x, *run), (21, 3), *names)
        expect(
            close(ahead, right_ahead),
            "your look-ahead points should be those of the look-ahead form, under every momentum",
        )
        found = answer(stored_step, start, velocity, slope, 0.3, 0.9, 0.35)
        moved, kept = two_arrays(found, (3,), "the next look-ahead point", "the next velocity")
        new = 0.9 * velocity - 0.3 * slope
        expect(
            close(kept, new) and close(moved, start - 0.9 * velocity + 1.35 * new),
            "a step should agree with one of the look-ahead form, from every point and velocity",
        )
    with claims(1, "while the momentum moves: the iterates"):
        _, path = two_arrays(answer(nesterov_stored, lambda x: A @ x, *run), (21, 3), *names)
        expect(
            not close(path, right_ahead),
            "your iterates are the look-ahead points again: get θₜ back from yₜ and vₜ",
        )
        expect(
            close(path, right_path),
            "θₜ should lie behind yₜ by the share βₜ of vₜ, with the t of both",
        )
    with claims(1, "one gradient a step, at the point that is kept; no steps"):
        spy = Spy(np.sin)
        found = answer(nesterov_stored, spy, start, 0.3, _moving, 6)
        names = "the look-ahead points y₀ to y₆", "the iterates θ₀ to θ₆"
        ahead, _ = two_arrays(found, (7, 3), *names)
        expect(
            len(spy.asked) == 6,
            f"6 steps should ask for 6 gradients; yours asked for {len(spy.asked)}",
        )
        expect(
            close(spy.asked, ahead[:-1]),
            "the gradient of step t should be taken at yₜ, the point that you keep",
        )
        expect(np.any(ahead[1:] != ahead[0]), "the point that you keep should move")
        found = answer(nesterov_stored, lambda x: A @ x, start, 0.3, _moving, 0)
        names = "with 0 steps the look-ahead points", "with 0 steps the iterates"
        ahead, path = two_arrays(found, (1, 3), *names)
        expect(
            close(ahead[0], start) and close(path[0], start),
            "with 0 steps both arrays should hold the start alone",
        )
    return claims.points


def sequence(nesterov_lambda, nesterov_momentum) -> float:
    """Check λₖ and βₜ further along."""
    claims = Claims()
    with claims(1, "λₖ and βₜ, for any k and t"):
        lam = _lambdas(151)
        for k in (5, 40, 150):
            found = number(answer(nesterov_lambda, k), f"nesterov_lambda({k})")
            expect(close(found, lam[k]), "λₖ should come from the recursion, for every k")
            found = number(answer(nesterov_momentum, k), f"nesterov_momentum({k})")
            expect(
                close(found, (lam[k] - 1) / lam[k + 1]),
                "βₜ should be made of λₜ and λₜ₊₁, for every t",
            )
    return claims.points


def promise(bound, steps_for) -> float:
    """Check the bound for any L, R and k, and the number of steps that it asks for."""
    claims = Claims()
    lam = _lambdas(120)
    with claims(1, "the bound for any L, R and k"):
        for k in (1, 7, 60):
            found = number(answer(bound, 3.7, 2.3, k), f"bound(3.7, 2.3, {k})")
            expect(
                close(found, 3.7 * 2.3**2 / 2 / lam[k] ** 2),
                "L should enter once, R squared, and the weight of the gap after k steps",
            )
    with claims(1, "the smallest number of steps, for any gap, by your bound"):
        enough(bound, steps_for, 3.7, 2.3, 2)
        enough(bound, steps_for, 3.7, 2.3, 90)
    return claims.points


def never_growing(potential, never_grows) -> float:
    """Check part E on numbers in general position."""
    claims = Claims()
    with claims(1, "the potential of any run"):
        rng = np.random.default_rng(35)
        k, lam = 12, _lambdas(12)
        path, star, gaps = rng.normal(size=(k + 1, 5)), rng.normal(size=5), rng.random(k + 1)
        found = answer(potential, gaps, path, lam, star, 2.6)
        found = array(found, (k + 1,), "the potentials Φ₀ to Φ₁₂")
        anchors = [path[0]]
        anchors += [path[i] + (lam[i] - 1) * (path[i] - path[i - 1]) for i in range(1, k + 1)]
        distances = np.sum((np.array(anchors) - star) ** 2, axis=1)
        expect(
            close(found, lam**2 * gaps + 1.3 * distances),
            "each Φₖ should be the weighted gap and L/2 times the squared distance of the anchor",
        )
    with claims(1, "rounding does not count, every real rise does"):
        verdict(never_grows, [5.0, 5.0 + 1e-12, 4.0], True, "a rise of 1e-12 is rounding")
        verdict(never_grows, [2e-6, 1e-6, 1.1e-6], False, "2e-6, 1e-6, 1.1e-6 grows")
        falling = list(1 / np.arange(1.0, 40.0))
        verdict(never_grows, falling, True, "1, 1/2, 1/3, … never grows")
        verdict(never_grows, [*falling[:20], 0.06, *falling[21:]], False, "one rise among 39 grows")
    return claims.points

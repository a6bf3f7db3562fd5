"""The checks of problem set 4 that run at grading: other numbers, the same tasks.

It rests on NumPy, on ngs.course and on the module of visible checks, which the grader puts back.
"""

import numpy as np
from ps4_checks import own_values, recorded, run_of

from ngs.course import Claims, answer, array, close, expect, number, pair


def _rotated(spectrum, seed):
    """Return a symmetric matrix with these eigenvalues, not along the axes."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(len(spectrum), len(spectrum))))
    return Q @ np.diag(spectrum) @ Q.T


def schedules(momentum_at, lr_at) -> float:
    """Check part A at every step of other runs."""
    claims = Claims()
    with claims(1, "momentum at every step, the drop included"):
        for steps, stair, maximum, last, final in ((41, 7, 0.86, 6, 0.3), (24, 5, 0.99, 0, 0.1)):
            found = [
                answer(momentum_at, t, steps, stair, maximum, last, final) for t in range(steps)
            ]
            stairs = 1 - 0.5 / (1 + np.arange(steps) // stair)
            right = np.minimum(stairs, maximum)
            right[steps - last :] = final
            found = array(found, (steps,), "the coefficients of all steps")
            expect(
                close(found[: steps - last], right[: steps - last]),
                "the stairs, up to the maximum, should last until the last steps begin",
            )
            expect(
                close(found, right), "exactly the last `last` steps of the run should have `final`"
            )
    with claims(1, "learning rates at every step"):
        # Long and short warm-ups, and a run whose decay is one step long.
        for steps, peak, warmup, final in (
            (50, 0.3, 11, 0.004),
            (23, 4.0, 1, 0.0),
            (7, 1.0, 6, 0.5),
        ):
            found = [answer(lr_at, t, steps, peak, warmup, final) for t in range(steps)]
            found = array(found, (steps,), "the learning rates of all steps")
            shown = f"{steps} steps and a warm-up of {warmup}"
            up = peak * np.arange(1, warmup + 1) / warmup
            expect(
                close(found[:warmup], up),
                f"with {shown} the warm-up should end with the peak, evenly",
            )
            angles = np.linspace(0.0, np.pi, steps - warmup + 1)
            down = (peak + final) / 2 + (peak - final) / 2 * np.cos(angles)
            expect(
                close(found[warmup - 1 :], down),
                f"with {shown} the decay should go from the last step of the warm-up to the last "
                "step of the run, along half a cosine",
            )
    return claims.points


def gain(effective_steps, momentum_for) -> float:
    """Check part B with schedules that move at every step."""
    claims = Claims()
    rng = np.random.default_rng(11)
    lrs, betas = rng.uniform(0.01, 2.0, 30), rng.uniform(0.0, 0.99, 30)
    with claims(1, "effective steps while both schedules move"):
        found = answer(effective_steps, lambda t: lrs[t], lambda t: betas[t], 30)
        ours, theirs = pair(found, "the effective steps of the velocity and of PyTorch's form")
        # By the weights of Chapter 7: each old gradient times all coefficients since.
        weights = [np.append(np.cumprod(betas[t:0:-1])[::-1], 1.0) for t in range(30)]
        expect(
            close(
                array(ours, (30,), "the first"), [w @ lrs[: t + 1] for t, w in enumerate(weights)]
            ),
            "each gradient should count with the rate of its own step and all coefficients since",
        )
        expect(
            close(
                array(theirs, (30,), "the second"),
                [lrs[t] * w.sum() for t, w in enumerate(weights)],
            ),
            "PyTorch's form should count all gradients with the learning rate of today",
        )
    with claims(1, "coefficients for gains that rise and fall"):
        for gains in (
            np.concatenate([[1.0], rng.uniform(1.0, 9.0, 20)]),
            1 + 19 * np.sin(np.linspace(0.0, np.pi, 60)) ** 2,
        ):
            found = array(answer(momentum_for, gains), gains.shape, "the coefficients")
            made = [1.0]
            for beta in found[1:]:
                made.append(1 + beta * made[-1])
            expect(close(made, gains), "the recursion Γₜ = 1 + βₜΓₜ₋₁ should give back the gains")
            expect(close(found[0], 0.0), "β₀ should be 0")
    return claims.points


def _reference(grad, start, lr, momentum, steps, keeps_clock=False):
    theta, restarts, clock = np.array(start, float), [], 0
    path, velocity = [theta], 0 * theta
    for t in range(steps):
        beta = momentum(clock)
        g = grad(theta + beta * velocity)
        velocity, clock = beta * velocity - lr * g, clock + 1
        theta = theta + velocity
        path.append(theta)
        if g @ velocity > 0:
            velocity, clock = 0 * theta, clock if keeps_clock else 0
            restarts.append(t)
    return np.array(path), restarts


def restart(minimize_with_restart) -> float:
    """Check part C in five directions, with a clock, and on what is no bowl."""
    claims = Claims()
    A = _rotated([0.02, 0.1, 0.3, 0.6, 1.0], seed=5)
    start = np.random.default_rng(6).normal(size=5)

    def bowl(theta):
        return A @ theta

    with claims(1, "restarts and iterates in five directions"):
        path, restarts = run_of(minimize_with_restart, bowl, start, 0.8, lambda clock: 0.93, 120)
        right, at = _reference(bowl, start, 0.8, lambda clock: 0.93, 120)
        expect(
            restarts == at,
            "with a constant coefficient a restart should follow the steps with ⟨gₜ, vₜ₊₁⟩ > 0",
        )
        expect(
            close(path, right, rtol=1e-6),
            "between restarts the path should be that of Nesterov's method, each time from rest",
        )
    with claims(1, "the clock starts again with the run"):

        def rising(clock):
            return 0.97 * clock / (clock + 3.0)

        path, restarts = run_of(minimize_with_restart, bowl, start, 0.8, rising, 200)
        late = _reference(bowl, start, 0.8, rising, 200, keeps_clock=True)
        expect(
            restarts != late[1],
            "after a restart the clock should show 0 again; yours goes on",
        )
        right, at = _reference(bowl, start, 0.8, rising, 200)
        expect(
            restarts == at and close(path, right, rtol=1e-6),
            "a step should use momentum(clock), with the steps since the start or the last restart",
        )
    with claims(1, "one gradient a step, at the look-ahead point; no steps, integers, a minimum"):
        grad, seen = recorded(np.sin)
        path, _ = run_of(
            minimize_with_restart, grad, start, 0.3, lambda clock: 0.8, 9, restart=False
        )
        expect(len(seen) == 9, f"9 steps should ask for 9 gradients; yours asked for {len(seen)}")
        before = np.concatenate([[start], path[:-2]])
        ahead = path[:-1] + 0.8 * (path[:-1] - before)
        expect(close([y for y, _ in seen], ahead), "every gradient should be taken at yₜ")
        path, restarts = run_of(minimize_with_restart, bowl, start, 0.8, lambda clock: 0.9, 0)
        expect(
            close(path, start[None]) and restarts == [],
            "with 0 steps the path should be the start alone, without a restart",
        )
        path, _ = run_of(
            minimize_with_restart, lambda x: 0.5 * x, np.array([4, -8]), 1.0, lambda clock: 0.0, 2
        )
        expect(
            close(path, [[4, -8], [2, -4], [1, -2]]),
            "from a start of integers, with β = 0, every step should leave half of the error",
        )
        _, restarts = run_of(minimize_with_restart, bowl, np.zeros(5), 0.8, lambda clock: 0.9, 5)
        expect(restarts == [], "at a minimum no step goes uphill, and nothing should restart")
    return claims.points


def factor(next_factor, train_with_factor) -> float:
    """Check part D at any angle, without an angle, and on a bowl."""
    claims = Claims()
    rng = np.random.default_rng(8)
    with claims(1, "at any angle and of any length"):
        for _ in range(20):
            g, d = rng.normal(size=(2, 4)) * np.exp(rng.uniform(-4, 4, size=(2, 1)))
            factor, gain, target = np.exp(rng.normal()), rng.uniform(0.1, 2), rng.uniform(-0.5, 0.3)
            found = number(answer(next_factor, factor, g, d, gain, target), "the next factor")
            cosine = g @ d / np.sqrt((g @ g) * (d @ d))
            expect(
                close(np.log(found / factor), gain * (cosine - target), atol=1e-8),
                "ln α should move by γ times how far the cosine is above its target",
            )
    with claims(1, "without an angle the factor stays"):
        g, zero = np.array([1.0, -2.0, 0.5]), np.zeros(3)
        for one, other in ((g, zero), (zero, g), (zero, zero)):
            found = number(answer(next_factor, 0.7, one, other, 0.4, -0.2), "the next factor")
            expect(close(found, 0.7), "with a zero vector the factor should stay as it is")
    with claims(1, "a run on a bowl, with a rule that looks at what it is given"):
        A, start = _rotated([0.1, 0.5, 1.0], seed=9), rng.normal(size=3)

        def rule(factor, grad, direction):
            return factor * (1.0 + 0.2 * np.tanh(grad @ direction)) + 0.01

        for momentum in (0.0, 0.8):
            theta, velocity, now = start, np.zeros(3), 1.0
            path, factors = [theta], []
            for _ in range(25):
                g = A @ (theta + momentum * velocity)
                now = rule(now, g, -velocity)
                velocity = momentum * velocity - now * 0.2 * g
                theta = theta + velocity
                path.append(theta)
                factors.append(now)
            found = answer(train_with_factor, lambda x: A @ x, start, 0.2, momentum, 25, rule)
            given, used = pair(found, "the iterates, and the factors")
            expect(
                close(array(used, (25,), "the factors"), factors, rtol=1e-6),
                f"with β = {momentum:g} the rule should get the last factor, the gradient at yₜ "
                "and the direction of the velocity before the step",
            )
            expect(
                close(array(given, (26, 3), "the path"), path, rtol=1e-6),
                f"with β = {momentum:g} the new factor should multiply the new gradient alone",
            )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the rest of part E against the numbers of the student's account."""
    claims = Claims()
    own = own_values(given.get("student_id", ""))
    with claims(1, "border"):
        found = number(given.get("border"), "border")
        right = own.momentum * np.dot(own.g, own.v) / np.dot(own.g, own.g)
        expect(
            not close(found, right / own.momentum, rtol=1e-3),
            "the old velocity counts with the momentum",
        )
        expect(
            close(found, right, rtol=1e-3),
            "at the border the old velocity lifts as much as the gradient step takes back",
        )
    with claims(1, "first_step"):
        found = number(given.get("first_step"), "first_step")
        stairs = np.ceil(1 / (2 * (1 - own.level)) - 1)
        expect(
            found != (stairs + 1) * own.stair,
            "that is where the stair ends: stairs are counted from m = 0",
        )
        expect(
            found == stairs * own.stair,
            "it is where the first stair begins that is at least as high as the level",
        )
    with claims(1, "factor"):
        found = number(given.get("factor"), "factor")
        above = np.cos(np.radians(own.angles)) - own.target
        expect(
            not close(found, np.exp(own.gain * np.sum(above + 2 * own.target)), rtol=1e-3),
            "look at the sign of the target",
        )
        expect(
            not close(found, np.exp(own.gain * np.sum(np.cos(own.angles) - own.target)), rtol=1e-3),
            "the angles are in degrees, your cosine took them for radians",
        )
        expect(
            close(found, np.exp(own.gain * np.sum(above)), rtol=1e-3),
            "three updates multiply; each has the cosine of its own angle",
        )
    with claims(1, "climb"):
        exact = np.log(own.ratio) / (own.gain * (own.cosine - own.target))
        expect(
            number(given.get("climb"), "climb") == np.ceil(exact),
            "each update adds the same to the logarithm of the factor; count until it is enough",
        )
    return claims.points

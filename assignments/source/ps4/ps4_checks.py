"""The checks of problem set 4 that students see. It rests on NumPy and on ngs.course."""

from typing import NamedTuple

import numpy as np

from ngs.course import Claims, answer, array, close, expect, number, own_numbers, pair


class Own(NamedTuple):
    """The numbers of part E: for a restart, for a schedule, and for a factor."""

    g: tuple[int, ...]
    v: tuple[int, ...]
    lr: float
    momentum: float
    stair: int
    level: float
    angles: tuple[int, ...]
    gain: float
    target: float
    cosine: float
    ratio: int


def own_values(student_id: str) -> Own:
    """Return the numbers of part E for one student."""
    numbers = own_numbers(student_id, "ps4-hand")
    while True:
        g = tuple(int(x) for x in numbers.integers(-4, 6, size=3))
        v = tuple(int(x) for x in numbers.integers(-4, 6, size=3))
        momentum = float(numbers.choice([0.8, 0.85, 0.9, 0.95]))
        lr = round(float(numbers.uniform(0.05, 0.4)), 2)
        downhill, square = momentum * np.dot(g, v), np.dot(g, g)
        if downhill > 2 and square > 5 and abs(downhill - lr * square) > 0.5:
            break
    stair = int(numbers.choice([40, 60, 80, 120, 150, 180]))
    level = _away_from_whole(numbers, lambda u: (u, 1 / (2 * (1 - u))), 0.8, 0.96)
    gain = round(float(numbers.uniform(0.1, 0.3)), 2)
    target = -float(numbers.choice([0.05, 0.1, 0.15, 0.2]))
    while True:
        angles = tuple(5 * int(x) for x in numbers.integers(5, 32, size=3))
        moves = gain * (np.cos(np.radians(angles)) - target)
        moved = np.sum(moves)
        wrong = gain * np.sum(np.cos(np.radians(angles)) + target)
        degrees = gain * np.sum(np.cos(angles) - target)
        # No mistake may come near the right factor: a sign, radians, one angle of the three,
        # adding in place of multiplying.
        apart = min(abs(moved - wrong), abs(moved - degrees), *abs(moved - moves))
        if apart > 0.01 and abs(moved) > 0.1 and np.sum(moves**2) > 0.01:
            break
    ratio = int(numbers.choice([100, 200, 500, 1000, 2000]))
    cosine = _away_from_whole(
        numbers, lambda u: (u, np.log(ratio) / (gain * (u - target))), 0.5, 0.95
    )
    return Own(g, v, lr, momentum, stair, level, angles, gain, target, cosine, ratio)


def _away_from_whole(numbers, count, low, high) -> float:
    """Draw a number whose count is not near a whole number, so that rounding up is safe."""
    while True:
        drawn = round(float(numbers.uniform(low, high)), 3)
        if 0.1 < count(drawn)[1] % 1 < 0.9:
            return drawn


def restart_steps(given) -> list[int]:
    """Return the steps after which a run restarted as a list of integers."""
    try:
        return [int(t) for t in given]
    except (TypeError, ValueError):
        expect(False, "the steps of the restarts should be a list of integers")


def recorded(function):
    """Return a function that does the same and keeps what it was given and what it answered."""
    seen = []

    def same(x):
        value = function(x)
        seen.append((np.array(x, dtype=float), np.array(value, dtype=float)))
        return value

    return same, seen


def schedules(momentum_at, lr_at) -> float:
    """Check part A where the schedules bend."""
    claims = Claims()

    def beta(t):
        return number(answer(momentum_at, t, 30, 6, 0.8, 5, 0.4), f"momentum_at at t = {t}")

    with claims(1, "momentum climbs a stair at a time, up to its maximum"):
        expect(close(beta(0), 0.5), "on the stair m = 0 the coefficient should be a half")
        expect(
            not close(beta(5), 0.75),
            "a stair has `stair` steps: the first one is t = 0 to stair − 1, yours ends earlier",
        )
        expect(
            close(beta(5), 0.5) and close(beta(6), 0.75),
            "with 6 steps a stair the second one should begin at t = 6, and 1 − β be halved there",
        )
        expect(close(beta(12), 0.8), "no coefficient should be above `maximum`")
        expect(close(beta(29), 0.4), "in the last step of the run momentum should be `final`")

    def rate(t):
        return number(answer(lr_at, t, 16, 2.0, 4, 0.2), f"lr_at at t = {t}")

    with claims(1, "the warm-up: its first step already moves, its last one has the peak"):
        expect(
            abs(rate(0)) > 1e-12,
            "at t = 0 yours has the learning rate 0: the line is at 0 one step before the run",
        )
        expect(
            close(rate(0), 0.5), "with 4 steps of warm-up, t = 0 should have a quarter of the peak"
        )
        expect(
            close(rate(1), 1.0) and close(rate(2), 1.5),
            "the warm-up should climb by the same amount in every step",
        )
        expect(
            close(rate(3), 2.0), "the last step of the warm-up, t = 3 of 4, should have the peak"
        )
    with claims(1, "the decay: half a cosine, which ends in the last step of the run"):
        end = rate(15)
        expect(
            not close(end, 0.2 + 1.8 * (1 + np.cos(1.0)) / 2),
            "at the end your angle is 1: half a turn is 180 degrees, and cos wants radians",
        )
        ends = [0.2 + 0.9 * (1 + np.cos(np.pi * x)) for x in (11 / 12, 11 / 13, 12 / 13, 12 / 14)]
        expect(
            not any(close(end, one) for one in ends),
            "of 16 steps the last one is t = 15; yours would reach `final` only after it",
        )
        expect(close(end, 0.2), "the last step of the run, t = 15 of 16, should have `final`")
        expect(
            close(rate(9), 1.1),
            "half-way from t = 3 to t = 15 the rate should be half-way from peak to final",
        )
        expect(
            rate(3) - rate(4) < rate(8) - rate(9),
            "half a cosine leaves the peak slowly; yours falls at once",
        )
    return claims.points


def gain(effective_steps, momentum_for) -> float:
    """Check part B in a run whose learning rate drops once."""
    claims = Claims()
    with claims(1, "a velocity keeps old learning rates, PyTorch's form does not"):
        what = "the effective steps of the velocity, and those of PyTorch's form"
        found = answer(effective_steps, lambda t: 2.0, lambda t: 0.5, 4)
        ours, theirs = (array(x, (4,), "each of the two") for x in pair(found, what))
        right = [2.0, 3.0, 3.5, 3.75]
        expect(
            not close(ours, [4.0] * 4),
            "that is the gain once it has settled; from rest the first step has the gain 1",
        )
        expect(
            close(ours, right),
            "with constant η and β the effective step should be η times the gain Γₜ of Chapter 7",
        )
        expect(
            close(theirs, right), "with a constant learning rate PyTorch's form should be the same"
        )
        found = answer(effective_steps, lambda t: 1.0 if t < 3 else 0.1, lambda t: 0.5, 4)
        ours, theirs = (array(x, (4,), "each of the two") for x in pair(found, what))
        expect(
            not (close(ours[3], 0.1875) and close(theirs[3], 0.975)),
            "these two are exchanged: the velocity comes first",
        )
        expect(
            close(ours, [1.0, 1.5, 1.75, 0.975]),
            "where the learning rate drops, the velocity keeps the old gradients at the old rate",
        )
        expect(
            close(theirs, [1.0, 1.5, 1.75, 0.1875]),
            "where the learning rate drops, PyTorch's form multiplies all gradients by the new one",
        )
    with claims(1, "coefficients that have the gains you ask for"):
        settled = np.array([1.0, 1.5, 1.75, 1.875, 1.9375])
        found = array(answer(momentum_for, settled), (5,), "the coefficients")
        expect(
            not close(found, 1 - 1 / settled),
            "with these the gain is right only where it stays the same for a long time",
        )
        expect(close(found[0], 0.0), "β₀ multiplies a zero velocity: it should be 0 here")
        expect(
            close(found, [0.0, 0.5, 0.5, 0.5, 0.5]),
            "the gains 1, 1.5, 1.75, … are those of the constant coefficient 0.5 from step 1 on",
        )
    return claims.points


def run_of(minimize_with_restart, grad, start, lr, momentum, steps, **how):
    """Return the iterates and the restarts of a run, as arrays and integers."""
    found = answer(minimize_with_restart, grad, start, lr, momentum, steps, **how)
    path, restarts = pair(found, "the iterates, and the steps of the restarts")
    path = array(path, (steps + 1, len(start)), f"the path of {steps} steps")
    return path, restart_steps(restarts)


def restart(minimize_with_restart) -> float:
    """Check part C on a bowl of two directions with a constant coefficient."""
    claims = Claims()
    curvatures, start = np.array([4.0, 1.0]), np.array([1.0, -2.0])

    def bowl(theta):
        return curvatures * theta

    def constant(clock):
        return 0.9

    with claims(1, "without restart it is Nesterov's look-ahead method"):
        path, restarts = run_of(
            minimize_with_restart, bowl, start, 0.05, constant, 6, restart=False
        )
        expect(close(path[0], start), "the first row should be the start θ₀")
        expect(
            close(path[1], start - 0.05 * bowl(start)),
            "the first step, from rest, should be a step of gradient descent",
        )
        q, heavy, ahead = 1 - 0.05 * curvatures, [start, path[1]], [start, path[1]]
        for _ in range(5):
            heavy.append(q * heavy[-1] + 0.9 * (heavy[-1] - heavy[-2]))
            ahead.append(q * (1.9 * ahead[-1] - 0.9 * ahead[-2]))
        expect(
            not close(path, heavy),
            "that is heavy ball: your gradient is taken at θₜ, not at the look-ahead point yₜ",
        )
        expect(
            close(path, ahead),
            "along an eigenvector θₜ₊₁ should be (1 − ηλ)((1 + β)θₜ − βθₜ₋₁)",
        )
        expect(restarts == [], "with restart=False there should be no restart")
    with claims(1, "it restarts after the steps that went uphill, and after no others"):
        grad, seen = recorded(bowl)
        path, restarts = run_of(minimize_with_restart, grad, start, 0.05, constant, 40)
        expect(
            len(seen) == 40,
            f"40 steps should ask for 40 gradients, the test for none; yours asked for {len(seen)}",
        )
        moves, used = np.diff(path, axis=0), np.array([g for _, g in seen])
        before = np.array([(y - x) for (y, _), x in zip(seen, path[:-1], strict=True)])
        after = np.sum(used * moves, axis=1)
        expect(
            restarts != np.flatnonzero(after < 0).tolist(),
            "yours restarts after the steps that went downhill: look at the sign of your test",
        )
        expect(
            restarts != np.flatnonzero(np.sum(used * before, axis=1) > 0).tolist(),
            "your test looks at the velocity before the step; that leaves out what the step did",
        )
        expect(
            restarts == np.flatnonzero(after > 0).tolist(),
            "a restart should come after the steps t with ⟨gₜ, vₜ₊₁⟩ > 0, with the gradient that "
            "step t used and the velocity that it made",
        )
    with claims(1, "after a restart the run starts from rest"):
        path, restarts = run_of(minimize_with_restart, bowl, start, 0.05, constant, 40)
        expect(close(path[0], start), "the first row should be the start θ₀")
        later = [t for t in restarts if 0 <= t < 39]
        expect(
            later, "on this bowl, with β = 0.9, some of 40 steps should be followed by a restart"
        )
        t = later[0]
        expect(
            close(path[t + 2], path[t + 1] - 0.05 * bowl(path[t + 1])),
            "the step after a restart should be one of gradient descent, for the velocity is zero",
        )
    return claims.points


def factor(next_factor, train_with_factor) -> float:
    """Check part D at right angles, and on a slope that is the same everywhere."""
    claims = Claims()
    g, along, across = np.array([3.0, 4.0]), np.array([6.0, 8.0]), np.array([-8.0, 6.0])

    def following(factor, grad, direction, target=-0.1):
        found = answer(next_factor, factor, grad, direction, 0.5, target)
        return number(found, "the next factor")

    with claims(1, "the factor grows where gradients agree, and shrinks where they oppose"):
        still = following(2.0, g, across, 0.0)
        expect(close(still, 2.0), "at a right angle and with the target 0 the factor should stay")
        agree, oppose = following(2.0, g, along, 0.0), following(2.0, g, -along, 0.0)
        expect(
            agree > 2.0 > oppose,
            "where the gradient still points along the last direction a longer step would have "
            "gone lower: there the factor should grow, and shrink where it points back",
        )
        expect(
            not close(agree, 2.0 * np.exp(0.5 * 50)),
            "you use the inner product itself; the cosine is divided by both lengths",
        )
        expect(
            not close([agree, oppose], [2.5, 1.5]),
            "you add; the factor should be multiplied, by an exponential",
        )
        expect(
            close(agree * oppose, 4.0) and close(np.log(agree / 2.0), 0.5),
            "at a cosine of 1 and the target 0 the logarithm of the factor should grow by the gain",
        )
        expect(
            not close(following(2.0, g, across), 2.0 * np.exp(-0.05)),
            "a target below zero asks for longer steps, yours for shorter ones: look at its sign",
        )
        expect(
            close(np.log(following(2.0, g, across) / 2.0), 0.05),
            "at a right angle the factor should still grow if the target is below zero",
        )
    with claims(1, "it knows no unit, and it stays positive"):
        once = following(2.0, g, across + along)
        expect(
            close(following(2.0, 1000 * g, across + along), once),
            "with the gradient counted 1000 times the next factor should be the same",
        )
        expect(
            close(following(2.0, g, 0.001 * (across + along)), once),
            "with a direction 1000 times shorter the next factor should be the same",
        )
        now = 0.1
        for _ in range(30):
            now = following(now, g, -along)
        expect(
            0 < now < 0.1,
            "gradients that oppose, 30 times, should make it small but never 0 or less",
        )
    with claims(1, "in a run each step uses its own new factor"):
        slope, start, given = np.array([2.0, -1.0]), np.array([1.0, 1.0]), []

        def rule(factor, grad, direction):
            given.append((float(factor), np.array(grad, float), np.array(direction, float)))
            return 2.0 * factor

        found = answer(train_with_factor, lambda x: slope.copy(), start, 0.1, 0.5, 3, rule)
        path, factors = pair(found, "the iterates, and the factors")
        path, factors = array(path, (4, 2), "the path"), array(factors, (3,), "the factors")
        expect(len(given) == 3, f"3 steps should ask the rule 3 times; yours asked {len(given)}")
        expect(
            close(given[0][0], 1.0) and close(given[0][2], [0.0, 0.0]),
            "in the first step the rule should get the factor 1 and, from rest, a zero direction",
        )
        expect(
            given[1][2] @ slope > 0,
            "on a slope that is the same everywhere gradient and direction should agree; "
            "yours oppose: look at the sign of the direction",
        )
        expect(
            close(factors, [2.0, 4.0, 8.0]),
            "a rule that doubles should give the three steps the factors 2, 4 and 8",
        )
        moved = (start - path[1]) / (0.1 * slope)
        expect(
            not close(moved, [1.0, 1.0]),
            "the first step still has the factor before the rule was asked",
        )
        expect(close(moved, [2.0, 2.0]), "the first step should be its factor times η times g")
        moved = (path[1] - path[2]) / (0.1 * slope)
        expect(
            close(moved, [5.0, 5.0]),
            "in the second step half of the first velocity and the new gradient step should add "
            "up, and the factor belongs to the new gradient alone",
        )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the first number of part E, so that a wrong account is noticed at once."""
    claims = Claims()
    with claims(1, "inner"):
        own = own_values(given.get("student_id", ""))
        found = number(given.get("inner"), "inner")
        expect(
            not close(found, np.dot(own.g, own.v), rtol=1e-3),
            "that is the inner product with the velocity before the step",
        )
        right = own.momentum * np.dot(own.g, own.v) - own.lr * np.dot(own.g, own.g)
        expect(not close(found, -right, rtol=1e-3), "its size is right; look at its sign")
        expect(
            close(found, right, rtol=1e-3),
            "find the velocity after the step first, for the numbers of your account",
        )
    return claims.points

"""The checks of problem set 3 that students see. It rests on NumPy, ngs.problems and ngs.course."""

from typing import NamedTuple

import numpy as np

from ngs.course import Claims, answer, array, close, expect, number, own_numbers, pair
from ngs.problems import quadratic, worst_function  # noqa: F401  (the notebook's two functions)


class Run(NamedTuple):
    """The numbers of part A: a valley, where to start in it, the step size and three momenta."""

    curvature: float
    start: float
    lr: float
    momenta: tuple[float, float, float]


FOUR_DECIMALS = 2e-3
"""The room for numbers by hand: four decimals, and what their rounding does to the next step."""


def own_run(student_id: str) -> Run:
    """Return the numbers of part A for one student."""
    numbers = own_numbers(student_id, "ps3-hand")
    curvature = float(numbers.choice([2.0, 2.5, 3.0, 4.0, 5.0]))
    start = float(numbers.integers(3, 10))
    lr = round(float(numbers.uniform(0.16, 0.32)) / curvature, 3)
    first = round(float(numbers.uniform(0.1, 0.25)), 2)
    second = round(float(numbers.uniform(0.38, 0.55)), 2)
    third = round(float(numbers.uniform(0.65, 0.9)), 2)
    return Run(curvature, start, lr, (first, second, third))


def heavy_ball(grad, start, lr, momentum, steps):
    """Return the iterates of the heavy ball of Chapter 2, to compare with."""
    theta = np.array(start, dtype=float)
    velocity, path = np.zeros_like(theta), [theta]
    for t in range(steps):
        velocity = momentum(t) * velocity - lr * grad(theta)
        theta = theta + velocity
        path.append(theta)
    return np.array(path)


def two_arrays(given, shape, first, second) -> tuple[np.ndarray, np.ndarray]:
    """Return an answer that should be two arrays of this shape."""
    one, other = pair(given, f"{first}, {second}")
    return array(one, shape, first), array(other, shape, second)


class Spy:
    """A gradient that notes where it is asked for."""

    def __init__(self, grad):
        self.grad = grad
        self.asked = []

    def __call__(self, theta):
        """Return the gradient, and note the point."""
        self.asked.append(np.array(theta, dtype=float))
        return self.grad(theta)


def by_hand(given: dict) -> float:
    """Check the first step of part A, so that a wrong account is noticed at once."""
    claims = Claims()
    with claims(1, "the first step, and where the second looks"):
        run = own_run(given.get("student_id", ""))
        v_1, theta_1 = number(given.get("v_1"), "v_1"), number(given.get("theta_1"), "theta_1")
        pull = run.lr * run.curvature * run.start
        expect(
            not close(v_1, pull, atol=FOUR_DECIMALS),
            "the size of v_1 is right; a step goes against the gradient, so look at its sign",
        )
        expect(
            close(v_1, -pull, atol=FOUR_DECIMALS),
            "the method starts at rest, so its first step should be one of gradient descent, for "
            "the numbers of your account",
        )
        expect(
            close(theta_1, run.start + v_1, atol=FOUR_DECIMALS),
            "θ₁ should be θ₀ moved by the velocity v₁",
        )
        y_1 = number(given.get("y_1"), "y_1")
        early, now, _ = run.momenta
        expect(
            not close(y_1, theta_1 + early * v_1, atol=FOUR_DECIMALS),
            "the second step is step t = 1; in y_1 you used the momentum of step 0",
        )
        expect(
            not close(y_1, run.start + now * v_1, atol=FOUR_DECIMALS),
            "y_1 is stale: it should look ahead from the new iterate θ₁, not from θ₀",
        )
        expect(
            not close(y_1, theta_1 - now * v_1, atol=FOUR_DECIMALS),
            "y_1 looks back: it should lie beyond θ₁, along the velocity",
        )
        expect(
            close(y_1, theta_1 + now * v_1, atol=FOUR_DECIMALS),
            "y_1 should be θ₁ and a share of the velocity v₁, the momentum of step 1",
        )
    return claims.points


def look_ahead(nesterov) -> float:
    """Check part B: without momentum, at which points it asks, and which momentum it uses."""
    claims = Claims()
    curvatures, start = np.array([1.0, 4.0]), np.array([1.0, -2.0])
    rows = "3 steps in 2 dimensions give θ₀ to θ₃, which"

    def grad(theta):
        return curvatures * theta

    with claims(1, "without momentum it is gradient descent"):
        found = array(answer(nesterov, grad, start, 0.1, lambda t: 0.0, 3), (4, 2), rows)
        expect(close(found[0], start), "the first row should be the start θ₀")
        expect(np.any(found[1] != start), "after one step the iterate should have moved")
        expect(
            not close(found[1] - start, 0.1 * grad(start)),
            "your step goes up the gradient: look at its sign",
        )
        expect(
            close(found[1] - start, -0.1 * grad(start)),
            "at β = 0 your first step should equal that of gradient descent",
        )
        expect(
            close(found, [(1 - 0.1 * curvatures) ** t * start for t in range(4)]),
            "at β = 0 all your steps should equal those of gradient descent: is the gradient of "
            "step t that of the present point, and the velocity of the step before gone?",
        )
    with claims(1, "the gradient is taken at the look-ahead point"):
        spy = Spy(grad)
        found = array(answer(nesterov, spy, start, 0.1, lambda t: 0.5, 3), (4, 2), rows)
        velocities = np.diff(found, axis=0, prepend=found[:1])
        count = f"3 steps should ask for 3 gradients; yours asked for {len(spy.asked)}"
        expect(len(spy.asked) in (3, 4), count)  # four: one before or after the loop
        asked = array(spy.asked[:3], (3, 2), "the points where you ask for the gradient")
        slopes = grad(asked)
        expect(
            not close(velocities[1:], -0.1 * slopes),
            "each of your steps is a plain gradient step: the velocity is forgotten in between",
        )
        expect(
            not close(asked, found[:-1]),
            "your gradients are taken at the iterates θₜ. That is the heavy ball of Chapter 2; "
            "Nesterov's method looks ahead first",
        )
        ahead = found[:-1] + 0.5 * velocities[:-1]
        expect(
            not close(asked[1:], ahead[:-1])
            and not close(asked[1:], found[:-2] + 0.5 * velocities[1:-1]),
            "your gradients are taken at a stale point, left over from the step before: look "
            "ahead from the newest iterate, along its velocity",
        )
        expect(
            not close(asked, found[:-1] - 0.5 * velocities[:-1]),
            "your gradients are taken behind the iterate: look ahead, not back",
        )
        expect(len(spy.asked) == 3, count)
        expect(
            close(asked, ahead),
            "the gradient of step t should be taken at yₜ, which lies ahead of θₜ by the share βₜ "
            "of the velocity with which the step begins",
        )
        expect(
            close(velocities[1:], 0.5 * velocities[:-1] - 0.1 * slopes),
            "you look at the right points, but then the iterate should move by the new velocity: "
            "a share of the old one, and a step against the gradient",
        )
    with claims(1, "step t uses βₜ"):
        # On a slope the gradient is the same everywhere, so the momentum alone decides.
        slope = np.array([1.0, -2.0])
        path = answer(nesterov, lambda x: slope, start, 0.5, lambda t: 0.2 + 0.1 * t, 3)
        velocities = np.diff(array(path, (4, 2), rows), axis=0)
        expect(np.all(velocities[0] != 0), "on a slope every step should move the iterate")
        used = (velocities[1:] - velocities[0]) / velocities[:-1]
        expect(not close(used, np.zeros((2, 2))), "no share of the old velocity is kept")
        right = np.array([[0.3, 0.3], [0.4, 0.4]])
        expect(not close(used, right + 0.1), "step t uses βₜ₊₁, the momentum of the step after it")
        expect(not close(used, right - 0.1), "step t uses βₜ₋₁, the momentum of the step before")
        expect(
            close(used, right),
            "on a slope, where all gradients are equal, step t should keep the share βₜ of the old "
            "velocity; yours keeps another",
        )
    return claims.points


def stored(stored_step, nesterov_stored) -> float:
    """Check part C on one step between two momenta, and on a run under constant momentum."""
    claims = Claims()
    y, rest, none = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    velocity, slope = np.array([0.5, 1.0]), np.array([2.0, -1.0])
    names = "the next look-ahead point", "the next velocity"
    twice = (
        "you use βₜ twice, where the next look-ahead point needs βₜ₊₁ too: that is right only "
        "while the momentum is constant"
    )
    with claims(1, "a step from any look-ahead point, while the momentum moves"):
        found = answer(stored_step, y, velocity, none, 0.1, 0.5, 0.8)
        moved, kept = two_arrays(found, (2,), *names)
        drift = moved - y
        expect(
            close(kept, 0.5 * velocity),
            "with gradient 0 and βₜ = 0.5, half of the velocity should be left",
        )
        expect(not close(drift, 0.25 * velocity), twice)
        expect(
            close(drift, 0.4 * velocity),
            "with gradient 0 the look-ahead point should still drift along the velocity: θ moves, "
            "and then looks ahead with the momentum of its next step",
        )
        moved, kept = two_arrays(answer(stored_step, y, rest, slope, 0.1, 0.5, 0.8), (2,), *names)
        drift = moved - y
        expect(
            drift @ slope < 0 and kept @ slope < 0,
            "from rest both the point and the velocity should go against the gradient",
        )
        expect(close(kept, -0.1 * slope), "from rest the new velocity should be a gradient step")
        expect(not close(drift, -0.15 * slope), twice)
        expect(
            not close(drift, -0.1 * slope),
            "from rest you get the next iterate; the look-ahead point lies further, ahead along "
            "the new velocity",
        )
        expect(
            close(drift, -0.18 * slope),
            "from rest the look-ahead point should go a gradient step, and then look ahead along "
            "the new velocity",
        )
    with claims(1, "under constant momentum the run is Nesterov's"):
        curvatures = np.array([1.0, 4.0])
        found = answer(nesterov_stored, lambda x: curvatures * x, y, 0.1, lambda t: 0.5, 3)
        names = "3 steps: the look-ahead points y₀ to y₃", "3 steps: the iterates θ₀ to θ₃"
        ahead, path = two_arrays(found, (4, 2), *names)
        expect(close(ahead[0], y) and close(path[0], y), "y₀ and θ₀ should both be the start")
        expect(
            not close(ahead, path),
            "your iterates are the look-ahead points again: get θₜ back from yₜ and vₜ",
        )
        expect(
            close(path[1:], ahead[:-1] - 0.1 * curvatures * ahead[:-1]),
            "each new iterate should be a plain gradient step from the look-ahead point (the pair, "
            "Chapter 4)",
        )
        velocities = np.diff(path, axis=0)
        expect(
            close(ahead[1:], path[1:] + 0.5 * velocities),
            "each yₜ should lie ahead of θₜ by the share βₜ of θₜ − θₜ₋₁",
        )
    return claims.points


def sequence(nesterov_lambda, nesterov_momentum) -> float:
    """Check the first numbers of part D."""
    claims = Claims()
    with claims(1, "λ₀ to λ₃"):
        lam = [number(answer(nesterov_lambda, k), f"nesterov_lambda({k})") for k in range(4)]
        golden = (1 + 5**0.5) / 2
        expect(
            not close(lam[:2], [1, golden]),
            "your sequence is one place ahead: λ₀ is 0, because at the start the gap has no weight",
        )
        expect(close(lam[0], 0), "λ₀ should be 0: at the start the gap has no weight")
        expect(close(lam[1], 1), "λ₁ should be 1")
        expect(
            not close(lam[2], (1 + 2**0.5) / 2),
            "λ₂² should be λ₁² + λ₂, which yours is not: look at what stands under the root",
        )
        expect(close(lam[2] ** 2, lam[1] ** 2 + lam[2]), "λ₂² should be λ₁² + λ₂; yours is not")
        expect(close(lam[3] ** 2, lam[2] ** 2 + lam[3]), "λ₃² should be λ₂² + λ₃; yours is not")
    with claims(1, "β₀ to β₂"):
        beta = [number(answer(nesterov_momentum, t), f"nesterov_momentum({t})") for t in range(4)]
        expect(
            not close(beta[0], -1),
            "β₀ should be 0, not −1: at the start there is no velocity, and the chapter sets it so",
        )
        expect(close(beta[0], 0), "β₀ should be 0")
        expect(
            not close(beta[1], 0.281753, atol=1e-4),
            "your momentum sets in a step too early: at t = 1 it should still be 0, since λ₁ = 1",
        )
        expect(close(beta[1], 0), "β₁ should be 0, since λ₁ = 1")
        expect(
            close(beta[2:], [0.281753, 0.434043], atol=1e-4),
            "the first coefficients above zero should be 0.282 and 0.434, as in the chapter's "
            "table: is nesterov_lambda right, and are its indices t and t + 1 in their places?",
        )
    return claims.points


def promise(bound, steps_for) -> float:
    """Check the bound of part D after one and two steps."""
    claims = Claims()
    with claims(1, "the bound after one step and after two"):
        found = [number(answer(bound, 2.0, 3.0, k), f"bound(2, 3, {k})") for k in (1, 2)]
        expect(
            not close(found[0], 3.4376941),
            "after one step you promise what holds after two: which λ belongs to k steps?",
        )
        expect(
            not close(found, [9, 4]),
            "that is the looser of the chapter's two bounds; take the sharper one, with λₖ",
        )
        expect(close(found[0], 9), "for L = 2 and R = 3, one step should promise a gap of 9")
        expect(
            close(found[1], 3.4376941),
            "for L = 2 and R = 3, two steps should promise a gap of 3.4377: is nesterov_lambda "
            "right, and how does the weight of the gap grow with it?",
        )
    with claims(1, "the smallest number of steps that is enough, by your bound"):
        enough(bound, steps_for, 1.0, 1.0, 4)
        gap = 1.5 * number(answer(bound, 1.0, 1.0, 1), "bound(1, 1, 1)")
        found = number(answer(steps_for, 1.0, 1.0, gap), "steps_for")
        expect(close(found, 1), "where one step is more than enough, the answer should be 1")
    return claims.points


def enough(bound, steps_for, L, R, k) -> None:
    """See that for a gap between the student's own bounds for k - 1 and k steps the answer is k."""
    before, after = (number(answer(bound, L, R, n), "bound") for n in (k - 1, k))
    expect(before > after > 0, f"your bound does not fall from {k - 1} to {k} steps: mend it first")
    found = number(answer(steps_for, L, R, (before + after) / 2), "steps_for")
    expect(
        close(found, k),
        f"your bound is {before:.3g} after {k - 1} steps and {after:.3g} after {k}, so a gap "
        f"between the two should need {k} steps; you say {found:g}",
    )


def never_growing(potential, never_grows) -> float:
    """Check part E: first the two halves of the potential by themselves, then the verdict."""
    claims = Claims()
    minimizer, lambdas = np.array([1.0, -1.0]), np.array([0.0, 1.0, 2.0])
    what = "the potentials Φ₀ to Φ₂"
    with claims(1, "the potential: distance of the anchor, weight of the gap"):
        path = minimizer + np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        phi = array(answer(potential, np.zeros(3), path, lambdas, minimizer, 4.0), (3,), what)
        seen = "where all gaps are 0, only the distance counts. "
        expect(
            not close(phi, 2 * np.array([8, 4, 18])),
            seen + "You measure it from 0; it should be the distance to the minimiser",
        )
        expect(
            not close(phi, [8, 2, 8]),
            seen + "You measure it from the iterate; it should be that of the anchor zₖ",
        )
        expect(
            not close(phi, [8, 0, 80]),
            seen + "Your anchor lies too far ahead: with λ₁ = 1 it should be the iterate itself",
        )
        expect(
            not close(phi, [8, 2, 2]),
            seen + "Your anchor lies behind the iterate; it runs ahead, along the velocity",
        )
        expect(
            close(phi[0], 8),
            seen + "At the start the anchor is θ₀ itself, so with L = 4 and a distance of 2 it "
            "should be 8 (is your v₀ zero?)",
        )
        expect(
            close(phi, [8, 2, 34]),
            seen + "Here it should be 8, 2 and 34; look at the anchor, at its velocity "
            "(backwards, vₖ = θₖ − θₖ₋₁) and at the factor L/2",
        )
        path, gaps = np.tile(minimizer, (3, 1)), np.array([3.0, 2.0, 1.5])
        phi = array(answer(potential, gaps, path, lambdas, minimizer, 4.0), (3,), what)
        seen = "where all points are the minimiser, only the gaps count. "
        expect(not close(phi, [0, 2, 3]), seen + "You weigh them with λₖ; Aₖ is not λₖ itself")
        expect(close(phi, [0, 2, 6]), seen + "For λ = 0, 1, 2 their weights should be 0, 1 and 4")
    with claims(1, "never_grows looks at each step"):
        verdict(never_grows, [3.0, 2.0, 2.0, 1.0], True, "3, 2, 2, 1 never grows")
        verdict(never_grows, [1.0, 2.0, 3.0], False, "1, 2, 3 grows")
        verdict(never_grows, [3.0, 1.0, 2.0], False, "3, 1, 2 grows at its last step")
    return claims.points


def verdict(never_grows, potentials, right, claim) -> None:
    """See that the verdict on a few potentials is right, and a truth value."""
    found = answer(never_grows, np.array(potentials))
    expect(
        isinstance(found, (bool, np.bool_)),
        f"never_grows should return True or False, and returns a {type(found).__name__}",
    )
    expect(bool(found) == right, f"{claim}, so the answer should be {right}")

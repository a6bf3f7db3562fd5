"""The checks of problem set 5 that run at grading: other numbers, the same tasks.

It rests on torch, ngs.methods, ngs.course and on the module of visible checks, which the grader
puts back.
"""

import copy
import io
import math

import numpy as np
import torch
from ps5_checks import (
    Probe,
    Still,
    data,
    double,
    exact_points,
    framework_points,
    losses_of,
    make,
    own_drop,
    recognise,
    reference,
    refuses,
    run,
    scattered,
    two_steps,
    values,
    velocity_of,
)
from torch import nn

from ngs import methods
from ngs.course import Claims, close, expect, number


def step(stored_step_) -> float:
    """Check part A with numbers in general position, and weight decay."""
    claims = Claims()
    with claims(1, "with any numbers and weight decay; the gradient stays as it was"):
        rng = np.random.default_rng(51)
        y, v, g = rng.normal(size=(3, 2, 4))
        point, velocity, grad = double(y), double(v), double(g)
        stored_step_(point, velocity, grad, 0.3, 0.7, 0.9, weight_decay=0.2)
        expect(
            close(values(grad), g),
            "the gradient belongs to the caller: weight decay should not be added into it",
        )
        right = methods.nesterov_stored.step(
            methods.StoredState(y, v), g + 0.2 * y, 0.3, momentum=0.7, next_momentum=0.9
        )
        expect(
            close(values(velocity), right.velocity),
            "the velocity should be β_t v_t − η g, where g is the gradient with the weight decay",
        )
        expect(
            close(values(point), right.lookahead),
            "the velocity is right, the point is not: look at the two momenta, and at the decay",
        )
    return claims.points


def method(kind) -> float:
    """Check part B while both coefficients move."""
    claims = Claims()
    with claims(1, "both coefficients change at every step"):
        rng = np.random.default_rng(52)
        start, bowl = rng.normal(size=(2, 3)), rng.uniform(0.5, 9.0, size=(2, 3))
        lrs = rng.uniform(0.01, 0.1, 30).tolist()
        momenta = rng.uniform(0.0, 0.95, 30).tolist()
        momenta[0] = momenta[11] = lrs[17] = 0.0
        found = run(kind, start, bowl, lrs, momenta, decay=0.3)
        right = exact_points(start, bowl, lrs, momenta, decay=0.3)
        recognise(
            found,
            {
                "the weight decay has no effect": exact_points(start, bowl, lrs, momenta),
                "that is PyTorch's form: another method as soon as the coefficients move": (
                    framework_points(methods.torch_sgd, start, bowl + 0.3, lrs, momenta)
                ),
                "that is Keras's form, exact only while the momentum rests": framework_points(
                    methods.keras_sgd, start, bowl + 0.3, lrs, momenta
                ),
            },
        )
        expect(close(found, right), "the weights should be Nesterov's look-ahead points; not so")
    return claims.points


def citizen(kind) -> float:
    """Check part B with groups that differ in everything, gaps, and more bad settings."""
    claims = Claims()
    with claims(1, "a group's own momentum and weight decay count, and p.grad is left as it was"):
        settings = [{}, {"momentum": 0.3}, {"weight_decay": 0.5, "lr": 0.02}]
        starts, grads = double([[1, 2], [3, 4], [5, 6]]), double([[1, -1], [2, 1], [-1, 3]])
        weights = [nn.Parameter(start.clone()) for start in starts]
        groups = [{"params": [w], **own} for w, own in zip(weights, settings, strict=True)]
        optimizer = make(kind, groups, lr=0.1, momentum=0.7, weight_decay=0.1)
        for _ in range(4):
            for w, grad in zip(weights, grads, strict=True):
                w.grad = grad.clone()
            said = optimizer.step()
            expect(said is None, "step without a closure should return None")
            for w, grad in zip(weights, grads, strict=True):
                expect(
                    w.grad is not None and torch.equal(w.grad, grad),
                    "p.grad has changed: it is the caller's, weight decay and zero_grad included",
                )
        defaults = {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.1}
        moved = [values(w) for w in weights]
        for start, grad, own, found in zip(starts, grads, settings, moved, strict=True):
            alone = nn.Parameter(start.clone())
            optimizer = make(kind, [alone], **{**defaults, **own})
            for _ in range(4):
                alone.grad = grad.clone()
                optimizer.step()
            expect(not close(found, start), "one of three groups did not move")
            said = " and ".join(own) or "the defaults"
            expect(
                close(found, values(alone)),
                f"a group with {said} should go where it goes in an optimizer of its own",
            )
        plain = [nn.Parameter(start.clone()) for start in starts]
        optimizer = make(kind, plain, **{**defaults, "weight_decay": 0.0})
        for w, grad in zip(plain, grads, strict=True):
            w.grad = grad.clone()
        optimizer.step()
        weights = [nn.Parameter(start.clone()) for start in starts]
        optimizer = make(kind, weights, **defaults)
        for w, grad in zip(weights, grads, strict=True):
            w.grad = grad.clone()
        optimizer.step()
        expect(not close(values(weights[0]), values(plain[0])), "the weight decay has no effect")
    with claims(1, "a step without a gradient does not exist for a parameter, nor does its clock"):
        start, bowl = [1.0, -2.0], [1.0, 5.0]
        rng = np.random.default_rng(53)
        lrs, momenta = rng.uniform(0.01, 0.1, 14).tolist(), rng.uniform(0.2, 0.95, 14).tolist()
        there = [t % 3 != 1 and t != 0 for t in range(14)]
        gaps = run(kind, start, bowl, lrs, momenta, decay=0.1, gradients=there)
        kept = [t for t in range(14) if there[t]]
        dense = run(
            kind, start, bowl, [lrs[t] for t in kept], [momenta[t] for t in kept], decay=0.1
        )
        expect(close(gaps[0], start), "before its first gradient a parameter should not move")
        for t in range(1, 14):
            expect(
                there[t] or close(gaps[t], gaps[t - 1]),
                "in a step without a gradient a parameter should not move",
            )
        expect(
            close(gaps[kept], dense),
            "a parameter with gaps should go the way of one for which those steps do not exist: "
            "also β_t is that of its own last step",
        )
    with claims(1, "all bad settings are refused, those of a group too"):
        w = nn.Parameter(torch.ones(2))
        make(kind, [w], lr=0.0, momentum=0.0, weight_decay=0.0)  # these are not bad
        make(kind, [{"params": [w], "momentum": 0.5, "weight_decay": 0.1}], lr=0.1)
        for bad in (
            {"lr": -1e-3},
            {"lr": math.nan},
            {"momentum": 1.0},
            {"momentum": 1.7},
            {"momentum": -0.1},
            {"weight_decay": -1e-4},
        ):
            refuses(kind, lambda p: [p], **bad)
            refuses(
                kind,
                lambda p, bad=bad: [{"params": [nn.Parameter(p + 1)]}, {"params": [p], **bad}],
            )
    return claims.points


def checkpoint(kind) -> float:
    """Check part C through a file, with a scheduler between the last step and the save."""
    claims = Claims()
    with claims(1, "the velocity in the state is v, the momentum the one of the last step"):
        weight, grads = nn.Parameter(double([1.0, -2.0])), double([[1, 2], [3, -1], [0, 4]])
        optimizer, v = make(kind, [weight], lr=0.1, momentum=0.5), np.zeros(2)
        momentum = 0.0
        for lr, following, grad in zip((0.1, 0.03, 0.03), (0.5, 0.5, 0.8), grads, strict=True):
            optimizer.param_groups[0].update(lr=lr, momentum=following)
            weight.grad = grad.clone()
            optimizer.step()
            v, momentum = momentum * v - lr * grad.numpy(), following
            optimizer.param_groups[0]["momentum"] = 0.1  # a scheduler, after the step
            expect(
                close(values(velocity_of(optimizer, weight)), v),
                "the velocity in the state should be v after the step, with learning rate and sign",
            )
            state = optimizer.state[weight]
            expect("momentum" in state, 'self.state[p] after a step lacks "momentum"')
            expect(
                close(number(state["momentum"], "the momentum in the state"), momentum),
                "the momentum in the state should be that of the step, not that of the group now",
            )
    with claims(1, "through a file, with two groups, and a scheduler before the save"):
        start, bowl = double([1.0, -2.0]), double([1.0, 6.0])

        def steps(weights, optimizer, schedule):
            for t in schedule:
                for w in weights:
                    w.grad = bowl * w.detach()
                optimizer.step()
                for group in optimizer.param_groups:
                    group["lr"] *= 0.9
                    group["momentum"] = 0.9 / (1 + t)
            return [values(w) for w in weights]

        def fresh(points, lr):
            weights = [nn.Parameter(point.clone()) for point in points]
            groups = [{"params": weights[:1]}, {"params": weights[1:], "lr": lr / 4}]
            return weights, make(kind, groups, lr=lr)

        weights, optimizer = fresh([start, start, start], 0.1)
        steps(weights, optimizer, range(5))
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        resumed, loaded = fresh([w.detach() for w in weights], 7.0)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        straight = steps(weights, optimizer, range(5, 10))
        again = steps(resumed, loaded, range(5, 10))
        expect(not close(straight[0], start), "after several steps the weights should have moved")
        velocity_of(optimizer, weights[0])
        expect(
            close(again, straight),
            "the run that was saved and loaded went another way: all that a step needs from the "
            "step before should be in self.state",
        )
    return claims.points


def by_hand(given: dict) -> float:
    """Check the rest of part D against the numbers of the student's account."""
    claims = Claims()
    drop = own_drop(given.get("student_id", ""))
    beta = drop.momentum
    first, buffered = two_steps(drop, methods.torch_sgd, beta)
    exact = two_steps(drop, methods.nesterov_stored, beta, beta)[1]
    stale = drop.curvature * (first - drop.start)  # gradient of the second step less the first one
    for name, right, other, whose in (
        ("second_sgd", buffered, exact, "Nesterov's"),
        ("second_exact", exact, buffered, "PyTorch's"),
    ):
        with claims(1, name):
            found = number(given.get(name), name)
            expect(
                not close(found, other, atol=5e-4), f"that is where {whose} form lands: swapped?"
            )
            expect(
                not close(found, right + (1 + beta) * drop.lr_after * stale, atol=5e-4),
                "the second step takes its gradient where the first one landed, not at the start",
            )
            expect(
                close(found, right, atol=5e-4),
                "it is the point after the second step, with the learning rate after the drop, for "
                "the numbers of your account",
            )
    return claims.points


def at_iterate(context) -> float:
    """Check part E with exceptions, several groups, and a scheduler that has moved on."""
    claims = Claims()
    with claims(1, "an exception passes through, and the weights are y again"):
        weight = nn.Parameter(scattered(3, (4, 5)))
        optimizer = Still([weight])
        optimizer.remember(weight, scattered(4, (4, 5)), 0.8)
        y, inside, passed = weight.detach().clone(), None, False
        try:
            with context(optimizer):
                inside = values(weight)
                raise LookupError("from inside the block")
        except LookupError:
            passed = True
        expect(inside is not None and not close(inside, y), "inside the block nothing had moved")
        expect(passed, "an exception inside the block should come out of it")
        expect(
            torch.equal(weight.detach(), y),
            "after an exception inside the block the weights should be y again, bit by bit",
        )
    with claims(1, "every group, each parameter with the momentum of its own last step"):
        weights = [nn.Parameter(scattered(seed, (6,), torch.float32)) for seed in (5, 6, 7, 8)]
        optimizer = Still([{"params": weights[:2]}, {"params": weights[2:], "momentum": 0.2}], 0.5)
        momenta = (0.9, 0.7, 0.6)
        for p, momentum, seed in zip(weights, momenta, (9, 10, 11), strict=False):
            optimizer.remember(p, scattered(seed, (6,), torch.float32), momentum)
        y = [p.detach().clone() for p in weights]
        before = copy.deepcopy([optimizer.state[p] for p in weights[:3]])
        with context(optimizer):
            inside = [values(p) for p in weights]
        expect(close(inside[3], y[3]), "a parameter without a state is at rest: there θ is y")
        for p, point, momentum, state in zip(inside, y, momenta, before, strict=False):
            theta = point - momentum * state["velocity"]
            expect(
                close(p, theta, rtol=1e-5),
                "θ = y − βv should hold in every group, with the β of the parameter's last step; "
                "a scheduler has changed the group since",
            )
        for p, state in zip(weights, before, strict=False):
            same = torch.equal(optimizer.state[p]["velocity"], state["velocity"])
            expect(same, "the velocities should be what they were")
        expect(
            all(torch.equal(p.detach(), point) for p, point in zip(weights, y, strict=True)),
            "after the block every parameter should be y again, bit by bit",
        )
    return claims.points


def loop(train, accuracy) -> float:
    """Check part F with a short last batch and leftovers, and where y and θ differ."""
    claims = Claims(seconds=5.0)
    with claims(1, "a short last batch, a model in eval mode, gradients from before"):
        images, labels = data(8, 11)
        setting = (images, labels, 3, 4)

        def leftovers():
            model = Probe(9)
            for p in model.parameters():
                p.grad = 3 * p.detach()
            return model.eval()

        model, order = leftovers(), torch.Generator().manual_seed(10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        found = losses_of(train(model, optimizer, *setting, order), 9)
        expect(
            [size for size, *_ in model.calls] == [4, 4, 3] * 3,
            "11 images in batches of 4 are batches of 4, 4 and 3, in every epoch",
        )
        expect(
            all(training for _, training, _ in model.calls),
            "the model came in eval mode, and should be trained in training mode",
        )
        recognise(
            found,
            {
                "gradients from before the first batch count in its step": reference(
                    leftovers(), *setting, 10, "old gradients"
                ),
                "the gradients of earlier batches still count": reference(
                    leftovers(), *setting, 10, "no zero_grad"
                ),
            },
        )
        expect(
            close(found, reference(leftovers(), *setting, seed=10)),
            "the losses should be those of the loop that the task describes",
        )
    with claims(1, "accuracy is that of θ, and model and weights come back as they were"):
        images, labels = data(12, 40)
        model = Probe(13).eval()
        weight = model.linear.weight
        optimizer = Still(list(model.parameters()), momentum=0.8)
        with torch.no_grad():
            model.linear.bias.zero_()
            weight.copy_(double([[-1.0, -0.2, -0.9], [0.8, 1.0, 0.4]]))
            at_theta = (model(images).argmax(1) == labels).double().mean().item()
            velocity = double([[2.0, 1.0, 0.0], [-1.0, 0.0, -1.0]])
            weight.add_(velocity, alpha=0.8)
            at_y = (model(images).argmax(1) == labels).double().mean().item()
        optimizer.remember(weight, velocity, 0.8)
        y = weight.detach().clone()
        found = number(accuracy(model, optimizer, images, labels), "accuracy")
        expect(not close(found, at_y), "that is the accuracy at y; it should be that at θ")
        expect(close(found, at_theta), "accuracy should be the share of right answers at θ")
        expect(close(values(weight), y), "afterwards the weights should be y again")
        expect(not model.training, "the model came in eval mode, and should be in it afterwards")
    return claims.points

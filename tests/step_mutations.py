"""Steps that are wrong in a way of their own: order, factor, or direction; for test_mutants.

Each is named by what is wrong and returns the two vectors of the new state.
"""


# --- position and velocity -----------------------------------------------------------------------


def position_moved_with_the_old_velocity(s, g, lr, momentum=0, *c):
    return s.theta + s.velocity, momentum * s.velocity - lr * g


def position_moved_from_the_lookahead_point(s, g, lr, momentum, *c):
    velocity = momentum * s.velocity - lr * g
    return s.theta + momentum * s.velocity + velocity, velocity


def velocity_without_the_step_size(s, g, lr, momentum=0, *c):
    velocity = momentum * s.velocity - lr * g
    return s.theta + velocity, (1 / lr) * velocity


def velocity_in_units_of_the_gradient(s, g, lr, momentum=0, *c):
    velocity = momentum * s.velocity - g
    return s.theta + lr * velocity, velocity


def velocity_without_the_momentum(s, g, lr, momentum, *c):
    return s.theta + momentum * s.velocity - lr * g, -lr * g


def momentum_twice(s, g, lr, momentum, *c):
    velocity = momentum * s.velocity - lr * g
    return s.theta + momentum * velocity - lr * g, velocity


# --- stored at the look-ahead point --------------------------------------------------------------


def stored_drift_with_the_new_velocity(s, g, lr, m, n):
    velocity = m * s.velocity - lr * g
    return s.lookahead + m * n * velocity - (1 + n) * lr * g, velocity


def stored_drift_without_the_next_momentum(s, g, lr, m, n):
    return s.lookahead + m * s.velocity - (1 + n) * lr * g, m * s.velocity - lr * g


def stored_drift_without_the_momentum(s, g, lr, m, n):
    return s.lookahead + n * s.velocity - (1 + n) * lr * g, m * s.velocity - lr * g


def stored_drift_with_the_momentum_squared(s, g, lr, m, n):
    return s.lookahead + m * m * s.velocity - (1 + n) * lr * g, m * s.velocity - lr * g


def stored_factor_one_plus_next_missing(s, g, lr, m, n):
    return s.lookahead + m * n * s.velocity - lr * g, m * s.velocity - lr * g


def stored_factor_without_the_one(s, g, lr, m, n):
    return s.lookahead + m * n * s.velocity - n * lr * g, m * s.velocity - lr * g


def stored_factor_of_this_step(s, g, lr, m, n):
    return s.lookahead + m * n * s.velocity - (1 + m) * lr * g, m * s.velocity - lr * g


def stored_velocity_with_the_next_momentum(s, g, lr, m, n):
    return s.lookahead + m * n * s.velocity - (1 + n) * lr * g, n * s.velocity - lr * g


def stored_velocity_without_the_step_size(s, g, lr, m, n):
    return s.lookahead + m * n * s.velocity - (1 + n) * lr * g, m * s.velocity - g


def stored_velocity_of_the_lookahead_point(s, g, lr, m, n):
    move = m * n * s.velocity - (1 + n) * lr * g
    return s.lookahead + move, move


# --- the pair of FISTA and of the optimized gradient method --------------------------------------


def step_from_the_iterate(s, g, lr, m, n):
    theta = s.theta - lr * g
    return theta, theta + n * (theta - s.theta)


def looks_ahead_from_the_old_iterate(s, g, lr, m, n):
    theta = s.lookahead - lr * g
    return theta, s.theta + n * (theta - s.theta)


def looks_ahead_from_the_old_point(s, g, lr, m, n):
    theta = s.lookahead - lr * g
    return theta, s.lookahead + n * (theta - s.theta)


def looks_ahead_along_the_gradient_step(s, g, lr, m, n):
    theta = s.lookahead - lr * g
    return theta, theta + n * (theta - s.lookahead)


def looks_ahead_before_the_step(s, g, lr, m, n):
    return s.lookahead - lr * g, s.lookahead + n * (s.lookahead - s.theta)


def ogm_step_from_the_iterate(s, g, lr, b, c):
    theta = s.theta - lr * g
    return theta, theta + b * (theta - s.theta) + c * (theta - s.lookahead)


def ogm_looks_ahead_from_the_old_iterate(s, g, lr, b, c):
    theta = s.lookahead - lr * g
    return theta, s.theta + b * (theta - s.theta) + c * (theta - s.lookahead)


def ogm_momentum_along_the_gradient_step(s, g, lr, b, c):
    theta = s.lookahead - lr * g
    return theta, theta + (b + c) * (theta - s.lookahead)


def ogm_momentum_before_the_step(s, g, lr, b, c):
    theta = s.lookahead - lr * g
    return theta, theta + b * (s.lookahead - s.theta) + c * (theta - s.lookahead)


def ogm_correction_along_the_displacement(s, g, lr, b, c):
    theta = s.lookahead - lr * g
    return theta, theta + (b + c) * (theta - s.theta)


def ogm_correction_without_the_step_size(s, g, lr, b, c):
    theta = s.lookahead - lr * g
    return theta, theta + b * (theta - s.theta) - c * g


# --- three sequences -----------------------------------------------------------------------------


def mixed_point(s, mixing):
    return s.theta + mixing * (s.anchor - s.theta)


def anchor_pulled_to_the_new_iterate(s, g, lr, mixing, pull, stride):
    theta = mixed_point(s, mixing) - lr * g
    return theta, s.anchor + pull * (theta - s.anchor) - stride * lr * g


def anchor_pulled_to_the_old_iterate(s, g, lr, mixing, pull, stride):
    anchor = s.anchor + pull * (s.theta - s.anchor) - stride * lr * g
    return mixed_point(s, mixing) - lr * g, anchor


def anchor_moved_before_the_mixing(s, g, lr, mixing, pull, stride):
    anchor = s.anchor + pull * (mixed_point(s, mixing) - s.anchor) - stride * lr * g
    return s.theta + mixing * (anchor - s.theta) - lr * g, anchor


def anchor_restarted_from_the_mixed_point(s, g, lr, mixing, pull, stride):
    point = mixed_point(s, mixing)
    return point - lr * g, point - stride * lr * g


def anchor_without_the_step_size(s, g, lr, mixing, pull, stride):
    point = mixed_point(s, mixing)
    return point - lr * g, s.anchor + pull * (point - s.anchor) - stride * g


def short_step_from_the_iterate(s, g, lr, mixing, pull, stride):
    point = mixed_point(s, mixing)
    return s.theta - lr * g, s.anchor + pull * (point - s.anchor) - stride * lr * g


def long_and_short_step_swapped(s, g, lr, mixing, pull, stride):
    point = mixed_point(s, mixing)
    return point - stride * lr * g, s.anchor + pull * (point - s.anchor) - lr * g


def mixed_the_other_way_in_the_step(s, g, lr, mixing, pull, stride):
    point = mixed_point(s, 1 - mixing)
    return point - lr * g, s.anchor + pull * (point - s.anchor) - stride * lr * g


# --- frameworks ----------------------------------------------------------------------------------


def torch_without_nesterov(s, g, lr, m):
    buffer = m * s.buffer + g
    return s.params - lr * buffer, buffer


def torch_with_the_old_buffer(s, g, lr, m):
    return s.params - lr * (g + m * s.buffer), m * s.buffer + g


def torch_without_the_gradient_beside_the_buffer(s, g, lr, m):
    buffer = m * s.buffer + g
    return s.params - lr * m * buffer, buffer


def torch_without_the_momentum_before_the_buffer(s, g, lr, m):
    buffer = m * s.buffer + g
    return s.params - lr * (g + buffer), buffer


def torch_buffer_dampened(s, g, lr, m):
    buffer = m * s.buffer + (1 - m) * g
    return s.params - lr * (g + m * buffer), buffer


def torch_buffer_with_the_step_size_twice(s, g, lr, m):
    buffer = m * s.buffer + lr * g
    return s.params - lr * (g + m * buffer), buffer


def torch_as_keras_computes(s, g, lr, m):
    buffer = m * s.buffer + lr * g
    return s.params - lr * g - m * buffer, buffer


def torch_buffer_keeps_the_whole_step(s, g, lr, m):
    direction = g + m * (m * s.buffer + g)
    return s.params - lr * direction, direction


def keras_without_nesterov(s, g, lr, m):
    buffer = m * s.buffer - lr * g
    return s.params + buffer, buffer


def keras_with_the_old_buffer(s, g, lr, m):
    return s.params + m * s.buffer - lr * g, m * s.buffer - lr * g


def keras_without_the_gradient_beside_the_buffer(s, g, lr, m):
    buffer = m * s.buffer - lr * g
    return s.params + m * buffer, buffer


def keras_without_the_momentum_before_the_buffer(s, g, lr, m):
    buffer = m * s.buffer - lr * g
    return s.params + buffer - lr * g, buffer


def keras_buffer_dampened(s, g, lr, m):
    buffer = m * s.buffer - (1 - m) * lr * g
    return s.params + m * buffer - lr * g, buffer


def keras_buffer_without_the_step_size(s, g, lr, m):
    buffer = m * s.buffer - g
    return s.params + m * buffer - lr * g, buffer


def keras_as_torch_computes(s, g, lr, m):
    buffer = m * s.buffer - g
    return s.params + lr * (m * buffer - g), buffer


def keras_buffer_keeps_the_whole_step(s, g, lr, m):
    move = m * (m * s.buffer - lr * g) - lr * g
    return s.params + move, move


MOMENTUM = (
    position_moved_with_the_old_velocity,
    position_moved_from_the_lookahead_point,
    velocity_without_the_step_size,
    velocity_in_units_of_the_gradient,
    velocity_without_the_momentum,
    momentum_twice,
)

WRONG_STEPS = {
    "gradient_descent": (
        position_moved_with_the_old_velocity,
        velocity_without_the_step_size,
        velocity_in_units_of_the_gradient,
    ),
    "heavy_ball": MOMENTUM,
    "nesterov": MOMENTUM,
    "triple_momentum": MOMENTUM,
    "nesterov_stored": (
        stored_drift_with_the_new_velocity,
        stored_drift_without_the_next_momentum,
        stored_drift_without_the_momentum,
        stored_drift_with_the_momentum_squared,
        stored_factor_one_plus_next_missing,
        stored_factor_without_the_one,
        stored_factor_of_this_step,
        stored_velocity_with_the_next_momentum,
        stored_velocity_without_the_step_size,
        stored_velocity_of_the_lookahead_point,
    ),
    "fista": (
        step_from_the_iterate,
        looks_ahead_from_the_old_iterate,
        looks_ahead_from_the_old_point,
        looks_ahead_along_the_gradient_step,
        looks_ahead_before_the_step,
    ),
    "three_sequences": (
        anchor_pulled_to_the_new_iterate,
        anchor_pulled_to_the_old_iterate,
        anchor_moved_before_the_mixing,
        anchor_restarted_from_the_mixed_point,
        anchor_without_the_step_size,
        short_step_from_the_iterate,
        long_and_short_step_swapped,
        mixed_the_other_way_in_the_step,
    ),
    "ogm": (
        ogm_step_from_the_iterate,
        ogm_looks_ahead_from_the_old_iterate,
        ogm_momentum_along_the_gradient_step,
        ogm_momentum_before_the_step,
        ogm_correction_along_the_displacement,
        ogm_correction_without_the_step_size,
    ),
    "torch_sgd": (
        torch_without_nesterov,
        torch_with_the_old_buffer,
        torch_without_the_gradient_beside_the_buffer,
        torch_without_the_momentum_before_the_buffer,
        torch_buffer_dampened,
        torch_buffer_with_the_step_size_twice,
        torch_as_keras_computes,
        torch_buffer_keeps_the_whole_step,
    ),
    "keras_sgd": (
        keras_without_nesterov,
        keras_with_the_old_buffer,
        keras_without_the_gradient_beside_the_buffer,
        keras_without_the_momentum_before_the_buffer,
        keras_buffer_dampened,
        keras_buffer_without_the_step_size,
        keras_as_torch_computes,
        keras_buffer_keeps_the_whole_step,
    ),
}

"""Points that a method could take for its gradient point or its iterate; for test_mutants."""


def at_the_iterate(s, *c):
    return s.theta


def at_the_previous_iterate(s, *c):
    return s.theta - s.velocity


def a_whole_velocity_on(s, *c):
    return s.theta + s.velocity


def at_the_lookahead_point(s, *c):
    return s.lookahead if hasattr(s, "lookahead") else s.theta + c[0] * s.velocity


def at_the_anchor(s, *c):
    return s.anchor


def mixed_the_other_way(s, mixing, *c):
    return s.anchor + mixing * (s.theta - s.anchor)


def mixed(s, mixing, *c):
    return s.theta + mixing * (s.anchor - s.theta)


def at_the_iterate_that_is_not_kept(s, momentum, *c):
    return s.lookahead - momentum * s.velocity


def beyond_the_lookahead_point(s, momentum, *c):
    return s.lookahead + momentum * s.velocity


def back_by_the_next_momentum(s, momentum, next_momentum):
    return s.lookahead - next_momentum * s.velocity


def at_the_output(s, momentum, peek, output):
    return s.theta + output * s.velocity


def at_the_peek(s, momentum, peek, output):
    return s.theta + peek * s.velocity


def ahead_by_the_buffer(s, momentum):
    return s.params + momentum * s.buffer


def back_by_the_buffer(s, momentum):
    return s.params - momentum * s.buffer


WRONG_POINTS = {
    "gradient_point": {
        "gradient_descent": (at_the_previous_iterate, a_whole_velocity_on),
        "heavy_ball": (at_the_previous_iterate, a_whole_velocity_on, at_the_lookahead_point),
        "nesterov": (at_the_previous_iterate, a_whole_velocity_on, at_the_iterate),
        "nesterov_stored": (
            at_the_iterate_that_is_not_kept,
            beyond_the_lookahead_point,
            back_by_the_next_momentum,
        ),
        "fista": (at_the_iterate,),
        "three_sequences": (at_the_iterate, at_the_anchor, mixed_the_other_way),
        "ogm": (at_the_iterate,),
        "triple_momentum": (at_the_iterate, at_the_lookahead_point, at_the_output),
        "torch_sgd": (ahead_by_the_buffer, back_by_the_buffer),
        "keras_sgd": (ahead_by_the_buffer, back_by_the_buffer),
    },
    "iterate": {
        "gradient_descent": (at_the_previous_iterate, a_whole_velocity_on),
        "heavy_ball": (at_the_previous_iterate, a_whole_velocity_on, at_the_lookahead_point),
        "nesterov": (at_the_previous_iterate, a_whole_velocity_on, at_the_lookahead_point),
        "nesterov_stored": (at_the_lookahead_point, at_the_iterate_that_is_not_kept),
        "fista": (at_the_lookahead_point,),
        "three_sequences": (at_the_anchor, mixed),
        "ogm": (at_the_iterate,),
        "triple_momentum": (at_the_iterate, at_the_lookahead_point, at_the_peek),
        "torch_sgd": (ahead_by_the_buffer, back_by_the_buffer),
        "keras_sgd": (ahead_by_the_buffer, back_by_the_buffer),
    },
}

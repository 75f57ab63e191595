"""Values from within loops: against loops in Python; results and gradients stay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.inner_values import marked, with_marked


def nested(x):
    """Two rounds of three, the inner one compiled and recomputed on the way back."""

    @jax.checkpoint
    def step(carry, factor):
        return jax.jit(lambda c: marked(jnp.sin(c) * factor, "step"))(carry), carry

    def rounds(carry, _):
        return jax.lax.scan(step, carry, jnp.array([1.0, 2.0, 3.0]))

    return jax.lax.scan(rounds, x, length=2)


def test_marks_of_nested_loops_come_in_the_order_of_their_rounds():
    (result, stacked), values = with_marked(nested, jnp.float32(0.7))
    expected, carry = [], np.float32(0.7)
    for _ in range(2):
        for factor in (1, 2, 3):
            carry = np.sin(carry) * np.float32(factor)
            expected.append(carry)
    np.testing.assert_allclose(values["step"], expected, rtol=1e-5)
    np.testing.assert_array_equal(result, nested(jnp.float32(0.7))[0])
    assert stacked.shape == (2, 3)


def test_gradients_go_through():
    found = jax.grad(lambda x: with_marked(nested, x)[0][0])(0.7)
    np.testing.assert_allclose(found, jax.grad(lambda x: nested(x)[0])(0.7), rtol=1e-6)


def test_a_function_without_marks_stays_as_it_is():
    def split(x):
        return {"parts": jnp.split(x, 2), "same": x * x, "constant": 3.0}

    result, values = with_marked(split, jnp.arange(4.0))
    assert values == {}
    jax.tree.map(np.testing.assert_array_equal, result, split(jnp.arange(4.0)))

"""Recurrent layers of sequences, [N, T, C]: GRU and LSTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array, lax

from cnnjax.nn.initializers import glorot_uniform, zeros
from cnnjax.nn.sequence import check_sequence

_orthogonal = jax.nn.initializers.orthogonal()


class GRU(linen.Module):
    """Gated recurrent unit (Cho et al. 2014), in Keras' default form, with its initialisers.

    `z, r = s(x W_zr + h U_zr + b)`, `c = tanh(x W_c + b_c + r (h U_c + d_c))`,
    `h' = z h + (1 - z) c`, from h = 0. The reset gate acts behind the product (`reset_after`), and
    both products have a bias.

    Args:
        units: size of the state, >= 1.
        activation, recurrent_activation: the functions tanh and s; sigmoid by default.
        use_bias: add the biases.
        return_sequences: return the state at every step, not the last one only.

    Parameters: kernel [C, 3 units], recurrent_kernel [units, 3 units], bias [2, 3 units] (of the
    inputs, of the state), gates in the order z, r, c; float32.
    Call: [N, T, C] -> [N, units], or [N, T, units].
    """

    units: int
    activation: Callable[[Array], Array] = jnp.tanh
    recurrent_activation: Callable[[Array], Array] = jax.nn.sigmoid
    use_bias: bool = True
    return_sequences: bool = False

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, T, C]."""
        projected, recurrent = _projections(self, inputs, 3)
        before, units = jnp.zeros((), inputs.dtype), self.units
        if self.use_bias:
            bias = self.param("bias", zeros, (2, 3 * units)).astype(inputs.dtype)
            projected, before = projected + bias[:1, None], bias[1:]

        def step(state: Array, x: Array) -> tuple[Array, Any]:
            inner = state @ recurrent + before
            gates = self.recurrent_activation(x[:, : 2 * units] + inner[:, : 2 * units])
            update, reset = gates[:, :units], gates[:, units:]
            candidate = self.activation(x[:, 2 * units :] + reset * inner[:, 2 * units :])
            state = update * state + (1 - update) * candidate
            return state, state if self.return_sequences else None

        last, states = lax.scan(step, _zero_state(inputs, units), projected)
        return jnp.swapaxes(states, 0, 1) if self.return_sequences else last


class LSTM(linen.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000), as Keras has it.

    `i, f, o = s(x W + h U + b)`, `c' = f c + i tanh(x W_c + h U_c + b_c)`, `h' = o tanh(c')`, from
    h = c = 0.

    Args:
        units, activation, recurrent_activation, use_bias, return_sequences: as in `GRU`.
        unit_forget_bias: begin with a bias of 1 in the forget gate (Jozefowicz et al. 2015).

    Parameters: kernel [C, 4 units], recurrent_kernel [units, 4 units], bias [4 units], gates in the
    order i, f, c, o; float32.
    Call: [N, T, C] -> [N, units], or [N, T, units].
    """

    units: int
    activation: Callable[[Array], Array] = jnp.tanh
    recurrent_activation: Callable[[Array], Array] = jax.nn.sigmoid
    use_bias: bool = True
    return_sequences: bool = False
    unit_forget_bias: bool = True

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, T, C]."""
        projected, recurrent = _projections(self, inputs, 4)
        if self.use_bias:
            initializer = _forget_bias if self.unit_forget_bias else zeros
            bias = self.param("bias", initializer, (4 * self.units,))
            projected = projected + bias.astype(inputs.dtype)[None, None]

        def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Any]:
            hidden, cell = state
            i, f, c, o = jnp.split(x + hidden @ recurrent, 4, axis=1)
            kept = self.recurrent_activation(f) * cell
            cell = kept + self.recurrent_activation(i) * self.activation(c)
            hidden = self.recurrent_activation(o) * self.activation(cell)
            return (hidden, cell), hidden if self.return_sequences else None

        start = _zero_state(inputs, self.units)
        (last, _), states = lax.scan(step, (start, start), projected)
        return jnp.swapaxes(states, 0, 1) if self.return_sequences else last


def _projections(layer: Any, inputs: Array, gates: int) -> tuple[Array, Array]:
    """Inside a compact layer: x W of all steps at once, [T, N, gates units]; and U."""
    check_sequence(inputs, type(layer).__name__)
    if layer.units < 1:
        raise ValueError(f"units must be at least 1, got {layer.units}")
    width = gates * layer.units
    kernel = layer.param("kernel", glorot_uniform, (inputs.shape[2], width))
    recurrent = layer.param("recurrent_kernel", _orthogonal, (layer.units, width))
    projected = jnp.swapaxes(inputs, 0, 1) @ kernel.astype(inputs.dtype)
    return projected, recurrent.astype(inputs.dtype)


def _zero_state(inputs: Array, units: int) -> Array:
    return jnp.zeros((inputs.shape[0], units), inputs.dtype)


def _forget_bias(key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
    """Zeros, but ones in the second quarter."""
    units = shape[0] // 4
    return jnp.zeros(shape, dtype).at[units : 2 * units].set(1)

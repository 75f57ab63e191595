"""What is traced for another kind of device than that at hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from cnnjax.core import target


def test_without_a_block_it_is_the_device_at_hand() -> None:
    assert target.platform() == jax.default_backend()
    with target.compiling_for("tpu"):
        assert target.platform() == "tpu"
    assert target.platform() == jax.default_backend()


def test_what_was_traced_for_one_kind_is_not_run_for_another() -> None:
    @jax.jit
    def kind(x: jax.Array) -> jax.Array:
        return x + len(target.platform() * (1 if target.platform() == "gpu" else 2))

    assert int(kind(jnp.int32(0))) == 6
    with target.compiling_for("gpu"):
        assert int(kind(jnp.int32(0))) == 3


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with (
        pytest.raises(ValueError, match=r"platform='gpus' is unknown\. Did you mean 'gpu'\?"),
        target.compiling_for("gpus"),
    ):
        pass

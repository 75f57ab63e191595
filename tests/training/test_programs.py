"""The programs of all models for accelerators that are not there, as they are lowered."""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

import jax
import pytest
from families import marked, representatives

import cnnjax as cj
from cnnjax.core import lowered
from cnnjax.core.lowered import Lowered
from cnnjax.models.builder import build
from cnnjax.training import programs, scans

EXAMPLES, BATCH, STEPS = 1000, 4, 3
PLATFORMS = ("gpu", "tpu")
QUICK = ("mnist_convnet", "cifar_deep", "separable_convnet", "imdb_gru")
MODELS = marked(representatives(), quick=QUICK)


@functools.cache
def work(model: str, **settings: Any) -> programs.Work:
    config = cj.TrainingConfig(batch_size=BATCH, **settings)
    return programs.Work.of(cj.Model.abstract(*build(model)), config, EXAMPLES)


@functools.cache
def scan(model: str, platform: str, **settings: Any) -> Lowered:
    traced = programs.traced_scan(work(model, **settings), platform, STEPS)
    return lowered.read(programs.lowered_for(traced, platform))


def count(program: Lowered, name: str) -> int:
    return Counter(op.name for op in program.operations)[f"stablehlo.{name}"]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("model", MODELS)
def test_a_scan_of_steps_is_what_an_accelerator_needs(model: str, platform: str) -> None:
    program = scan(model, platform)
    assert not program.dtypes & {"f64", "c128"}
    assert program.precisions == {"HIGHEST"}
    assert not program.calls, "calls the host, or a library of the CPU"
    # The state takes the place of the one before.
    leaves = len(jax.tree.leaves(programs._step_and_state(work(model))[1]))
    assert program.aliased == leaves
    # Of the data set a batch is looked up, and nothing else ever reads it.
    whole = jax.eval_shape(scans.flat, work(model).examples)["inputs"].shape
    (gather,) = program.reading(whole)
    assert gather.name == "stablehlo.gather"
    assert [t.shape for t in gather.results] == [(BATCH, *whole[1:])]


@pytest.mark.parametrize("model", MODELS)
def test_in_bfloat16_all_but_the_head_multiplies_in_it(model: str) -> None:
    program = scan(model, "gpu", precision="bfloat16")
    factors = [op.operands for op in program.operations if op.precision]
    single = [both for both in factors if {t.dtype for t in both} != {"bf16"}]
    # Of the layer that makes the logits: outputs, gradients of its kernel and of its inputs.
    assert len(single) <= 3 < len(factors)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_convolutions_and_pooling_are_those_of_accelerators(platform: str) -> None:
    # Four convolutions, and the gradients of kernels and, but for the first, of inputs.
    assert count(scan("cifar_deep", platform), "convolution") == convolutions("cifar_deep")
    with_cpus = programs.traced_step(work("cifar_deep"), "cpu")
    cpu = lowered.read(programs.lowered_for(with_cpus, "cpu"))
    assert count(cpu, "convolution") < convolutions("cifar_deep")


def convolutions(model: str) -> int:
    kernels = [leaf for leaf in jax.tree.leaves(work(model).model.params) if leaf.ndim == 4]
    return 3 * len(kernels) - 1


@pytest.mark.parametrize(
    ("precision", "asked"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")]
)
def test_products_are_in_the_precision_that_is_asked_for(precision: str, asked: str) -> None:
    program = scan("mnist_convnet", "gpu", precision=precision)
    assert program.precisions == {asked}
    factors = {
        operand.dtype
        for op in program.operations
        if op.name == "stablehlo.convolution"
        for operand in op.operands
    }
    assert factors == ({"bf16"} if precision == "bfloat16" else {"f32"})


def test_a_step_that_is_fed_from_the_host_aliases_its_state_too() -> None:
    traced = programs.traced_step(work("mnist_convnet"), "gpu")
    program = lowered.read(programs.lowered_for(traced, "gpu"))
    assert program.aliased == len(
        jax.tree.leaves(programs._step_and_state(work("mnist_convnet"))[1])
    )


def test_parts_of_a_batch_are_one_loop_on_accelerators() -> None:
    whole, parts = (scan("mnist_convnet", "gpu", accumulate=n) for n in (1, 4))
    assert count(parts, "convolution") == count(whole, "convolution")
    assert count(parts, "while") == count(whole, "while") + 1


def test_whole_shifts_and_flips_look_up_an_image_and_no_pixels() -> None:
    shifts = cj.augment.Augment(width_shift=2, height_shift=2, horizontal_flip=True)
    program = scan("mnist_convnet", "gpu", augment=shifts)
    gathers = [op for op in program.operations if op.name == "stablehlo.gather"]
    places = [math.prod(op.operands[1].shape) for op in gathers]
    assert gathers
    assert max(places) <= 4 * BATCH


def test_random_numbers_of_the_device_are_no_code_of_the_program() -> None:
    own, of_device = (scan("cifar_deep", "gpu", generator=g) for g in ("threefry", "rbg"))
    assert count(own, "rng_bit_generator") == 0 < count(of_device, "rng_bit_generator")

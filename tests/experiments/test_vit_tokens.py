"""A ViT in fifteen lines: trained by fit, explained at its tokens, killed, resumed, reproduced."""

from __future__ import annotations

import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import after_every_dispatch

import cnnjax as cj
from experiments.research.vit_tokens import Config, ViT, main

RNG = np.random.default_rng(0)
LABELS = np.arange(48, dtype=np.int32) % 3
IMAGES = RNG.integers(0, 60, (48, 12, 12, 1), dtype=np.uint8)
for image, label in zip(IMAGES, LABELS, strict=True):
    image[4 * label : 4 * label + 4, 4:8] += 180  # of the nine patches one tells the class


@pytest.mark.thorough
def test_a_vit_is_trained_by_fit_and_explained_at_its_tokens() -> None:
    model = cj.Model.from_module(ViT(depth=1, width=16), (12, 12, 1))
    settings = cj.TrainingConfig(epochs=12, batch_size=16, optimizer="adam", learning_rate=0.01)
    run = cj.fit(model, (IMAGES, LABELS), settings, verbose=False)
    assert cj.evaluate(run.model, (IMAGES, LABELS))["accuracy"] > 0.9
    inputs = run.model.spec.preprocess(IMAGES[:12])
    asked = [[label, (label + 1) % 3] for label in LABELS[:12].tolist()]
    heat = np.asarray(cj.explain.grad_cam(run.model, inputs, "block0/norm1", asked))
    assert heat.shape == (12, 2, 12, 12)
    assert (heat.max((2, 3)) > 0.5).all()
    attention = cj.explain.attention_maps(run.model, inputs)
    assert attention["block0/attend"].shape == (12, 4, 10, 10)
    # Behind the last attention a patch reaches the class token no more.
    with pytest.warns(cj.explain.EmptyMap):
        assert not np.any(cj.explain.grad_cam(run.model, inputs, "block0/norm2"))


@pytest.mark.thorough
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    def train(name: str, resume: bool = False) -> cj.Run:
        model = cj.Model.from_module(ViT(depth=1, width=16), (12, 12, 1))
        settings = cj.TrainingConfig(epochs=2, batch_size=16, checkpoint_every=1, resume=resume)
        return cj.fit(model, (IMAGES, LABELS), settings, directory=tmp_path / name, verbose=False)

    steps = iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(steps) == 3 else None
    )
    try:
        with pytest.raises(cj.training.Interrupted):
            train("killed")
    finally:
        undo()
    resumed, through = train("killed", resume=True), train("through")
    assert resumed.parameter_hash == through.parameter_hash
    x = through.model.spec.preprocess(IMAGES[:2])
    maps = [cj.explain.attention_rollout(run.model, x) for run in (resumed, through)]
    np.testing.assert_array_equal(*maps)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::cnnjax.explain.EmptyMap")  # of a net of few epochs
def test_the_example_draws_its_figure(tmp_path: Path) -> None:
    out = tmp_path / "tokens.png"
    run, figure = main(Config(epochs=1, images=2, out=str(out)))
    assert out.is_file()
    assert len(figure.axes) == 8
    assert jax.tree.all(jax.tree.map(lambda leaf: np.isfinite(leaf).all(), run.model.variables))

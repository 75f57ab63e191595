"""Metrics of right and wrong answers against scikit-learn and Keras."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from data_of_answers import measured, multilabel, of_classes, of_one_logit

from cnnjax import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

SCORES = {
    "precision": "precision_score",
    "recall": "recall_score",
    "f1": "f1_score",
    "mean_iou": "jaccard_score",
}


@pytest.mark.sample(12)
@pytest.mark.parametrize("average", ["macro", "micro", None])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("size", [7, 64, 203])
def test_scores_of_classes_are_those_of_scikit_learn(
    name: str, average: str | None, size: int
) -> None:
    logits, labels = of_classes()
    ours = measured(getattr(metrics, name)(average), logits, labels, size)
    oracle = getattr(sklearn_metrics, SCORES[name])(labels, logits.argmax(axis=1), average=average)
    np.testing.assert_allclose(ours, oracle, rtol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_scores_of_one_logit_are_those_of_class_1(name: str) -> None:
    logits, labels = of_one_logit()
    oracle = getattr(sklearn_metrics, SCORES[name])(labels, logits[:, 0] > 0)
    for average in ("macro", None):
        for outputs, truth in ((logits, labels), (logits[:, 0], labels), (logits, labels[:, None])):
            ours = measured(getattr(metrics, name)(average), outputs, truth)
            assert ours == pytest.approx(oracle, rel=1e-12)


@pytest.mark.parametrize("average", ["macro", "micro", None])
@pytest.mark.parametrize("name", SCORES)
def test_scores_of_labels_are_those_of_scikit_learn(name: str, average: str | None) -> None:
    logits, labels = multilabel()
    ours = measured(getattr(metrics, name)(average), logits, labels)
    oracle = getattr(sklearn_metrics, SCORES[name])(labels, logits > 0, average=average)
    np.testing.assert_allclose(ours, oracle, rtol=1e-12)


def test_a_threshold_is_one_of_the_probability() -> None:
    logits, labels = multilabel()
    ours = measured(metrics.precision("micro", threshold=0.8), logits, labels)
    yes = 1 / (1 + np.exp(-logits)) > 0.8
    oracle = sklearn_metrics.precision_score(labels, yes, average="micro")
    assert ours == pytest.approx(oracle, rel=1e-12)


def test_the_mean_over_classes_leaves_out_those_that_never_occur() -> None:
    logits, labels = of_classes(3)
    wide = np.concatenate([logits, np.full((len(logits), 2), -99, np.float32)], axis=1)
    for name in SCORES:
        metric = getattr(metrics, name)()
        assert measured(metric, wide, labels) == measured(metric, logits, labels)
    assert measured(metrics.recall(None), wide, labels)[3:].tolist() == [0, 0]


def test_f1_is_that_of_keras_where_all_classes_occur() -> None:
    import keras

    logits, labels = of_classes()
    oracle = keras.metrics.F1Score(average="macro")
    oracle.update_state(np.eye(5)[labels], np.eye(5)[logits.argmax(axis=1)])
    assert measured(metrics.f1(), logits, labels) == pytest.approx(float(oracle.result()), rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k_is_that_of_scikit_learn(k: int) -> None:
    logits, labels = of_classes()
    oracle = sklearn_metrics.top_k_accuracy_score(labels, logits, k=k) if k < 5 else 1.0
    assert measured(metrics.top_k(k), logits, labels) == pytest.approx(oracle, rel=1e-12)


def test_accuracy_is_the_share_of_right_answers() -> None:
    logits, labels = of_classes()
    right = sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert measured(metrics.accuracy(), logits, labels) == pytest.approx(right, rel=1e-12)
    logits, labels = multilabel()
    right = 1 - sklearn_metrics.hamming_loss(labels, logits > 0)
    assert measured(metrics.accuracy(), logits, labels) == pytest.approx(right, rel=1e-12)


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    for logits, labels in (of_classes(), of_one_logit()):
        one = logits.shape[1] == 1
        answer = logits[:, 0] > 0 if one else logits.argmax(axis=1)
        oracle = sklearn_metrics.confusion_matrix(labels, answer)
        np.testing.assert_array_equal(measured(metrics.confusion_matrix(), logits, labels), oracle)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # in Keras
def test_mean_iou_over_pixels_is_that_of_keras_and_leaves_out_what_is_not_labelled() -> None:
    import keras

    rng = np.random.default_rng(1)
    logits = rng.standard_normal((5, 4, 3, 6)).astype(np.float32)
    labels = rng.integers(0, 6, (5, 4, 3)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = 255
    oracle = keras.metrics.MeanIoU(num_classes=6, ignore_class=255)
    oracle.update_state(labels, logits.argmax(axis=-1))
    ours = measured(metrics.mean_iou(), logits, labels, size=2)
    assert ours == pytest.approx(float(oracle.result()), rel=1e-6)
    known = labels < 6
    right = (logits.argmax(axis=-1) == labels)[known].mean()
    assert measured(metrics.accuracy(), logits, labels, size=2) == pytest.approx(right)


def test_a_negative_label_of_yes_or_no_counts_nowhere() -> None:
    logits, labels = multilabel()
    unknown = np.random.default_rng(2).random(labels.shape) < 0.3
    ours = measured(metrics.f1("micro"), logits, np.where(unknown, -1, labels))
    oracle = sklearn_metrics.f1_score(labels[~unknown], logits[~unknown] > 0)
    assert ours == pytest.approx(oracle, rel=1e-12)


@pytest.mark.parametrize("name", [n for n in metrics.SHIPPED])
def test_equal_settings_make_equal_metrics_which_are_compiled_once(name: str) -> None:
    factory: Any = getattr(metrics, name)
    assert factory() == factory()
    assert hash(factory().update) == hash(factory().update)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.f1("weighted"), "average must be one of 'macro', 'micro', None, got 'wei"),
        (lambda: metrics.f1(threshold=1.0), r"threshold must lie in \(0, 1\), got 1"),
        (lambda: metrics.top_k(0), "k must be a whole number >= 1, got 0"),
        (lambda: metrics.by_name("recal"), "there is no metric 'recal'. Did you mean 'recall'"),
        (lambda: metrics.by_name("mae", 3), "the metric 'mae' takes no 3"),
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_outputs_and_labels_that_do_not_fit_are_refused() -> None:
    batch = {"labels": jnp.zeros((4, 3)), "mask": jnp.ones(4)}
    with pytest.raises(ValueError, match=r"outputs \[4, 5\] and labels \[4, 3\] of float32 are"):
        metrics.f1().update(jnp.zeros((4, 5)), batch)
    with pytest.raises(ValueError, match="3 answers of yes and no: measure f1, precision"):
        metrics.confusion_matrix().update(jnp.zeros((4, 3)), batch)
    batch = {"labels": jnp.zeros(4, int), "mask": jnp.ones(4)}
    with pytest.raises(ValueError, match="k of top_k must be at most the number of classes, 3, go"):
        metrics.top_k(5).update(jnp.zeros((4, 3)), batch)


def test_a_metric_of_one_of_several_outputs_is_that_of_it_alone() -> None:
    logits, labels = of_classes()
    batch = {"mask": jnp.ones(len(labels)), "labels": {"kind": jnp.asarray(labels), "depth": 0}}
    outputs = {"kind": jnp.asarray(logits), "depth": jnp.zeros(3)}
    metric: Any = metrics.of_output("kind", metrics.f1())
    alone = metrics.f1().update(outputs["kind"], {**batch, "labels": jnp.asarray(labels)})
    assert metric.compute(metric.update(outputs, batch)) == metrics.f1().compute(alone)
    assert metric == metrics.of_output("kind", metrics.f1())
    with pytest.raises(ValueError, match=r"the outputs have no 'king'. Did you mean 'kind'"):
        metrics.of_output("king", metrics.correct)(outputs, batch["labels"])
    with pytest.raises(ValueError, match=r"'kind', ...\) is for several outputs, and there is one"):
        metrics.of_output("kind", metrics.correct)(outputs["kind"], batch["labels"])


@pytest.mark.parametrize("name", ["f1", "confusion_matrix", "auroc", "top_k", "mae", "r2"])
def test_a_metric_of_one_output_says_how_to_measure_one_of_several(name):
    outputs = {"kind": jnp.zeros((2, 3)), "size": jnp.zeros((2, 1))}
    batch = {"labels": {"kind": jnp.zeros(2, int), "size": jnp.zeros((2, 1))}, "mask": jnp.ones(2)}
    metric = getattr(metrics, name)(*[2] * (name == "top_k"))
    with pytest.raises(ValueError, match=r"of_output\('kind', metric\) measures one of them$"):
        metric.update(outputs, batch)

"""The benchmarks: the twins are the same nets, ratios stay within a round, tables come out."""

from __future__ import annotations

import importlib.util
import warnings

import jax
import numpy as np
import pytest
from commands import CACHE, python

import cnnjax as cj
from cnnjax.models.builder import build
from experiments.benchmarks import (
    conv_engines,
    explain_speed,
    explainers,
    freezing,
    peers,
    processes,
    startup,
    train_speed,
    twins,
)
from experiments.benchmarks.conv_engines import Conv

pytestmark = pytest.mark.thorough

MODELS = list(twins.SETTINGS)
TINY = Conv("tiny", "conv", (2, 6, 6, 3), (3, 3, 3, 4))


def parameters(model: str) -> int:
    return cj.summary(net(model)).trainable


def net(model: str) -> cj.Model:
    return cj.create_model(model, input_shape=twins.SETTINGS[model].shape, num_classes=10)


@pytest.mark.sample(1)
@pytest.mark.parametrize("model", MODELS)
def test_our_net_takes_the_images(model):
    assert net(model).spec.input_shape == twins.SETTINGS[model].shape


@pytest.mark.sample(1)
@pytest.mark.parametrize("model", MODELS)
def test_keras_twin(model):
    pytest.importorskip("keras")
    twin = twins.keras_twin(model)
    assert sum(w.numpy().size for w in twin.trainable_weights) == parameters(model)
    assert twin.output_shape == (None, 10)


@pytest.mark.parametrize("model", MODELS)
def test_torch_twin(model):
    torch = pytest.importorskip("torch")
    twin, (height, width, channels) = twins.torch_twin(model), twins.SETTINGS[model].shape
    assert sum(p.numel() for p in twin.parameters()) == parameters(model)
    assert twin(torch.zeros(2, channels, height, width)).shape == (2, 10)


SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("vgg16", "inception_v3", "xception")]


@pytest.mark.parametrize("name", ["mobilenet", "lenet", *SLOW])
def test_a_torch_twin_made_from_the_graph_has_the_same_outputs(name):
    torch = pytest.importorskip("torch")
    from experiments.benchmarks.torch_graph import TorchGraph

    size = {"lenet": (16, 20, 1), "mobilenet": (47, 60, 3)}.get(name, (79, 96, 3))
    arguments = {"alpha": 0.25} if name == "mobilenet" else {}
    model = cj.create_model(name, input_shape=size, **arguments)
    twin = TorchGraph(model).eval()
    twin.take_weights(model)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *size)).astype(np.float32)
    with torch.inference_mode():
        y = twin(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()
    np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("twin", [twins.keras_twin, twins.torch_twin])
def test_an_unknown_twin_is_refused(twin):
    pytest.importorskip(twin.__name__.removesuffix("_twin"))
    with pytest.raises(ValueError, match=r"one of mnist_convnet, .* got 'vgg16'"):
        twin("vgg16")


@pytest.mark.parametrize("worker", ["keras", "torch"])
def test_a_worker_trains(worker):
    pytest.importorskip(worker)
    setting = twins.SETTINGS["mnist_convnet"]
    data = twins.random_data(setting, setting.batch)  # one shape, one compilation
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        rates = twins.WORKERS[worker]("mnist_convnet", setting, data, 2)
    assert len(rates) == 2
    assert min(rates) > 0


@pytest.mark.slow
def test_a_measurement_is_a_process_of_its_own():
    environment = {"CNNJAX_CACHE_DIR": str(CACHE)}
    measured = peers.train(peers.Peer("cnnjax", {}), "mnist_convnet", 64, 2, environment)
    assert len(measured.rates) == 2
    assert measured.seconds > 0
    assert measured.peak_mib > 50
    with pytest.raises(RuntimeError, match="KeyError"):
        peers.train(peers.Peer("no such worker", {}), "mnist_convnet", 64, 1)


def test_ratios_stay_within_a_round():
    # The machine halves its speed after the first round; the ratio does not change.
    speeds, order = {"ours": [8.0, 4.0, 2.0], "theirs": [4.0, 2.0, 1.0]}, []

    def measure(name: str, number: int) -> float:
        order.append((name, number))
        return speeds[name][number]

    shown = []
    values = peers.alternate(list(speeds), 3, measure, lambda number, last: shown.append(last))
    assert values == speeds
    assert order == [(name, number) for number in range(3) for name in speeds]
    assert shown[1] == {"ours": 4.0, "theirs": 2.0}
    assert peers.ratios(values["ours"], values["theirs"]) == [2.0, 2.0, 2.0]
    assert peers.spread([1.5, 1.0, 3.0]) == "1.50 (1.00 to 3.00)"


def test_train_speed_prints_medians_and_ratios(monkeypatch, capsys):
    rates = iter([9.0, 100.0, 300.0, 9.0, 50.0, 70.0] * 2)  # ours and theirs, each with compilation

    def train(*_):
        return peers.Measured((next(rates), next(rates), next(rates)), 1.0, 1.0)

    monkeypatch.setattr(peers, "train", train)
    monkeypatch.setattr(peers, "others", lambda: {"keras": peers.Peer("keras", {})})
    train_speed.main(train_speed.Config(model="lenet", rounds=2))
    out = capsys.readouterr().out
    assert "lenet, batch 128, Adam" in out
    assert "200 images/s   cnnjax / cnnjax: 1.00" in out
    assert "60 images/s   cnnjax / keras: 3.33 (3.33 to 3.33)" in out


def test_startup_caches_are_empty_first_and_warm_then(monkeypatch, capsys):
    filled: set[str] = set()
    found: list[bool] = []

    def train(peer, model, examples, epochs, environment):
        cache = environment["CNNJAX_CACHE_DIR"]
        seconds = {"cnnjax": 2.0 if cache in filled else 4.0, "keras": 8.0}[peer.worker]
        if peer.worker == "cnnjax":
            found.append(cache in filled)
            filled.add(cache)
        return peers.Measured((1.0,), seconds, 500.0)

    monkeypatch.setattr(peers, "train", train)
    monkeypatch.setattr(peers, "others", lambda: {"keras": peers.Peer("keras", {})})
    startup.main(startup.Config(model="mnist_convnet", rounds=2))
    assert found == [False, False, True, True] * 2  # step and epoch, twice
    out = capsys.readouterr().out
    assert "first epoch of 60,000 images" in out
    assert "keras / cnnjax, empty cache: 2.00" in out
    assert "keras / cnnjax, warm cache: 4.00" in out


def test_heatmaps_of_pytorch_with_hooks_are_ours():
    torch = pytest.importorskip("torch")
    from experiments.benchmarks.torch_graph import TorchGraph

    model = cj.create_model("mobilenet", alpha=0.25, input_shape=(64, 64, 3))
    twin = TorchGraph(model).eval()
    twin.take_weights(model)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)
    batch = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    found = explainers.torch_heatmaps(twin, "conv_pw_11_relu", batch, 7)
    assert found.max() > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cj.explain.EmptyMap)
        ours = cj.explain.grad_cam(model, x, "conv_pw_11_relu", 7)
    np.testing.assert_allclose(ours, found, atol=1e-4)


def test_explain_speed_prints_medians_and_ratios(monkeypatch, capsys):
    rates = {"grad_cam, cnnjax": 20.0, "grad_cam, torch": 10.0}
    monkeypatch.setattr(
        peers, "explain", lambda worker, *_: peers.Measured((rates.get(worker, 5.0),) * 3, 1.0, 1.0)
    )
    explain_speed.main(explain_speed.Config(case="grad_cam", rounds=2))
    out = capsys.readouterr().out
    assert "Grad-CAM, MobileNet, 224x224, 64 images" in out
    lines = {line[:24].strip(): line for line in out.splitlines() if "cnnjax / " in line}
    assert "20.00 images/s" in lines["cnnjax"]
    if importlib.util.find_spec("torch"):
        assert lines["torch"].endswith("10.00 images/s   cnnjax / torch: 2.00 (2.00 to 2.00)")


def test_engine_table(capsys):
    conv_engines.report([TINY], rounds=1)
    head, forward, training, verdict = capsys.readouterr().out.splitlines()
    assert head.split()[-3:] == ["lax", "im2col", "winograd"]
    for line, kind in ((forward, "forward"), (training, "gradients")):
        assert line.split()[:6] == ["tiny", "conv", "2x6x6x3", "3x3x3x4", "same", kind]
        assert line.count("*") == 1
        assert sum(cell.endswith("a") for cell in line.split()[6:]) == 1
    assert '"auto" took the fastest engine in' in verdict


@pytest.mark.sample(2)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("net", ["lenet", "cifar_deep", "vgg16"])
def test_the_engine_marked_is_the_one_that_auto_takes(net, training):
    def operations(conv: Conv, engine: str) -> tuple[int, int]:
        arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (conv.inputs, conv.kernel)]
        if training:
            forward = conv_engines.program(conv, "lax", training=False)
            arrays.append(jax.eval_shape(forward, *arrays))
        text = conv_engines.program(conv, engine, training).lower(*arrays).as_text()
        return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")

    for conv in conv_engines.convolutions(net):
        assert operations(conv, "auto") == operations(conv, conv_engines.chosen(conv, training))


def test_convolutions_of_the_nets():
    mnist = conv_engines.convolutions("mnist_convnet")
    assert [(conv.layer, conv.inputs, conv.kernel, conv.first) for conv in mnist] == [
        ("conv1", (64, 28, 28, 1), (3, 3, 1, 32), True),
        ("conv2", (64, 13, 13, 32), (3, 3, 32, 64), False),
        ("conv3", (64, 5, 5, 64), (3, 3, 64, 64), False),
    ]
    assert {conv.padding for conv in mnist} == {"valid"}
    assert conv_engines.engines(conv_engines.convolutions("lenet")[0]) == ("lax", "im2col")
    assert [conv.first for conv in conv_engines.convolutions("vgg16")] == [True] + [False] * 8
    assert len(conv_engines.convolutions("resnet50")) > 15
    with pytest.raises(ValueError, match=r"only must be one of mnist_convnet, .*, got 'resnet'"):
        conv_engines.convolutions("resnet")


@pytest.mark.slow
def test_freezing_table():
    model = cj.create_model("mnist_convnet", input_shape=(18, 18, 1), num_classes=1)
    cuts = {"all trained": (), "base frozen": cj.transfer.base_layers(model)}
    rows = freezing.measure(model, cuts, batch=4, rounds=2)
    free, frozen = rows["all trained"], rows["base frozen"]
    assert (free.trained, frozen.trained) == (parameters_of(model), 65)
    assert frozen.flops < 0.6 * free.flops
    assert 0 < frozen.temporary_bytes < free.temporary_bytes
    assert min(row.step_seconds for row in rows.values()) > 0
    head, first, second = freezing.text(rows).splitlines()
    assert head.split() == ["trained", "compile", "s", "GFLOP", "step", "ms", "temporary", "MiB"]
    assert first.split()[:3] == ["all", "trained", f"{free.trained:,}"]
    assert first.count("100 %") == 4
    assert second.startswith("base frozen")


def parameters_of(model):
    return cj.summary(model).trainable


def test_the_top_blocks_of_the_freezing_table_are_there():
    for name, layer in freezing.TOP_BLOCKS.items():
        model = cj.Model.abstract(*build(name, include_top=False))
        assert cj.transfer.layers_before(model, layer)


@pytest.mark.parametrize(
    "name", ["train_speed", "startup", "inference_speed", "conv_engines", "freezing"]
)
def test_help(name):
    out = python("-m", f"experiments.benchmarks.{name}", "--help").stdout
    assert f"usage: python -m experiments.benchmarks.{name}" in out
    assert "--rounds" in out


def test_the_table_of_processes_has_a_line_for_each_form(monkeypatch, capsys):
    held = {"whole": np.asarray(1200), "divided": np.asarray(400)}

    def run(config, folder, count, devices):
        apart = np.float32(1e-7 * (count * devices > 1))
        return held | {f"{name}/w": np.ones(2) + apart for name in ("plain", "norm", "fsdp")}

    monkeypatch.setattr(processes, "run", run)
    processes.main(processes.Config())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + len(processes.FORMS)
    assert lines[-1].endswith("the same bits: yes")
    assert lines[3] == "| 1 x 1 | 0.0e+00 | 0.0e+00 | 1,200 -> 400 |"
    assert lines[4] == "| 1 x 2 | 1.0e-07 | 1.0e-07 | 1,200 -> 400 |"

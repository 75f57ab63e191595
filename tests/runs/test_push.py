"""Models from and to a hub: the cache's layout, offline, and a server that speaks the protocol."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_family import NAMES, registered, state_dict

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.core.download_job import DownloadError
from cnnjax.core.hub import hub_place
from cnnjax.models import UnreadableModel, WeightsDoNotFit
from cnnjax.models.torch_names import TorchNames

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, without a hub that could be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def snapshot(cache, repository="owner/net"):
    """Where the files of a repository's main branch lie in a cache, as the library keeps them."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    files = folder / "snapshots" / COMMIT
    files.mkdir(parents=True)
    return files


@pytest.mark.parametrize("text", ["hf://owner/net", f"hf://owner/net@{COMMIT}/model.safetensors"])
def test_weights_of_a_hub_offline_keep_their_commit(text, cache):
    save_file(state_dict(), snapshot(cache) / "model.safetensors")
    with registered():
        model = cj.create_model("small_torch", weights=text)
    pinned = f"hf://owner/net@{COMMIT}/model.safetensors"
    assert model.spec.weights == f"{pinned} (torchvision)"
    expected = state_dict()["fc.bias"]
    np.testing.assert_array_equal(model.params["logits"]["bias"], expected)


def test_the_owner_says_which_of_two_libraries_with_the_same_names_it_is(cache):
    save_file(state_dict(), snapshot(cache, "timm/net") / "model.safetensors")
    one = TorchNames("torchvision", NAMES, {"origin": "torch"})
    other = TorchNames("timm", NAMES, {"origin": "torch"}, crop=0.95)
    with registered(one, other):
        model = cj.create_model("small_torch", weights="hf://timm/net")
    assert model.spec.weights == f"hf://timm/net@{COMMIT}/model.safetensors (timm)"
    assert model.spec.crop == 0.95


def configured(cache, config, name="timm/net", *tables):
    """A model with weights of a hub and what stands beside them."""
    files = snapshot(cache, name)
    save_file(state_dict(), files / "model.safetensors")
    (files / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    torch = TorchNames("timm", NAMES, {"origin": "torch"}, model="net")
    with registered(*(tables or (torch,))):
        return cj.create_model("small_torch", weights=f"hf://{name}")


def test_what_timm_says_beside_its_weights_is_done(cache):
    weights = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
    model = configured(cache, {"architecture": "net", "pretrained_cfg": weights})
    assert (model.spec.preprocessing, model.spec.crop) == ("tf", 0.9)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"architecture": "netblur"}, "is timm's 'netblur', which computes something else than"),
        ({"mean": [0.4] * 3, "std": [0.3] * 3}, "which no preprocessing here does: give one of"),
        ("{", "config.json beside it is not readable"),
    ],
)
def test_weights_of_another_net_with_the_same_names_are_refused(config, text, cache):
    with pytest.raises(WeightsDoNotFit, match=text):
        configured(cache, config)


@pytest.mark.parametrize("name", ["timm/tf_net.ns_in1k", "someone/tf_net"])
@pytest.mark.parametrize("config", [{}, {"architecture": "tf_net"}])
def test_nets_of_timm_with_keras_arithmetic_are_known_by_name(name, config, cache):
    """Nothing else tells them apart from those without "tf_"."""
    one = TorchNames("timm", NAMES, {"origin": "torch"}, model="net")
    other = TorchNames("timm", NAMES, {"origin": "torch"}, "tf", model="tf_net")
    assert configured(cache, config, name, one, other).spec.preprocessing == "tf"


def test_what_is_no_run_is_not_pushed():
    with pytest.raises(
        ValueError, match=r"run must be what cj.fit returned, a run directory or a M"
    ):
        cj.push(5, "owner/net")


def test_a_hub_that_cannot_be_reached_is_an_error_of_one_sentence(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"hf://owner/net cannot be had: .*refused"):
        cj.push(cj.create_model("mlp", units=(3,)), "owner/net")


def test_what_is_not_in_the_cache_is_an_error_of_one_sentence(cache):
    snapshot(cache)
    for text in ("hf://owner/net", "hf://owner/other/w.pth"):
        with pytest.raises(DownloadError, match=f"{text} is not in the cache, and the hub cannot"):
            cj.create_model("mnist_convnet", weights=text)


def test_what_names_no_repository_is_an_error():
    for text in ("hf://owner", "hf://owner/name@", "hf://a/b c"):
        with pytest.raises(ValueError, match="must be hf://owner/name"):
            hub_place(text)
    with pytest.raises(UnreadableModel, match=r"hf://a/b/c.h5 is a file: cj.load takes"):
        cj.load("hf://a/b/c.h5")


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits whose files stand in the request itself."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {"url": f"{self.server.base}/owner/net"}
        if "/preupload/" in self.path:
            files = [{**f, "uploadMode": "regular"} for f in json.loads(content)["files"]]
            answer = {"files": [{**f, "shouldIgnore": False} for f in files]}
        elif "/commit/" in self.path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            answer = {"commitUrl": f"{self.server.base}/owner/net/commit/{COMMIT}"}
            answer |= {"commitOid": COMMIT, "success": True}
        self._answer(answer)

    def do_GET(self):
        self._answer({"sha": COMMIT, "siblings": [], "id": "owner/net"})

    def _answer(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.base, server.files = f"http://127.0.0.1:{server.server_port}", {}
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.base)
    monkeypatch.setenv("HF_TOKEN", "hf_for_tests")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_pushed_is_loaded_bit_for_bit(server, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    net = cj.create_model("mlp", input_shape=(6, 6, 1), num_classes=2, units=(3,))
    config = cj.TrainingConfig(epochs=1, batch_size=4)
    run = cj.fit(net, (images, np.arange(8) % 2), config, directory=tmp_path / "run", verbose=False)
    assert cj.push(run, "owner/net") == f"hf://owner/net@{COMMIT}"
    assert set(server.files) >= {"README.md", "model.json", "weights.safetensors"}
    card = server.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: cnnjax\n")
    for text in (
        'cj.load("hf://owner/net")',
        "| seed | 0 |",
        "8 examples, fingerprint",
        "| epochs |",
    ):
        assert text in card
    assert str(tmp_path) not in card
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files = snapshot(cache)
    for name, content in server.files.items():
        (files / name).write_bytes(content)
    model = cj.load("hf://owner/net")
    assert trees.tree_hash(model.variables) == trees.tree_hash(run.model.variables)


def test_a_repository_to_push_to_is_owner_and_name():
    model = cj.create_model("mlp", input_shape=(2, 2, 1), units=(2,))
    with pytest.raises(ValueError, match="repository must be 'owner/name', got 'owner/net@main'"):
        cj.push(model, "owner/net@main")

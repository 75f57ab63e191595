"""The examples of docs/export.md, and the service, run as written and without cnnjax."""

from __future__ import annotations

import io
import json
import re
import runpy
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = re.findall(r"```py\n(.*?)```", (DOCS / "export.md").read_text(), re.DOTALL)


def model() -> cj.Model:
    names = tuple("abcdefghij")
    return cj.create_model("mlp", units=(4,), label_names=names)


@pytest.mark.parametrize("ending", ["onnx", "stablehlo"])
def test_an_example_loads_a_file_without_cnnjax(
    ending: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = EXAMPLES[("onnx", "stablehlo").index(ending)]
    assert "cnnjax" not in code
    assert len([line for line in code.splitlines() if line]) <= 12
    monkeypatch.chdir(tmp_path)
    cj.export(model(), f"m.{ending}")
    capsys.readouterr()
    exec(compile(code, f"docs/export.md, {ending}", "exec"), {})
    wanted = cj.predict(model(), np.zeros((1, 28, 28, 1), np.uint8))[0]
    name, probability = capsys.readouterr().out.splitlines()[1].split()
    assert name == "abcdefghij"[wanted.argmax()]
    assert float(probability) == pytest.approx(wanted.max(), abs=1e-5)


def test_the_service_answers_an_image(tmp_path: Path) -> None:
    source = (DOCS / "examples" / "serve.py").read_text()
    assert "import cnnjax" not in source
    cj.export(model(), tmp_path / "m.onnx")
    make = runpy.run_path(str(DOCS / "examples" / "serve.py"))["server"]
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with make(str(tmp_path / "m.onnx"), 0) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            with urllib.request.urlopen(address, file.getvalue()) as response:
                answer = json.loads(response.read())
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(address, b"no image").close()
        finally:
            server.shutdown()
            thread.join()
    wanted = cj.predict(model(), pixels[None, ..., None])[0]
    np.testing.assert_allclose([answer[name] for name in "abcdefghij"], wanted, atol=1e-5)

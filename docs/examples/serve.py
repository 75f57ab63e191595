"""An exported model as a web service: onnxruntime and Python's own library, no cnnjax.

python docs/examples/serve.py m.onnx 8000
curl --data-binary @image.jpg http://127.0.0.1:8000
"""

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def server(file, port):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (images,), facts = session.get_inputs(), session.get_modelmeta().custom_metadata_map
    _, height, width, channels = images.shape
    names = json.loads(facts["class_names"])

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                image = Image.open(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))))
                image = image.convert("RGB" if channels == 3 else "L")
            except (OSError, TypeError) as error:
                return self.send_error(400, f"not an image: {type(error).__name__}")
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32).reshape(1, height, width, channels)
            (rows,) = session.run(None, {images.name: pixels})
            body = json.dumps(dict(zip(names, rows[0].tolist(), strict=True))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Answer)


if __name__ == "__main__":
    server(sys.argv[1], int(sys.argv[2])).serve_forever()

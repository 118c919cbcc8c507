import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.data.sources import named, open_dataset
from discern.errors import UsageError
from discern.progress import Silent


class Listener(Silent):
    """A Progress that remembers what is said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def parquet(labels, seed=0):
    """A file as the hub's are: `img`, `label`, class names in the schema."""
    images = []
    for number in range(len(labels)):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed + number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"img": pa.array(images), "label": pa.array(labels)})
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["airplane", "bird"]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


FILES = {
    "README.md": b"# CIFAR-10",
    "plain_text/train-00000-of-00001.parquet": parquet([0, 1, 1]),
    "plain_text/test-00000-of-00001.parquet": parquet([0, 1], seed=10),
}


@pytest.fixture
def download(monkeypatch):
    """Downloads from no hub: it copies FILES; `.asked` counts."""

    def copy(wanted, folder):
        copy.asked += 1
        for name, data in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        return "abc123"

    copy.asked = 0
    monkeypatch.setattr(named, "_from_hub", copy)
    return copy


@pytest.mark.parametrize("word", ["cifar10", "CIFAR10"])
def test_a_named_set_is_downloaded_once(download, cache, tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    listener = Listener()
    dataset = open_dataset(word, progress=listener)
    assert dataset.split_counts() == {"train": 3, "test": 2}
    assert dataset.classes == ("airplane", "bird")
    assert dataset.root == (cache / "sets" / "cifar10" / "plain_text").resolve()
    assert len(listener.said) == 1
    assert "Downloading cifar10, about 144 MB, from huggingface.co/datasets/uoft-cs/cifar10" in listener.said[0]
    assert open_dataset(word, progress=listener).images == dataset.images
    assert download.asked == len(listener.said) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_spellings():
    assert named.set_called("Fashion_MNIST") == "fashion-mnist"
    assert named.set_called("photos") is None
    assert named.nearest("cifar-10") == "cifar10"


def test_a_path_of_that_name_goes_before_the_set(download, photos, monkeypatch):
    root = photos({"cat": 2, "dog": 1}, into="cifar10")
    monkeypatch.chdir(root.parent)
    listener = Listener()
    assert open_dataset("cifar10", progress=listener).classes == ("cat", "dog")
    assert listener.said == [f"cifar10 is taken for {root.resolve()}, which exists, and not for the set of that name."]
    assert download.asked == 0
    listener.said.clear()
    assert len(open_dataset("./cifar10", progress=listener)) == 3
    assert listener.said == []


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("cifar1O", "did you mean the set 'cifar10'?"),
        ("mnits", "did you mean the set 'mnist'?"),
        ("fashionmnist", "did you mean the set 'fashion-mnist'?"),
        ("my-photos", "check the path."),
        ("photos/cifar11", "check the path."),
    ],
)
def test_a_name_that_is_none(download, tmp_path, monkeypatch, word, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"No such file or folder: {word}; .*{hint[:-1]}"):
        open_dataset(word)
    assert download.asked == 0


def test_an_interrupted_download_is_begun_again(download, monkeypatch):
    def broken(wanted, folder):
        download(wanted, folder)
        (folder / "plain_text/test-00000-of-00001.parquet").unlink()
        raise ConnectionError("the line went dead\nand more")

    monkeypatch.setattr(named, "_from_hub", broken)
    with pytest.raises(
        UsageError, match=r"'cifar10' could not be downloaded from .*uoft-cs/cifar10 \(the line went dead"
    ):
        open_dataset("cifar10")
    monkeypatch.setattr(named, "_from_hub", download)
    assert open_dataset("cifar10").split_counts() == {"train": 3, "test": 2}


def test_a_hub_that_has_no_such_files_any_more(monkeypatch):
    monkeypatch.setattr(named, "_from_hub", lambda wanted, folder: "abc")
    with pytest.raises(UsageError, match=r"uoft-cs/cifar10 has no Parquet files in plain_text/ any more"):
        open_dataset("cifar10")


# The hub's own client


def command(*words, endpoint, cache):
    environment = os.environ | {"HF_ENDPOINT": endpoint, "DISCERN_CACHE": str(cache), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HOME": str(cache / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    start = time.perf_counter()
    code = "import sys, discern.cli.main as m; m.main(sys.argv[1:])"
    words = [sys.executable, "-c", code, *words]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=cache, check=False)
    return done, time.perf_counter() - start


@pytest.fixture
def hub():
    """A server that answers the hub's client as the hub does, with FILES in uoft-cs/cifar10."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, name = self.path.partition("?")[0].partition("/resolve/abc123/")
            if name in FILES:
                return self.answer(FILES[name], {"ETag": f'"{len(name)}"', "X-Repo-Commit": "abc123"})
            if path.startswith("/api/datasets/uoft-cs/cifar10/tree/"):
                entries = [{"type": "file", "path": n, "size": len(d), "oid": n} for n, d in FILES.items()]
                return self.answer(json.dumps(entries).encode(), {})
            if path.startswith("/api/datasets/uoft-cs/cifar10"):
                return self.answer(json.dumps({"id": "uoft-cs/cifar10", "sha": "abc123"}).encode(), {})
            return self.send_error(404)

        do_HEAD = do_GET

        def answer(self, data, headers):
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_s_client_fetches_what_is_wanted(hub, tmp_path):
    done, _ = command("audit", "cifar10", "--json", endpoint=hub, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 5
    kept = tmp_path / "sets" / "cifar10"
    assert json.loads((kept / "complete.json").read_text()) == {"repository": "uoft-cs/cifar10", "version": "abc123"}
    assert not (kept / "README.md").exists()


def test_offline_the_way_on_is_said_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    done, seconds = command("audit", "cifar10", endpoint=endpoint, cache=tmp_path)
    assert done.returncode == 2
    assert (
        "Error: The set 'cifar10' could not be downloaded from huggingface.co/datasets/uoft-cs/cifar10" in done.stderr
    )
    assert "put its Parquet files (the folder plain_text/) into a folder and name that instead" in done.stderr
    assert "Traceback" not in done.stderr
    assert seconds < 30


def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done, seconds = command("audit", "cifar10", endpoint=endpoint, cache=tmp_path)
    assert done.returncode == 2
    assert "could not be downloaded" in done.stderr
    assert seconds < 60
    assert not list(Path(tmp_path, "sets").rglob("*.parquet"))

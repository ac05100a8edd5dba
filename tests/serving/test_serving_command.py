"""`fed-em serve`: a process that serves, swaps and drains; and what it refuses to begin with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fed_em.model_file import save_model
from fed_em_simulations.command_line import app
from tests.fed_em.random_mixtures import random_mixture
from tests.serving.test_faces import ask_http

REPOSITORY = Path(__file__).resolve().parents[2]


def started(*arguments: str) -> tuple[subprocess.Popen[str], int, str]:
    """The process, its port of HTTP, and what it said before."""
    folders = (".", "protocols", "client", "server", "simulations")
    process = subprocess.Popen(
        [sys.executable, "-m", "fed_em_simulations.command_line", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(REPOSITORY / each) for each in folders)},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if found := re.match(r"HTTP on port (\d+)", line):
            return process, int(found[1]), said
        said += line
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
def test_it_serves_swaps_and_goes_when_told(tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_mixture("mixed"))
    listening = ("--grpc", "off", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    process, port, said = started(str(tmp_path / "model"), *listening, "--every", "0.05")
    try:
        first = ask_http(port, "/predict", {"rows": [{}]})[1]
        save_model(tmp_path / "model", random_mixture("mixed", seed=1))
        end = time.monotonic() + 60
        while (now := ask_http(port, "/predict", {"rows": [{}]})[1])["version"] == first["version"]:
            assert time.monotonic() < end
        assert now["predictions"] != first["predictions"]
        with urllib.request.urlopen(said.removeprefix("metrics are at ").strip(), timeout=30) as scraped:
            assert "\nfed_em_model_swaps_total 1.0\n" in scraped.read().decode()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert said.count("serving version") == 2 and "stopping" in said


@pytest.mark.slow
def test_no_request_is_lost_or_mixed_while_versions_change(tmp_path: Path) -> None:
    models = [random_mixture("mixed", seed=seed) for seed in range(2)]
    folder = tmp_path / "model"
    save_model(folder, models[0])
    process, port, _ = started(str(folder), "--grpc", "off", "--http", "127.0.0.1:0", "--every", "0.05")
    stop, wrong, versions = threading.Event(), list[str](), dict[str, str]()

    def ask() -> None:
        while not stop.is_set():
            status, document, _ = ask_http(port, "/predict", {"rows": [{}] * 3})
            answer = json.dumps(document.get("predictions"))
            if status != 200 or versions.setdefault(document["version"], answer) != answer:
                wrong.append(json.dumps(document))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for i in range(20):
            save_model(folder, models[i % 2])
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        process.kill()
        process.communicate()
    assert not wrong and len(versions) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "name what to serve"),
        (["MODEL", "--registry", "MODEL"], "name what to serve"),
        (["nowhere"], "there is no model in 'nowhere'"),
        (["MODEL", "--http", "0.0.0.0:0"], "there is no TLS"),
        (["MODEL", "--http", "example.org:0"], "there is no TLS"),
        (["MODEL", "--http", "8462"], "no host:port"),
        (["MODEL", "--tls-key", "key.pem"], "a certificate and its key"),
        (["--registry", "MODEL", "--stage", "No Stage"], "No Stage"),
        (["MODEL", "--grpc", "off", "--http", "off"], "nothing to listen on"),
    ],
)
def test_what_it_does_not_begin_with(tmp_path: Path, arguments: list[str], named: str) -> None:
    save_model(tmp_path, random_mixture("gaussian"))
    done = CliRunner().invoke(app, ["serve", *(str(tmp_path) if each == "MODEL" else each for each in arguments)])
    assert named in str(done.exception) and done.exit_code == 1

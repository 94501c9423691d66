"""What `auto` means, and that a recipe which was named is never swapped for another."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import VGG16_Weights

from imgindex import ImageIndex
from imgindex.embedding import weights as weights_module
from imgindex.embedding.choice import Choice, choose, recall
from imgindex.embedding.embedder import VggEmbedder
from imgindex.embedding.vgg import FeatureExtractor
from imgindex.embedding.weights import SHIPPED, TORCHVISION, cached_path, load, locate
from imgindex.errors import RecipeMismatch, UsageError, WeightsMismatch, WeightsUnavailable
from imgindex.types import Engine

FILE = "vgg16-397923af.pth"


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that refuses at once: nobody listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(weights_module, "URL", f"http://127.0.0.1:{port}/models/{FILE}")


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server in the place of torchvision's; `serve` is given the listening socket, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setattr(weights_module, "URL", f"http://127.0.0.1:{port}/models/{FILE}")
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield
    thread.join(30)


def answer(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 553433881\r\nConnection: close\r\n\r\n")


def whole_state_dict() -> dict[str, torch.Tensor]:
    """Seeded weights up to fc1; small on disk, since the fully connected layer repeats one row."""
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in FeatureExtractor("fc1").shapes().items():
        drawn = (1, *shape[1:]) if name == "classifier.0.weight" else shape
        state[name] = torch.randn(drawn, generator=generator).mul(0.05).expand(shape)
    return state


def convolutions() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in whole_state_dict().items() if name.startswith("features.")}


def explained(caplog: pytest.LogCaptureFixture) -> str:
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("imgindex")]
    return "\n".join(line for line in lines if line.startswith("recipe "))


def test_auto_on_a_closed_network_takes_what_is_shipped_and_says_why(
    closed: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "imgindex"):
        choice = choose("auto")
    assert choice.recipe.name == "vgg16-pool5"
    assert choice.weights == locate(SHIPPED)
    assert choice.recipe.weights_sha256 == choice.weights.sha256
    said = explained(caplog)
    assert said.startswith("recipe vgg16-pool5: ")
    assert "vgg16-fc1" in said
    assert "cannot be downloaded" in said
    assert "\n" not in said


def test_auto_takes_fc1_where_torchvisions_file_is_on_this_disk(
    closed: None, torch_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(whole_state_dict(), torch_home / FILE)
    with caplog.at_level(logging.INFO, "imgindex"):
        choice = choose("auto")
    assert choice.recipe.name == "vgg16-fc1"
    assert choice.recipe.weights == TORCHVISION
    assert choice.recipe.weights_sha256 == hashlib.sha256((torch_home / FILE).read_bytes()).hexdigest()
    assert explained(caplog).startswith("recipe vgg16-fc1: ")
    embedder = VggEmbedder(choice.recipe, choice.weights, Engine(device="cpu", precision="fp32"))
    assert embedder.embed(np.zeros((1, 448, 448, 3), np.uint8)).shape == (1, 4096)
    loaded = load(choice.weights, {"classifier.0.weight": (4096, 25088)})
    assert torch.equal(loaded["classifier.0.weight"], whole_state_dict()["classifier.0.weight"])


def test_auto_downloads_where_the_server_answers(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_state_dict(self: VGG16_Weights, **options: Any) -> None:
        assert options["check_hash"]
        torch.save(whole_state_dict(), torch_home / FILE)

    def twice(listening: socket.socket) -> None:
        answer(listening)
        answer(listening)

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", get_state_dict)
    with server(monkeypatch, twice):
        choice = choose("auto")
    assert choice.recipe.name == "vgg16-fc1"
    assert choice.recipe.weights_sha256 == hashlib.sha256((torch_home / FILE).read_bytes()).hexdigest()


def test_auto_takes_what_is_shipped_when_the_download_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_state_dict(self: VGG16_Weights, **options: Any) -> None:
        raise urllib.error.URLError("connection reset")

    def twice(listening: socket.socket) -> None:
        answer(listening)
        answer(listening)

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", get_state_dict)
    with server(monkeypatch, twice), caplog.at_level(logging.INFO, "imgindex"):
        assert choose("auto").recipe.name == "vgg16-pool5"
    assert "connection reset" in caplog.text


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"220 mail ready\r\n", b""]
)
def test_a_server_without_the_file_is_a_closed_network(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(reply)

    with server(monkeypatch, refuse):
        assert choose("auto").recipe.name == "vgg16-pool5"


@pytest.mark.parametrize("name", ["vgg16-fc1", "article"])
def test_a_named_recipe_is_never_swapped_and_the_ways_out_are_listed(closed: None, torch_home: Path, name: str) -> None:
    with pytest.raises(WeightsUnavailable, match=TORCHVISION) as error:
        choose(name)
    hint = error.value.hint
    assert str(torch_home) in hint
    assert FILE in hint
    assert "--weights FILE" in hint
    assert "--recipe vgg16-pool5" in hint
    assert "https://download.pytorch.org/" in hint


class InTime:
    """Runs a call in a thread and tells what came of it, or that nothing came within the time."""

    def __init__(self, call: Callable[[], Choice], seconds: float) -> None:
        self.outcome: object = "nothing yet"
        self.call = call
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        thread.join(seconds)

    def run(self) -> None:
        try:
            self.outcome = self.call().recipe.name
        except WeightsUnavailable as error:
            self.outcome = error


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections (the system does so for it), and never answers."""
    end = threading.Event()
    with server(monkeypatch, lambda listening: end.wait(60) and None):
        yield
        end.set()


def test_a_named_recipe_fails_within_15_seconds_when_the_server_does_not_answer(silence: None) -> None:
    outcome = InTime(lambda: choose("vgg16-fc1"), 15).outcome
    assert isinstance(outcome, WeightsUnavailable)
    assert "--weights FILE" in outcome.hint


def test_auto_decides_within_15_seconds_when_the_server_does_not_answer(silence: None) -> None:
    assert InTime(lambda: choose("auto"), 15).outcome == "vgg16-pool5"


def test_a_server_that_answers_byte_by_byte_does_not_hold_anybody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            for byte in b"HTTP/1.1 200 OK" + b"\r\nX: y" * 1000:
                if end.wait(0.2):
                    return
                connection.sendall(bytes([byte]))

    monkeypatch.setattr(weights_module, "PROBE_SECONDS", 1.0)
    with server(monkeypatch, trickle):
        outcome = InTime(lambda: choose("auto"), 15).outcome
        end.set()
    assert outcome == "vgg16-pool5"


def test_pool5_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "reachable", lambda: pytest.fail("asked the web"))
    assert choose("vgg16-pool5").weights.source == SHIPPED
    assert choose("auto", size=96).recipe.side == 96
    assert choose("article", weights="random:7").weights.source == "random:7"


def test_auto_takes_the_recipe_that_a_weights_file_reaches_to(tmp_path: Path) -> None:
    torch.save(whole_state_dict(), tmp_path / "whole.pth")
    torch.save(convolutions(), tmp_path / "part.pth")
    assert choose("auto", weights=str(tmp_path / "whole.pth")).recipe.name == "vgg16-fc1"
    assert choose("auto", weights=str(tmp_path / "part.pth")).recipe.name == "vgg16-pool5"
    assert choose("auto", weights=str(tmp_path / "whole.pth"), size=96).recipe.name == "vgg16-pool5"


def test_a_recipe_is_pinned_to_the_content_of_its_weights(tmp_path: Path) -> None:
    for name in ("one.pth", "same.pth"):
        torch.save(convolutions(), tmp_path / name)
    one = choose("vgg16-pool5", weights=str(tmp_path / "one.pth")).recipe
    assert one.weights == "one.pth"
    assert one.weights_sha256 == hashlib.sha256((tmp_path / "one.pth").read_bytes()).hexdigest()
    assert one.digest != choose("vgg16-pool5").recipe.digest
    assert (
        choose("vgg16-pool5", weights="random:1").recipe.digest
        != choose("vgg16-pool5", weights="random:2").recipe.digest
    )


@pytest.mark.parametrize("recipe", ["auto", "vgg16-pool5", "vgg16-fc1", "article"])
def test_a_weights_file_that_does_not_fit_makes_no_index(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "letter.pth").write_text("these are not weights\n" * 100)
    with pytest.raises(WeightsMismatch, match=r"letter\.pth"):
        ImageIndex.create(tmp_path / "i", recipe=recipe, weights=str(tmp_path / "letter.pth"))
    assert not os.path.exists(tmp_path / "i")


@pytest.mark.parametrize("recipe", ["vgg16-fc1", "article"])
def test_convolutions_alone_are_no_weights_for_fc1(tmp_path: Path, recipe: str) -> None:
    torch.save(convolutions(), tmp_path / "part.pth")
    for weights in (str(tmp_path / "part.pth"), SHIPPED):
        with pytest.raises(WeightsMismatch, match=r"lacks classifier\.0\.weight and 1 more"):
            choose(recipe, weights=weights)


def test_weights_that_are_not_there_are_an_error_for_auto_too(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"nowhere\.pth"):
        choose("auto", weights=str(tmp_path / "nowhere.pth"))


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="no recipe 'vgg19'"):
        choose("vgg19")


def test_torchs_cache_is_where_torch_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cached_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cached_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cached_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)


@pytest.fixture
def mine(tmp_path: Path) -> Choice:
    """pool5 with a weights file of one's own."""
    torch.save(convolutions(), tmp_path / "mine.pth")
    return choose("vgg16-pool5", weights=str(tmp_path / "mine.pth"))


def test_weights_are_found_again_where_they_were(mine: Choice) -> None:
    assert recall(mine.recipe, source=mine.weights.source) == mine.weights
    for weights in (None, "random:3"):
        choice = choose("vgg16-pool5", weights=weights)
        assert recall(choice.recipe, source=choice.weights.source) == choice.weights


def test_moved_weights_must_be_named_and_then_are_found(mine: Choice, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pth"
    Path(mine.weights.source).rename(moved)
    with pytest.raises(WeightsUnavailable, match=r"mine\.pth, are gone") as error:
        recall(mine.recipe, source=mine.weights.source)
    assert "--weights FILE" in error.value.hint
    assert recall(mine.recipe, source=mine.weights.source, weights=str(moved)).source == str(moved)


def test_changed_weights_are_refused(mine: Choice) -> None:
    state = convolutions()
    state["features.0.bias"][0] += 1
    torch.save(state, mine.weights.source)
    with pytest.raises(RecipeMismatch, match=r"mine\.pth is not the weights file") as error:
        recall(mine.recipe, source=mine.weights.source)
    assert mine.recipe.weights_sha256 in str(error.value)
    assert "--weights FILE" in error.value.hint


@pytest.mark.parametrize("weights", ["random:1", SHIPPED])
def test_other_weights_than_the_indexs_are_refused(mine: Choice, weights: str) -> None:
    with pytest.raises(RecipeMismatch, match=weights):
        recall(mine.recipe, source=mine.weights.source, weights=weights)


def test_a_wrong_path_given_now_is_not_said_to_be_the_indexs_own(mine: Choice, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="there is no weights file"):
        recall(mine.recipe, source=mine.weights.source, weights=str(tmp_path / "nowhere.pth"))


def test_a_cache_that_was_emptied_lists_the_ways_out(closed: None, torch_home: Path) -> None:
    torch.save(whole_state_dict(), torch_home / FILE)
    choice = choose("vgg16-fc1")
    kept = torch_home.parent / "kept.pth"
    (torch_home / FILE).rename(kept)
    with pytest.raises(WeightsUnavailable, match=TORCHVISION) as error:
        recall(choice.recipe, source=choice.weights.source)
    assert "--weights FILE" in error.value.hint
    assert recall(choice.recipe, source=choice.weights.source, weights=str(kept)).sha256 == choice.weights.sha256

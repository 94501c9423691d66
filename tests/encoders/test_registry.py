"""The choice of a recipe, which is never replaced by another, and of the weights of an index."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import VGG16_Weights

from imgindex import ImageIndex
from imgindex.encoders import weights as weights_module
from imgindex.encoders.registry import RecipeChoice, choose_recipe, find_weights_again, make_encoder
from imgindex.encoders.vgg import layers
from imgindex.encoders.weights import SHIPPED, TORCHVISION, imagenet_path, load_weights, locate_weights
from imgindex.errors import RecipeMismatch, UsageError, WeightsMismatch, WeightsUnavailable
from imgindex.recipe import RECIPES
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
    """A network without the server: no process listens on the port, so a connection is refused at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(weights_module, "URL", f"http://127.0.0.1:{port}/models/{FILE}")


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server in place of torchvision's: `serve` is called in a thread with the listening socket."""
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
    """Seeded weights up to fc1; small on disk, because the fully connected layer repeats one row."""
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in layers.shapes("fc1").items():
        drawn = (1, *shape[1:]) if name == "classifier.0.weight" else shape
        state[name] = torch.randn(drawn, generator=generator).mul(0.05).expand(shape)
    return state


def convolutions() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in whole_state_dict().items() if name.startswith("features.")}


def test_the_default_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "server_answers", lambda: pytest.fail("asked the server"))
    choice = choose_recipe()
    assert choice.recipe.name == "vgg16-pool5"
    assert choice.weights == locate_weights(SHIPPED)
    assert choice.recipe.weights_sha256 == choice.weights.sha256


def test_the_default_stays_where_torchvisions_file_is_on_this_disk(closed: None, torch_home: Path) -> None:
    torch.save(whole_state_dict(), torch_home / FILE)
    assert choose_recipe().recipe.name == "vgg16-pool5"


def test_fc1_takes_torchvisions_file_from_this_disk(closed: None, torch_home: Path) -> None:
    torch.save(whole_state_dict(), torch_home / FILE)
    choice = choose_recipe("vgg16-fc1")
    assert choice.recipe.weights == TORCHVISION
    assert choice.recipe.weights_sha256 == hashlib.sha256((torch_home / FILE).read_bytes()).hexdigest()
    encoder = make_encoder(choice.recipe, {}, None, Engine(device="cpu", precision="fp32"))
    assert encoder.encode(np.zeros((1, 448, 448, 3), np.uint8)).shape == (1, 4096)
    loaded = load_weights(choice.weights, {"classifier.0.weight": (4096, 25088)})
    assert np.array_equal(loaded["classifier.0.weight"], whole_state_dict()["classifier.0.weight"].numpy())


def test_fc1_is_downloaded_where_the_server_answers(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_state_dict(self: VGG16_Weights, **options: Any) -> None:
        assert options["check_hash"]
        torch.save(whole_state_dict(), torch_home / FILE)

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", get_state_dict)
    with server(monkeypatch, answer):
        choice = choose_recipe("vgg16-fc1")
    assert choice.recipe.name == "vgg16-fc1"
    assert choice.recipe.weights_sha256 == hashlib.sha256((torch_home / FILE).read_bytes()).hexdigest()


def test_a_download_that_fails_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_state_dict(self: VGG16_Weights, **options: Any) -> None:
        raise urllib.error.URLError("connection reset")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", get_state_dict)
    with server(monkeypatch, answer), pytest.raises(WeightsUnavailable, match="connection reset") as error:
        choose_recipe("vgg16-fc1")
    assert "`recipe=vgg16-pool5`" in error.value.hint


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"220 mail ready\r\n", b""]
)
def test_a_server_without_the_file_is_as_no_server(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(reply)

    with server(monkeypatch, refuse), pytest.raises(WeightsUnavailable, match="cannot be downloaded"):
        choose_recipe("vgg16-fc1")


@pytest.mark.parametrize("name", ["vgg16-fc1", "article"])
def test_a_named_recipe_is_never_replaced_and_the_hint_lists_the_ways_out(
    closed: None, torch_home: Path, name: str
) -> None:
    with pytest.raises(WeightsUnavailable, match=TORCHVISION) as error:
        choose_recipe(name)
    hint = error.value.hint
    assert str(torch_home) in hint
    assert FILE in hint
    assert "`weights=FILE`" in hint
    assert "`recipe=vgg16-pool5`" in hint
    assert "https://download.pytorch.org/" in hint


class InTime:
    """Runs a call in a thread; `outcome` is the name of the recipe, the error, or "nothing yet" after the time."""

    def __init__(self, call: Callable[[], RecipeChoice], seconds: float) -> None:
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
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A server that never answers; the operating system accepts the connections. How long it was asked, each time.

    It is asked for a second here; for a user in all at most as long as a command may take, 15 seconds.
    """
    asked: list[float] = []
    server_answers, seconds = weights_module.server_answers, weights_module.PROBE_SECONDS

    def ask() -> bool:
        asked.append(seconds)
        return server_answers()

    monkeypatch.setattr(weights_module, "server_answers", ask)
    monkeypatch.setattr(weights_module, "PROBE_SECONDS", 1.0)
    end = threading.Event()
    with server(monkeypatch, lambda listening: end.wait(60) and None):
        yield asked
        end.set()


def test_a_named_recipe_fails_within_15_seconds_when_the_server_does_not_answer(silence: list[float]) -> None:
    outcome = InTime(lambda: choose_recipe("vgg16-fc1"), 60).outcome
    assert isinstance(outcome, WeightsUnavailable)
    assert "`weights=FILE`" in outcome.hint
    assert 0 < sum(silence) < 15


def test_a_server_that_answers_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
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
        outcome = InTime(lambda: choose_recipe("vgg16-fc1"), 60).outcome
        end.set()
    assert isinstance(outcome, WeightsUnavailable)


def test_the_server_is_not_asked_when_its_weights_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "server_answers", lambda: pytest.fail("asked the server"))
    assert choose_recipe("vgg16-pool5").weights.source == SHIPPED
    assert choose_recipe(size=96).recipe.side == 96
    assert choose_recipe("article", weights="random:7").weights.source == "random:7"


def test_only_the_recipes_own_weights_have_its_mean(tmp_path: Path) -> None:
    torch.save(convolutions(), tmp_path / "mine.pth")
    assert choose_recipe().recipe.offset == "vgg16-pool5-320"
    assert choose_recipe(weights=SHIPPED, size=96).recipe.offset == "vgg16-pool5-96"
    for weights in (str(tmp_path / "mine.pth"), "random:1"):
        recipe = choose_recipe(weights=weights).recipe
        assert (recipe.offset, recipe.offset_sha256) == ("", "")


def test_a_recipe_is_pinned_to_the_content_of_its_weights(tmp_path: Path) -> None:
    for name in ("one.pth", "same.pth"):
        torch.save(convolutions(), tmp_path / name)
    one = choose_recipe("vgg16-pool5", weights=str(tmp_path / "one.pth")).recipe
    assert one.weights == "one.pth"
    assert one.weights_sha256 == hashlib.sha256((tmp_path / "one.pth").read_bytes()).hexdigest()
    assert one.digest != choose_recipe("vgg16-pool5").recipe.digest
    assert (
        choose_recipe("vgg16-pool5", weights="random:1").recipe.digest
        != choose_recipe("vgg16-pool5", weights="random:2").recipe.digest
    )


@pytest.mark.parametrize("recipe", ["vgg16-pool5", "vgg16-fc1", "article"])
def test_no_index_is_made_with_a_weights_file_that_does_not_fit(tmp_path: Path, recipe: str) -> None:
    (tmp_path / "letter.pth").write_text("these are not weights\n" * 100)
    with pytest.raises(WeightsMismatch, match=r"letter\.pth"):
        ImageIndex.create(tmp_path / "i", recipe=recipe, weights=str(tmp_path / "letter.pth"))
    assert not os.path.exists(tmp_path / "i")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"network": "resnet50"}, "its network is 'resnet50', not vgg16 or efficientnet-lite2"),
        ({"network": "custom"}, "its network is 'custom'"),
        ({"network": "efficientnet-lite2"}, "its layer is 'pool5', not head"),
        ({"layer": "pool4"}, "its layer is 'pool4', not fc1 or pool5"),
        ({"layer": "fc1", "pooling": "none"}, "its dimension is 512, not 4096"),
        ({"layer": "fc1", "dimension": 4096}, "its pooling is 'gem', not none"),
        ({"dimension": 64}, "its dimension is 64, not 512"),
        ({"pooling": "average"}, "its pooling is 'average', not gem"),
        ({"side": 100}, "its side is 100, not a multiple of 32"),
        ({"side": 0}, "its side is 0"),
        ({"geometry": "crop"}, "its geometry is 'crop', not letterbox or article"),
        ({"alpha": "pink"}, "its alpha is 'pink'"),
        ({"scaling": "8-bit"}, "its scaling is '8-bit', not pillow or 16-bit"),
        ({"channels": "hsv"}, "its channels is 'hsv'"),
        ({"norm": "l1"}, "its norm is 'l1'"),
        ({"upright": False}, "its upright is False"),
        ({"std": (1.0, 0.0, 1.0)}, "standard deviation is 0"),
        ({"offset_sha256": "0" * 64}, "no mean 'vgg16-pool5-320'"),
        ({"mean": ("a", "b", "c")}, "a field has a value of another type"),
    ],
)
def test_no_index_is_made_with_a_recipe_that_no_encoder_follows(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    recipe = replace(RECIPES["vgg16-pool5"], **change)
    with pytest.raises(UsageError, match=f"no encoder makes the vectors of the recipe 'vgg16-pool5': .*{problem}"):
        ImageIndex.create(tmp_path / "i", recipe=recipe)
    assert not (tmp_path / "i").exists()


def test_a_recipe_of_the_callers_own_gets_the_digest_of_its_weights(tmp_path: Path) -> None:
    recipe = replace(RECIPES["vgg16-pool5"], name="on white", alpha="white", side=96)
    with ImageIndex.create(tmp_path / "i", recipe=recipe) as index, ImageIndex.open(index.path) as again:
        assert index.recipe == replace(recipe, weights_sha256=choose_recipe("vgg16-pool5").recipe.weights_sha256)
        assert again.encoder.encode(np.zeros((1, 96, 96, 3), np.uint8)).shape == (1, 512)
    with pytest.raises(WeightsMismatch, match="another SHA-256"):
        ImageIndex.create(tmp_path / "j", recipe=replace(recipe, weights_sha256="0" * 64))
    of_fc1 = replace(recipe, layer="fc1", dimension=4096, pooling="none", offset="", offset_sha256="")
    with pytest.raises(WeightsMismatch):
        ImageIndex.create(tmp_path / "j", recipe=of_fc1)
    with pytest.raises(UsageError, match="its own size"):
        ImageIndex.create(tmp_path / "j", recipe=recipe, size=64)


@pytest.mark.parametrize("recipe", ["vgg16-fc1", "article"])
def test_convolutions_alone_are_refused_for_fc1(tmp_path: Path, recipe: str) -> None:
    torch.save(convolutions(), tmp_path / "part.pth")
    for weights in (str(tmp_path / "part.pth"), SHIPPED):
        with pytest.raises(WeightsMismatch, match=r"lacks classifier\.0\.weight and 1 more"):
            choose_recipe(recipe, weights=weights)


def test_a_missing_weights_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"nowhere\.pth"):
        choose_recipe(weights=str(tmp_path / "nowhere.pth"))


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'vgg19'"):
        choose_recipe("vgg19")


def test_the_cache_is_where_torch_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert imagenet_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert imagenet_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert imagenet_path() == os.path.join(torch.hub.get_dir(), "checkpoints", FILE)


@pytest.fixture
def mine(tmp_path: Path) -> RecipeChoice:
    """pool5 with a weights file of the user's."""
    torch.save(convolutions(), tmp_path / "mine.pth")
    return choose_recipe("vgg16-pool5", weights=str(tmp_path / "mine.pth"))


def test_weights_are_found_again_where_they_were(mine: RecipeChoice) -> None:
    assert find_weights_again(mine.recipe, source=mine.weights.source) == mine.weights
    for weights in (None, "random:3"):
        choice = choose_recipe("vgg16-pool5", weights=weights)
        assert find_weights_again(choice.recipe, source=choice.weights.source) == choice.weights


def test_moved_weights_must_be_named_and_then_are_found(mine: RecipeChoice, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pth"
    Path(mine.weights.source).rename(moved)
    with pytest.raises(WeightsUnavailable, match=r"mine\.pth, are missing") as error:
        find_weights_again(mine.recipe, source=mine.weights.source)
    assert "`weights=FILE`" in error.value.hint
    assert find_weights_again(mine.recipe, source=mine.weights.source, weights=str(moved)).source == str(moved)


def test_changed_weights_are_refused(mine: RecipeChoice) -> None:
    state = convolutions()
    state["features.0.bias"][0] += 1
    torch.save(state, mine.weights.source)
    with pytest.raises(RecipeMismatch, match=r"mine\.pth is not the weights file") as error:
        find_weights_again(mine.recipe, source=mine.weights.source)
    assert mine.recipe.weights_sha256 in str(error.value)
    assert "`weights=FILE`" in error.value.hint


@pytest.mark.parametrize("weights", ["random:1", SHIPPED])
def test_other_weights_than_the_indexs_are_refused(mine: RecipeChoice, weights: str) -> None:
    with pytest.raises(RecipeMismatch, match=weights):
        find_weights_again(mine.recipe, source=mine.weights.source, weights=weights)


def test_the_error_for_a_wrong_path_names_that_path_and_not_the_indexs_own(mine: RecipeChoice, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"the weights file .* does not exist"):
        find_weights_again(mine.recipe, source=mine.weights.source, weights=str(tmp_path / "nowhere.pth"))


def test_after_the_cache_is_emptied_the_hint_lists_the_ways_out(closed: None, torch_home: Path) -> None:
    torch.save(whole_state_dict(), torch_home / FILE)
    choice = choose_recipe("vgg16-fc1")
    kept = torch_home.parent / "kept.pth"
    (torch_home / FILE).rename(kept)
    with pytest.raises(WeightsUnavailable, match=TORCHVISION) as error:
        find_weights_again(choice.recipe, source=choice.weights.source)
    assert "`weights=FILE`" in error.value.hint
    assert (
        find_weights_again(choice.recipe, source=choice.weights.source, weights=str(kept)).sha256
        == choice.weights.sha256
    )


def test_an_unknown_network_is_refused_with_the_known_one() -> None:
    choice = choose_recipe("vgg16-pool5", size=32)
    for network in ("vgg19", "", "VGG16"):
        with pytest.raises(UsageError, match=f"unknown network {network!r}") as error:
            make_encoder(replace(choice.recipe, network=network), {}, None, Engine(device="cpu"))
        assert "vgg16" in error.value.hint


def test_the_encoder_of_an_index_has_its_recipe_and_the_engines_batch_size() -> None:
    choice = choose_recipe("vgg16-pool5", size=32)
    engine = Engine(device="cpu", precision="fp32", batch_size=3)
    encoder = make_encoder(choice.recipe, {"weights": choice.weights.source}, None, engine)
    assert (encoder.recipe, encoder.batch_size, encoder.precision) == (choice.recipe, 3, "fp32")

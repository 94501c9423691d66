"""A convolution by its arguments alone, whatever the program has set for all of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from imgindex.encoders.convolution import convolution

MAPS = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("padding", [0, 1])
def test_it_is_torchs_convolution_without_bias(padding: int) -> None:
    torch.testing.assert_close(convolution(MAPS, WEIGHT, padding=padding), torch.conv2d(MAPS, WEIGHT, padding=padding))


def test_a_kernel_as_large_as_the_maps_is_a_product_of_matrices() -> None:
    weight = torch.randn(5, 8, 6, 6)
    torch.testing.assert_close(
        convolution(MAPS, weight).flatten(1), MAPS.flatten(1) @ weight.flatten(1).T, rtol=1e-4, atol=1e-4
    )


def flags() -> list[Any]:
    cudnn = torch.backends.cudnn
    return [cudnn.benchmark, cudnn.deterministic, cudnn.enabled, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]


@pytest.fixture(params=[("tf32", "ieee"), ("ieee", "tf32"), ("tf32", "tf32")])
def host(request: pytest.FixtureRequest) -> Iterator[None]:
    """A program that set cuDNN's precision of convolutions and of recurrent layers: torch's older names raise then."""
    cudnn = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        pytest.skip("this torch has one precision for both")
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.benchmark
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = request.param
    cudnn.benchmark = True
    yield
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.benchmark = before


def test_what_the_program_has_set_is_neither_used_nor_changed(host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, ...]] = []
    operator = torch._convolution

    def observed(*arguments: Any) -> Tensor:
        asked.append(arguments[-4:])
        assert flags() == before
        return operator(*arguments)

    before = flags()
    monkeypatch.setattr(torch, "_convolution", observed)
    convolution(MAPS, WEIGHT)
    assert flags() == before
    # No algorithm is timed, the one that is chosen is deterministic, cuDNN may be used, and never TF32.
    assert asked == [(False, True, True, False)]


def test_the_operator_takes_these_arguments_in_this_order() -> None:
    names = [argument.name for argument in torch.ops.aten._convolution.default._schema.arguments]
    assert names[:9] == [
        "input",
        "weight",
        "bias",
        "stride",
        "padding",
        "dilation",
        "transposed",
        "output_padding",
        "groups",
    ]
    assert names[9:] == ["benchmark", "deterministic", "cudnn_enabled", "allow_tf32"]

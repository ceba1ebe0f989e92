"""The networks layer by layer against study.md's section 2; their padding, weights and parameter counts."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wae_core.networks import ARCHITECTURES, AutoEncoder, LatentDiscriminator, build_autoencoder, initialise
from wae_core.networks.layers import SameConv2d, SameConvTranspose2d, same_padding
from wae_core.networks.resnet import Block

GREY, COLOUR = ((1, 28, 28), (0.0, 1.0)), ((3, 64, 64), (-1.0, 1.0))
TRUNCATED_STD = 0.8796  # of N(0, 1) given |x| <= 2


def build(architecture: str, data: Any, *, on: str = "meta", **options: Any) -> AutoEncoder:
    options = {"latent_dim": 8, "width": 128, "stochastic": False} | options
    with torch.device(on):
        return build_autoencoder(architecture, *data, **options)


def layers(network: nn.Module, inputs: Tensor) -> list[str]:
    """What a forward pass goes through: the kind, kernel/stride and output (channels, side or features) of layers."""
    seen: list[str] = []

    def record(module: nn.Module, _: Any, output: Tensor) -> None:
        size = "x".join(str(n) for n in output.shape[1:3])
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kind = "conv" if isinstance(module, nn.Conv2d) else "deconv"
            seen.append(f"{kind} {module.kernel_size[0]}/{module.stride[0]} {size}")
        elif isinstance(module, nn.Linear):
            seen.append(f"linear {size}")
        else:
            kinds = {"BatchNorm2d": "bn", "FlattenMap": "flatten", "Flatten": "flatten", "UnflattenMap": "unflatten"}
            seen.append(kinds.get(type(module).__name__, "relu" if isinstance(module, nn.ReLU) else "?"))

    hooks = [m.register_forward_hook(record) for m in network.modules() if not list(m.children())]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return seen


def hidden(*names: str) -> list[str]:
    """Each of these layers with its batch norm and ReLU."""
    return [layer for name in names for layer in (name, "bn", "relu")]


@pytest.mark.slow
def test_dcgan_for_mnist_is_the_paper_s() -> None:
    model = build("dcgan", GREY)
    assert layers(model.encoder, torch.empty(2, 1, 28, 28, device="meta")) == [
        *hidden("conv 4/2 128x14", "conv 4/2 256x7", "conv 4/2 512x4", "conv 4/2 1024x2"),
        "flatten",
        "linear 8",
    ]
    assert layers(model.decoder, torch.empty(2, 8, device="meta")) == [
        f"linear {7 * 7 * 1024}",
        "relu",
        "unflatten",
        *hidden("deconv 4/2 512x14", "deconv 4/2 256x28"),
        "deconv 4/1 1x28",
    ]


def test_dcgan_for_celeba_is_the_paper_s() -> None:
    model = build("dcgan", COLOUR, latent_dim=64)
    assert layers(model.encoder, torch.empty(2, 3, 64, 64, device="meta")) == [
        *hidden("conv 5/2 128x32", "conv 5/2 256x16", "conv 5/2 512x8", "conv 5/2 1024x4"),
        "flatten",
        "linear 64",
    ]
    assert layers(model.decoder, torch.empty(2, 64, device="meta")) == [
        f"linear {8 * 8 * 1024}",
        "relu",
        "unflatten",
        *hidden("deconv 5/2 512x16", "deconv 5/2 256x32", "deconv 5/2 128x64"),
        "deconv 5/1 3x64",
    ]


@pytest.mark.slow
def test_resnet50v2_has_its_blocks_and_no_pooling() -> None:
    model = build("resnet50v2", COLOUR, latent_dim=64)
    stages = [(3, 256, 32), (4, 512, 16), (6, 1024, 8), (3, 2048, 4)]
    seen: dict[str, list[tuple[int, ...]]] = {"encoder": [], "decoder": []}
    for part, outputs in seen.items():
        for module in getattr(model, part).modules():
            if isinstance(module, Block):
                module.register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(output.shape[1:3]))
    encoded = layers(model.encoder, torch.empty(2, 3, 64, 64, device="meta"))
    decoded = layers(model.decoder, torch.empty(2, 64, device="meta"))

    expected = [(channels, side) for count, channels, side in stages for _ in range(count)]
    assert seen["encoder"] == expected
    assert seen["decoder"] == expected[::-1]
    assert encoded[0] == "conv 3/2 64x32"
    assert sum(layer.startswith("conv") for layer in encoded) == 1 + 3 * 16 + 4  # stem, blocks, shortcuts
    assert sum("/2" in layer for layer in encoded) == 1 + 2 * 3  # each later stage: 3×3 and shortcut
    assert not any("Pool" in type(m).__name__ and not isinstance(m, nn.AdaptiveAvgPool2d) for m in model.modules())
    assert not any("/2" in layer for layer in decoded[:-1])  # upsampling in place of strides
    assert decoded[-1].endswith("3x64")


def test_resnet_blocks_are_pre_activation_bottlenecks() -> None:
    block = Block(8, 8, 64, 64, batch_norm=True)
    triple = [*hidden("conv 1/1 16x8", "conv 3/1 16x8"), "conv 1/1 64x8"]
    x = torch.randn(2, 64, 8, 8)
    assert layers(block, x)[:2] == ["bn", "relu"]
    assert [layer for layer in layers(block, x) if layer != "?"][2:] == triple
    for parameter in block.residual.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)  # the identity path is clean


@pytest.mark.slow
def test_resnet50_has_the_known_number_of_convolution_weights() -> None:
    """23,454,912 in the well-known ResNet-50, whose stem is 7×7·3·64 where ours is 3×3."""
    trunk = build("resnet50v2", COLOUR).encoder.trunk
    counted = sum(m.weight.numel() for m in trunk.modules() if isinstance(m, nn.Conv2d))
    assert counted == 23_454_912 - 7 * 7 * 3 * 64 + 3 * 3 * 3 * 64


def stated(architecture: str) -> list[int]:
    """The parameter counts in build_autoencoder's docstring: encoder, decoder for MNIST, the same for CelebA."""
    line = re.search(rf"{architecture} +(\d.*)", str(build_autoencoder.__doc__))
    assert line is not None
    return [int(count.replace(",", "")) for count in re.findall(r"[\d,]+", line[1])]


def counted(architecture: str) -> list[int]:
    models = build(architecture, GREY), build(architecture, COLOUR, latent_dim=64)
    return [sum(p.numel() for p in part.parameters()) for model in models for part in (model.encoder, model.decoder)]


def test_dcgan_parameter_counts() -> None:
    """Filters without biases, two numbers a channel of each batch norm, linear layers with biases."""
    encoder_norms = 2 * (128 + 256 + 512 + 1024)
    mnist_encoder = 4 * 4 * (1 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + encoder_norms + (2 * 2 * 1024 * 8 + 8)
    mnist_decoder = (8 + 1) * 7 * 7 * 1024 + 4 * 4 * (1024 * 512 + 512 * 256 + 256 * 1) + 1 + 2 * (512 + 256)
    celeba_encoder = 5 * 5 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + encoder_norms + (4 * 4 * 1024 * 64 + 64)
    celeba_filters = 5 * 5 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 3
    celeba_decoder = (64 + 1) * 8 * 8 * 1024 + celeba_filters + 2 * (512 + 256 + 128)
    assert counted("dcgan") == [mnist_encoder, mnist_decoder, celeba_encoder, celeba_decoder] == stated("dcgan")


@pytest.mark.slow
def test_resnet50v2_parameter_counts() -> None:
    def block(channels: int, out: int) -> int:
        inner = out // 4
        shortcut = 0 if channels == out else channels * out
        return channels * inner + 3 * 3 * inner * inner + inner * out + shortcut + 2 * (channels + inner + inner)

    up = block(64, 256) + 2 * block(256, 256) + block(256, 512) + 3 * block(512, 512)
    up += block(512, 1024) + 5 * block(1024, 1024) + block(1024, 2048) + 2 * block(2048, 2048)
    # The decoder's first stage changes no shape, so none of its shortcuts has weights.
    down = 3 * block(2048, 2048) + block(2048, 1024) + 5 * block(1024, 1024)
    down += block(1024, 512) + 3 * block(512, 512) + block(512, 256) + 2 * block(256, 256)
    expected = []
    for image_channels, side, latent_dim in ((1, 2, 8), (3, 4, 64)):
        expected += [
            3 * 3 * image_channels * 64 + up + 2 * 2048 + (2048 + 1) * latent_dim,
            (latent_dim + 1) * 2048 * side * side + down + 2 * 256 + 4 * 4 * 256 * image_channels + image_channels,
        ]
    assert counted("resnet50v2") == expected == stated("resnet50v2")


@pytest.mark.parametrize("latent_dim", [8, 64])
def test_latent_discriminator_parameter_counts(latent_dim: int) -> None:
    with torch.device("meta"):
        discriminator = LatentDiscriminator(latent_dim, 128)
    expected = (latent_dim + 1) * 512 + 3 * (512 + 1) * 512 + (512 + 1)
    assert sum(p.numel() for p in discriminator.parameters()) == expected
    assert f"{expected:,} with {latent_dim}" in str(LatentDiscriminator.__doc__)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("data", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_fits_every_data_set(architecture: str, data: Any, batch_norm: bool) -> None:
    model = build(architecture, data, latent_dim=5, width=8, stochastic=True, batch_norm=batch_norm)
    mean, log_variance = model.encoder(torch.empty(2, *data[0], device="meta"))
    assert log_variance is not None and mean.shape == log_variance.shape == (2, 5)
    assert model.images(mean).shape == (2, *data[0])
    assert model.training and all(module.training for module in model.modules())


@pytest.mark.parametrize("data", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_are_the_sigmoid_or_tanh_of_the_logits(data: Any) -> None:
    model = build("dcgan_small", data, on="cpu", width=2).eval()
    z = 300 * torch.randn(16, 8)
    logits = model.decoder(z)
    expected = 1 / (1 + torch.exp(-logits)) if data is GREY else 2 / (1 + torch.exp(-2 * logits)) - 1
    torch.testing.assert_close(model.images(z), expected, rtol=1e-5, atol=1e-6)
    assert float(logits.detach().abs().max()) > 0.1  # where sigmoid and tanh are not straight lines


@pytest.mark.parametrize("architecture", ["dcgan", "dcgan_small", "resnet11v2"])
def test_batch_norm_can_be_left_out(architecture: str) -> None:
    with_norm, without = (build(architecture, GREY, width=8, batch_norm=wanted) for wanted in (True, False))
    assert any(isinstance(m, nn.BatchNorm2d) for m in with_norm.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in without.modules())
    assert all(m.bias is not None for m in without.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


def test_batch_norm_has_the_authors_constants() -> None:
    norms = [
        m for name in ARCHITECTURES for m in build(name, GREY, width=8).modules() if isinstance(m, nn.BatchNorm2d)
    ]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}  # torch's momentum is 1 − decay


@pytest.mark.parametrize("architecture", ["dcgan", "dcgan_small", "resnet11v2"])
def test_no_bias_is_cancelled_by_a_batch_norm(architecture: str) -> None:
    """Such a bias has no gradient but rounding, which Adam turns into full steps."""
    torch.manual_seed(0)
    model = build(architecture, GREY, on="cpu", width=4, stochastic=True).double()
    x = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    mean, log_variance = model.encoder(x)
    ((model.images(mean) - x).square().sum() + (mean**3).sum() + (log_variance**3).sum()).backward()
    gradients = {name: p.grad.abs().max() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters()))
    largest = max(gradients.values())
    assert [name for name, gradient in gradients.items() if gradient < 1e-13 * largest] == []


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'vgg'.*dcgan.*resnet50v2"):
        build("vgg", GREY)


def test_latent_discriminator() -> None:
    with torch.device("meta"):
        discriminator = LatentDiscriminator(8, 128)
    z = torch.empty(3, 8, device="meta")
    assert layers(discriminator, z) == ["linear 512", "relu"] * 4 + ["linear 1", "flatten"]
    assert discriminator(z).shape == (3,)


# --- the encoder's head ---


def test_log_variance_is_clipped_to_50_and_the_mean_is_not() -> None:
    model = build("dcgan_small", GREY, on="cpu", width=2, latent_dim=3, stochastic=True)
    nn.init.zeros_(model.encoder.head.weight)
    with torch.no_grad():
        model.encoder.head.bias.copy_(torch.tensor([70.0, -80.0, 1.0, 60.0, -60.0, 7.0]))
    mean, log_variance = model.encoder(torch.rand(2, 1, 28, 28))
    assert mean.tolist() == [[70.0, -80.0, 1.0]] * 2
    assert log_variance is not None and log_variance.tolist() == [[50.0, -50.0, 7.0]] * 2


def test_a_deterministic_encoder_has_no_variance() -> None:
    model = build("dcgan_small", GREY, width=2, latent_dim=3)
    mean, log_variance = model.encoder(torch.empty(2, 1, 28, 28, device="meta"))
    assert mean.shape == (2, 3) and log_variance is None


# --- SAME padding ---


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (28, 4, 2, (1, 1)),
        (14, 4, 2, (1, 1)),
        (7, 4, 2, (1, 2)),
        (4, 4, 2, (1, 1)),
        (64, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (28, 4, 1, (1, 2)),
        (64, 5, 1, (2, 2)),
        (64, 3, 2, (0, 1)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding_as_tensorflow_pads(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


def tensorflow_same_convolution(x: Any, weight: Any, stride: int) -> Any:
    """The documented rule, pixel by pixel: out = ⌈size/stride⌉; what falls outside the image counts as zero."""
    kernel, size = weight.shape[-1], x.shape[-1]
    out = math.ceil(size / stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    result = np.zeros((x.shape[0], weight.shape[0], out, out))
    for i, j, a, b in itertools.product(range(out), range(out), range(kernel), range(kernel)):
        row, column = i * stride + a - before, j * stride + b - before
        if 0 <= row < size and 0 <= column < size:
            result[:, :, i, j] += x[:, :, row, column] @ weight[:, :, a, b].T
    return result


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
@pytest.mark.parametrize("size", [2, 7, 8, 9])
def test_same_convolution_against_the_rule_pixel_by_pixel(size: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    convolution = SameConv2d(size, 2, 3, kernel, stride, bias=False).double()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    expected = tensorflow_same_convolution(x.numpy(), convolution.weight.detach().numpy(), stride)
    np.testing.assert_allclose(convolution(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("size", [2, 3, 7, 8])
def test_same_transposed_convolution_is_the_adjoint(size: int, kernel: int, stride: int, channels: int) -> None:
    """<conv(x), y> = <x, deconv(y)> for the same filters, and so for every x and y."""
    torch.manual_seed(0)
    deconvolution = SameConvTranspose2d(size, 3, channels, kernel, stride, bias=False).double()
    convolution = SameConv2d(size * stride, channels, 3, kernel, stride, bias=False).double()
    convolution.weight = deconvolution.weight
    x = torch.randn(2, channels, size * stride, size * stride, dtype=torch.float64)
    y = torch.randn(2, 3, size, size, dtype=torch.float64)
    assert deconvolution(y).shape == x.shape and convolution(x).shape == y.shape
    torch.testing.assert_close((convolution(x) * y).sum(), (x * deconvolution(y)).sum(), rtol=1e-12, atol=1e-12)


# --- the deconvolution to a grey image, on CPUs ---


def made_by(cut: Tensor) -> str:
    """What autograd knows of the tensor that `cut` was cut out of."""
    node: Any = cut.grad_fn
    while node.name().startswith(("Slice", "Alias")):
        ((node, _),) = node.next_functions
    return str(node.name())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(14, 4, 2), (7, 8, 4), (5, 5, 2), (5, 3, 2)])
def test_to_one_channel_equals_torch_s_transposed_convolution(
    size: int, kernel: int, stride: int, channels_last: bool, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    layer = SameConvTranspose2d(size, 16, 1, kernel, stride, bias=True).to(dtype)
    nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    x = torch.randn(8, 16, size, size, dtype=dtype)
    x = x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    expected = nn.ConvTranspose2d.forward(layer, x)[:, :, : size * stride, : size * stride]
    actual = layer(x)
    assert "ToOneChannel" in made_by(actual) and "Convolution" in made_by(expected)
    inputs, weights = (x, *layer.parameters()), torch.randn_like(expected)
    pairs = zip(*(torch.autograd.grad(y, inputs, weights) for y in (actual, expected)), strict=True)
    for ours, theirs in ((actual, expected), *pairs):
        assert ours.shape == theirs.shape and (ours - theirs).norm() <= tolerance * theirs.norm()


def test_to_one_channel_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    layer = SameConvTranspose2d(3, 2, 1, 4, 2, bias=True).double()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters())

    def output(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return result

    assert torch.autograd.gradcheck(output, inputs) and torch.autograd.gradgradcheck(output, inputs)


def test_to_one_channel_under_autocast() -> None:
    layer = SameConvTranspose2d(7, 8, 1, 4, 2, bias=True)
    x = torch.randn(2, 8, 7, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16 and (out - layer(x)).norm() < 0.05 * out.norm()


# --- initial weights ---


def test_initial_weights_at_the_paper_s_width() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 5), nn.ConvTranspose2d(64, 64, 4), nn.Linear(300, 300))
    initialise(network, 128)
    convolution, deconvolution, linear = (p.detach() for p in network.parameters() if p.ndim > 1)
    assert 0.0199 < float(convolution.abs().max()) <= 0.02
    assert float(convolution.std()) == pytest.approx(0.01 * TRUNCATED_STD, rel=0.02)
    assert abs(float(convolution.mean())) < 1e-4
    assert 0.01 * TRUNCATED_STD * 0.98 < float(deconvolution.std()) < 0.01 * 1.02  # truncated or not
    assert float(linear.std()) == pytest.approx(0.01, rel=0.02)
    assert float(linear.abs().max()) > 0.03  # not truncated
    assert all(bool(parameter.any()) == (parameter.ndim > 1) for parameter in network.parameters())  # biases are 0


def test_initial_weights_scale_with_the_root_of_the_width() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(300, 300)
    initialise(linear, 32)
    assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_resnet_weights_are_he_et_al_s() -> None:
    torch.manual_seed(0)
    model = build("resnet11v2", GREY, on="cpu", width=16)
    weights = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 2000]
    assert len(weights) > 6
    for weight in weights:
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / weight[0].numel()), rel=0.06)


@pytest.mark.parametrize("architecture", ["dcgan", "resnet11v2"])
def test_all_initial_biases_are_zero_and_all_weights_are_drawn(architecture: str) -> None:
    torch.manual_seed(0)
    model = build(architecture, GREY, on="cpu", width=8)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert layer.bias is None or torch.count_nonzero(layer.bias) == 0
            if architecture == "dcgan":
                assert 0.03 < float(layer.weight.detach().std()) < 0.045  # 0.01·√(128/8), truncated or not


@pytest.mark.parametrize("architecture", ["dcgan", "resnet50v2"])
def test_untrained_images_are_not_saturated(architecture: str) -> None:
    """A saturated pixel passes no gradient; in the ResNet their share grows with the width."""
    torch.manual_seed(0)
    model = build(architecture, COLOUR, on="cpu", latent_dim=64, width=32)
    with torch.no_grad():
        images = model.images(torch.randn(4, 64))
    assert float((images.abs() > 0.96).float().mean()) < 0.05

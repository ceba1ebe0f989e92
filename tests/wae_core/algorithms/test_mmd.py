"""mmd_squared against its definition as a double loop, and the ways in which training calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from wae_core.algorithms.mmd import mmd_squared

KERNELS: dict[str, Callable[[float, float], float]] = {  # of ||x − y||² and scale, as the papers write them
    "imq_sum": lambda d, c: sum(s * c / (s * c + d) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)),
    "imq": lambda d, c: c / (c + d),
    "rbf": lambda d, c: math.exp(-d / (2 * c)),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def double_loop(z: Tensor, z_tilde: Tensor, kernel: str, scale: float) -> float:
    def k(x: list[float], y: list[float]) -> float:
        return KERNELS[kernel](sum((a - b) ** 2 for a, b in zip(x, y, strict=True)), scale)

    prior, encoded = z.double().tolist(), z_tilde.double().tolist()
    n = len(prior)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    among = math.fsum(k(codes[i], codes[j]) for codes in (prior, encoded) for i, j in pairs)
    between = math.fsum(k(x, y) for x in prior for y in encoded)
    return among / (n * (n - 1)) - 2 * between / n**2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("n", "d", "scale"), [(2, 1, 0.3), (7, 3, 6.0), (32, 2, 4.0), (40, 64, 16.0)])
def test_equals_the_double_loop_in_float64(kernel: str, n: int, d: int, scale: float) -> None:
    prior, encoded = torch.randn(2, n, d, dtype=torch.float64)
    encoded = 0.7 * encoded + 0.3
    value = mmd_squared(prior, encoded, kernel=kernel, scale=scale)
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert value.item() == pytest.approx(double_loop(prior, encoded, kernel, scale), abs=1e-13)


def test_seven_kernels_are_the_default() -> None:
    prior, encoded = torch.randn(2, 8, 3, dtype=torch.float64)
    value = mmd_squared(prior, encoded, scale=2.0)
    assert value.item() == pytest.approx(double_loop(prior, encoded, "imq_sum", 2.0), abs=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("prior_offset", "encoded_offset", "spread"),
    [
        (0, 0, 1),
        (0, 10, 1),
        (10, 10, 1),
        (1000, 1000, 1),
        (0, 10, 1e-3),
    ],  # the last one: an encoder that has collapsed
)
def test_float32_keeps_its_digits_far_from_the_origin(
    kernel: str, prior_offset: float, encoded_offset: float, spread: float
) -> None:
    prior = torch.randn(48, 32) + prior_offset
    encoded = spread * torch.randn(48, 32) + encoded_offset
    for scale in (0.1, 64.0):
        value = mmd_squared(prior, encoded, kernel=kernel, scale=scale)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(double_loop(prior, encoded, kernel, scale), rel=1e-6, abs=5e-7)


def test_float32_gradient_far_from_the_origin_is_that_of_float64() -> None:
    prior, encoded = torch.randn(100, 16), torch.randn(100, 16) + 10

    def gradient(z: Tensor, z_tilde: Tensor) -> Tensor:
        z_tilde = z_tilde.requires_grad_()
        return torch.autograd.grad(mmd_squared(z, z_tilde, scale=32.0), z_tilde)[0]

    exact = gradient(prior.double(), encoded.double())
    assert (gradient(prior, encoded) - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck_in_codes_and_scale(kernel: str) -> None:
    prior, encoded = torch.randn(2, 6, 3, dtype=torch.float64)
    scale = torch.tensor(1.7, dtype=torch.float64)
    inputs = (prior.requires_grad_(), encoded.requires_grad_(), scale.requires_grad_())
    assert torch.autograd.gradcheck(lambda z, e, c: mmd_squared(z, e, kernel=kernel, scale=c), inputs)


def test_gradient_is_finite_where_codes_coincide() -> None:
    prior = torch.randn(8, 4)
    encoded = torch.zeros(8, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(mmd_squared(prior, encoded, scale=1.0), encoded)
    assert gradient.isfinite().all()


def test_rounded_distances_never_go_below_zero() -> None:
    prior = 1e4 * torch.randn(4, 64)  # far from everything: of MMD² only the encoder's own pairs remain
    for _ in range(50):
        a, b = 10 * torch.randn(2, 64)
        encoded = torch.stack([a, a, b, b]).requires_grad_()  # 4 of its 12 ordered pairs coincide: k = 7
        value = mmd_squared(prior, encoded, scale=0.01)
        assert value.item() <= 7 * 4 / 12 * (1 + 1e-5)
        assert torch.autograd.grad(value, encoded)[0].isfinite().all()


def test_is_unbiased_and_not_clamped() -> None:
    values = torch.stack([mmd_squared(*torch.randn(2, 32, 4), scale=8.0) for _ in range(400)])
    assert (values < 0).float().mean() > 0.3
    assert abs(values.mean()) < 4 * values.std() / 20  # 20 = √400
    separate = mmd_squared(torch.randn(32, 4), torch.randn(32, 4) + 2, scale=8.0)
    assert separate > values.max()


def test_order_of_the_codes_does_not_matter() -> None:
    prior, encoded = torch.randn(2, 50, 5, dtype=torch.float64)
    value = mmd_squared(prior, encoded, scale=3.0)
    shuffled = mmd_squared(prior[torch.randperm(50)], encoded[torch.randperm(50)], scale=3.0)
    assert shuffled.item() == pytest.approx(value.item(), abs=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_vmap_over_a_pack_equals_one_after_the_other(kernel: str) -> None:
    prior, encoded = torch.randn(2, 3, 10, 4)
    scales = torch.tensor([0.5, 4.0, 16.0])

    def penalty(z: Tensor, z_tilde: Tensor, scale: Tensor) -> Tensor:
        return mmd_squared(z, z_tilde, kernel=kernel, scale=scale)

    encoded.requires_grad_()
    together = torch.func.vmap(penalty)(prior, encoded, scales)
    alone = torch.stack([penalty(*member) for member in zip(prior, encoded, scales, strict=True)])
    torch.testing.assert_close(together, alone)
    gradient = torch.autograd.grad(alone.sum(), encoded)[0]
    torch.testing.assert_close(torch.autograd.grad(together.sum(), encoded)[0], gradient)
    functional = torch.func.vmap(torch.func.grad(penalty, argnums=1))(prior, encoded.detach(), scales)
    torch.testing.assert_close(functional, gradient)
    shared = torch.func.vmap(penalty, in_dims=(None, None, 0))(prior[0], encoded[0], scales)
    torch.testing.assert_close(shared[0], alone[0])


def test_scale_may_be_a_tensor() -> None:
    prior, encoded = torch.randn(2, 10, 4)
    as_float = mmd_squared(prior, encoded, scale=8.0)
    torch.testing.assert_close(mmd_squared(prior, encoded, scale=torch.tensor(8.0)), as_float)


def test_autocast_leaves_the_distances_in_float32() -> None:
    def value_and_gradient() -> tuple[Tensor, Tensor]:
        z_tilde = encoded.clone().requires_grad_()
        value = mmd_squared(prior, z_tilde, scale=8.0)
        return value, torch.autograd.grad(value, z_tilde)[0]

    prior, encoded = torch.randn(2, 32, 4)
    plain = value_and_gradient()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(value_and_gradient(), plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("z_prior", "z_encoded", "options", "message"),
    [
        (
            torch.zeros(4, 2),
            torch.zeros(4, 2),
            {"kernel": "cauchy", "scale": 1.0},
            "kernel='cauchy'.*imq_sum",
        ),
        (torch.zeros(4, 2), torch.zeros(5, 2), {"scale": 1.0}, r"\[4, 2\].*\[5, 2\]"),
        (torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.float64), {"scale": 1.0}, "dtype"),
        (torch.zeros(1, 2), torch.zeros(1, 2), {"scale": 1.0}, "n >= 2"),
        (torch.zeros(4), torch.zeros(4), {"scale": 1.0}, r"\[n, d\]"),
        (torch.zeros(4, 2), torch.zeros(4, 2), {"scale": 0.0}, "scale=0.0"),
    ],
)
def test_refuses(z_prior: Tensor, z_encoded: Tensor, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mmd_squared(z_prior, z_encoded, **options)  # type: ignore[arg-type]

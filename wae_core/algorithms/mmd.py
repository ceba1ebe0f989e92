"""The penalty of WAE-MMD: the unbiased, squared maximum mean discrepancy of two sets of codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Kernel = Callable[[Tensor], tuple[Tensor, Tensor]]


def _inverse_multiquadrics(u: Tensor, scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """k(u) = Σ_s s / (s + u) and dk/du, both of u's shape; one buffer serves all terms."""
    value, slope, term = torch.zeros_like(u), torch.zeros_like(u), torch.empty_like(u)
    for s in scales:
        torch.add(u, s, out=term).reciprocal_()
        value.add_(term, alpha=s)
        slope.addcmul_(term, term, value=-s)
    return value, slope


def _gaussian(u: Tensor) -> tuple[Tensor, Tensor]:
    """k(u) = exp(−u / 2) and dk/du, both of u's shape."""
    value = (u * -0.5).exp_()
    return value, value * -0.5


# Each kernel as a function of u = ||x − y||² / scale, so that the scale meets the [n, d] codes alone.
KERNELS: dict[str, Kernel] = {
    "imq_sum": partial(_inverse_multiquadrics, scales=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)),
    "imq": partial(_inverse_multiquadrics, scales=(1.0,)),
    "rbf": _gaussian,
}


class _KernelRowSums(torch.autograd.Function):
    """Σ_j k(||x_i − y_j||²): x [..., n, d], y [..., n, d] -> [..., n].

    Autograd would keep two n x n matrices for each of the seven terms and pass over all of them again; this
    sums dk/du on the way forward, and its backward is two matrix products. Autocast is off in both: squared
    distances do not survive bfloat16 products.
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor, kernel: Kernel, off_diagonal: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
            u = norms.sub_(x @ y.mT, alpha=2).clamp_(min=0)
        if off_diagonal:  # k(∞) = 0: the terms i = j vanish exactly, whatever rounding left there
            u.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        value, slope = kernel(u)
        return value.sum(-1), slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], inputs[1], output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, y, slope = ctx.saved_tensors
        grad = 2 * grad[..., None]
        grad_x = grad_y = None
        with torch.autocast(x.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = grad * (slope.sum(-1, keepdim=True) * x - slope @ y)
            if ctx.needs_input_grad[1]:
                grad_y = (slope.mT @ grad) * y - slope.mT @ (grad * x)
        return grad_x, grad_y, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, y: Tensor, kernel: Kernel, off_diagonal: bool
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        x, y = (
            z.expand(info.batch_size, *z.shape) if dim is None else z.movedim(dim, 0)
            for z, dim in zip((x, y), in_dims[:2], strict=True)
        )
        return _KernelRowSums.apply(x, y, kernel, off_diagonal), (0, 0)  # type: ignore[no-untyped-call]


def mmd_squared(z_prior: Tensor, z_encoded: Tensor, *, kernel: str = "imq_sum", scale: float | Tensor) -> Tensor:
    """MMD² of the prior's and the encoder's codes, after Algorithm 2 of the WAE paper (arXiv 1711.01558).

    1/(n(n−1)) Σ_{i≠j} k(z_i, z_j) + 1/(n(n−1)) Σ_{i≠j} k(z̃_i, z̃_j) − 2/n² Σ_{i,j} k(z_i, z̃_j)

    The estimate is unbiased: it is negative about as often as positive where the two distributions agree.

    Args:
        z_prior: z [n, d], drawn from the prior; n >= 2.
        z_encoded: z̃ [n, d], drawn from the encoder, of the same dtype.
        kernel: `imq_sum`, Σ_s s·scale / (s·scale + ||x − y||²) over s = 0.1, 0.2, 0.5, 1, 2, 5, 10
            (`mmd_penalty` in the authors' code, github.com/tolstikhin/wae);
            `imq`, scale / (scale + ||x − y||²) (Section 4 of the paper);
            `rbf`, exp(−||x − y||² / (2·scale)).
        scale: positive float or 0-d tensor, in units of ||z||²: the C of the inverse multiquadrics (the paper
            and its code take 2·d·σ_z²); for `rbf` the bandwidth's variance σ_k².

    Returns:
        A scalar of the codes' dtype, once differentiable in both sets of codes and in a tensor `scale`.

    Raises:
        ValueError: unknown kernel, codes that are not two equal [n, d] with n >= 2, a float scale <= 0.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r} is unknown; allowed: {', '.join(KERNELS)}")
    if z_prior.shape != z_encoded.shape or z_prior.dtype != z_encoded.dtype:
        raise ValueError(
            f"z_prior {list(z_prior.shape)} {z_prior.dtype} and z_encoded {list(z_encoded.shape)} "
            f"{z_encoded.dtype} must agree in shape and dtype"
        )
    if z_prior.ndim != 2 or len(z_prior) < 2:
        raise ValueError(f"z_prior and z_encoded have shape {list(z_prior.shape)}; allowed: [n, d] with n >= 2")
    if not isinstance(scale, Tensor) and not scale > 0:
        raise ValueError(f"scale={scale} is not allowed; it must be positive")

    n = len(z_prior)
    prior, encoded = z_prior / scale**0.5, z_encoded / scale**0.5
    # Distances do not change with the origin, but ||x||² + ||y||² − 2xy loses digits far from it: each sum is
    # taken around its first set's mean, which therefore needs no gradient.
    prior_mean, encoded_mean = prior.mean(0).detach(), encoded.mean(0).detach()
    prior_codes, encoded_codes = prior - prior_mean, encoded - encoded_mean
    among_prior = _row_sums(prior_codes, prior_codes, kernel, off_diagonal=True)
    among_encoded = _row_sums(encoded_codes, encoded_codes, kernel, off_diagonal=True)
    between = _row_sums(prior_codes, encoded - prior_mean, kernel, off_diagonal=False)
    # The three terms nearly cancel: taken row by row, the difference keeps digits that three large sums lose.
    return ((among_prior + among_encoded) / (n - 1) - between * (2 / n)).mean()


def mmd_flops(n: int, d: int) -> int:
    """FLOPs of MMD² of two sets of codes [n, d], forward: three matrices of squared distances."""
    return 3 * 2 * n**2 * d


def _row_sums(x: Tensor, y: Tensor, kernel: str, *, off_diagonal: bool) -> Tensor:
    sums: Tensor
    sums, _ = _KernelRowSums.apply(x, y, KERNELS[kernel], off_diagonal)  # type: ignore[no-untyped-call]
    return sums

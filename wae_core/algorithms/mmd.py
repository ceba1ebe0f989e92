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
    """The row sums of k(u) = Σ_s s / (s + u), and dk/du of u's shape; one buffer serves all terms."""
    sums, slope, term = torch.zeros_like(u[..., 0]), torch.zeros_like(u), torch.empty_like(u)
    for s in scales:
        torch.add(u, s, out=term).reciprocal_()
        sums.add_(term.sum(-1), alpha=s)
        slope.addcmul_(term, term, value=-s)
    return sums, slope


def _gaussian(u: Tensor) -> tuple[Tensor, Tensor]:
    """The row sums of k(u) = exp(−u / 2), and dk/du of u's shape."""
    value = (u * -0.5).exp_()
    return value.sum(-1), value * -0.5


# Each kernel as a function of u = ||x − y||² / scale, so that the scale meets the [n, d] codes alone.
KERNELS: dict[str, Kernel] = {
    "imq_sum": partial(_inverse_multiquadrics, scales=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)),
    "imq": partial(_inverse_multiquadrics, scales=(1.0,)),
    "rbf": _gaussian,
}


class _MMDSquared(torch.autograd.Function):
    """MMD² of codes in units of √scale: prior and encoded [..., n, d] -> [...], and what its gradient needs.

    Autograd would keep two n x n matrices for each of the seven terms and pass over all of them again; this keeps
    dk/du, and its gradient is two matrix products. The three sums are computed side by side. Autocast is off:
    squared distances do not survive bfloat16 products.
    """

    @staticmethod
    def forward(prior: Tensor, encoded: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n = prior.shape[-2]
        # Distances do not change with the origin, but ||x||² + ||y||² − 2xy loses digits far from it: each sum is
        # taken around its first set's mean.
        prior_mean, encoded_mean = prior.mean(-2, keepdim=True), encoded.mean(-2, keepdim=True)
        around_prior = prior - prior_mean
        x = torch.stack([around_prior, encoded - encoded_mean, around_prior], dim=-3)
        y = torch.stack([around_prior, encoded - encoded_mean, encoded - prior_mean], dim=-3)
        with torch.autocast(x.device.type, enabled=False):
            norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
            u = norms.sub_(x @ y.mT, alpha=2).clamp_(min=0)
        # k(∞) = 0: the terms i = j vanish exactly, whatever rounding left there.
        u[..., :2, :, :].diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        sums, slope = kernel(u)
        among_prior, among_encoded, between = sums.unbind(-2)
        # The three terms nearly cancel: taken row by row, the difference keeps digits that three large sums lose.
        mmd = ((among_prior + among_encoded) / (n - 1) - between * (2 / n)).mean(-1)
        return mmd, x, y, slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y, slope = (saved.unbind(-3) for saved in ctx.saved_tensors)
        n = x[0].shape[-2]
        grad = 4 * grad[..., None, None] / n
        grad_prior = grad_encoded = None
        with torch.autocast(x[0].device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_prior = grad * (_pull(slope[0], x[0], y[0]) / (n - 1) - _pull(slope[2], x[2], y[2]) / n)
            if ctx.needs_input_grad[1]:
                grad_encoded = grad * (_pull(slope[1], x[1], y[1]) / (n - 1) - _pull(slope[2].mT, y[2], x[2]) / n)
        return grad_prior, grad_encoded, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], prior: Tensor, encoded: Tensor, kernel: Kernel
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        prior, encoded = (
            z.expand(info.batch_size, *z.shape) if dim is None else z.movedim(dim, 0)
            for z, dim in zip((prior, encoded), in_dims[:2], strict=True)
        )
        return _MMDSquared.apply(prior, encoded, kernel), (0, 0, 0, 0)  # type: ignore[no-untyped-call]


def _pull(slope: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Σ_j k'(u_ij) (x_i − y_j): slope [..., n, m], x [..., n, d], y [..., m, d] -> [..., n, d]."""
    return slope.sum(-1, keepdim=True) * x - slope @ y


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

    mmd: Tensor
    mmd, *_ = _MMDSquared.apply(z_prior / scale**0.5, z_encoded / scale**0.5, KERNELS[kernel])  # type: ignore[no-untyped-call]
    return mmd


def mmd_flops(n: int, d: int) -> int:
    """FLOPs of MMD² of two sets of codes [n, d], forward: three matrices of squared distances."""
    return 3 * 2 * n**2 * d

"""What a penalty's coefficients look like beside their weights: numbers for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

QUANTILES = (0.05, 0.5, 0.95)
DECADES = (-5, -4, -3, -2, -1)
SAMPLE = 1_000_000
Pairs = tuple[Sequence[Tensor], Sequence[Tensor]]


@torch.no_grad()
def describe(weights: Sequence[Tensor], coefficients: Sequence[Tensor], floor: float) -> dict[str, float]:
    """Of all coefficients together: quantiles, largest, shares that are negative or at `floor`, and the slope
    of log |c| over log |w| (1/3 where psi balances the weights, 1/4 where weight decay does); NaN where
    undefined.
    """
    size, strength = flat(weights).abs(), flat(coefficients)
    if not strength.numel():
        return {}
    return {
        **_quantiles(strength.abs()),
        "coefficient_largest": float(strength.abs().max()),
        "coefficient_negative": float((strength < 0).float().mean()),
        # what the floor holds up is exactly there, as copied into the coefficient's type
        "coefficient_floored": float((strength.abs() <= torch.tensor(floor).to(strength)).float().mean()),
        "coefficient_slope": slope(size, strength.abs()),
    }


@torch.no_grad()
def describe_layers(layers: Mapping[str, Pairs]) -> dict[str, dict[str, float]]:
    """Of each layer: quantiles of its coefficients, their slope over the weights, and their geometric mean in
    each decade of |w| (`coefficient_1e-3` is that of 1e-3 <= |w| < 1e-2; the last decade has no upper end).
    """
    return {name: _layer(flat(weights).abs(), flat(found).abs()) for name, (weights, found) in layers.items()}


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All entries in one row; of more than a million, every n-th so that at most a million are left."""
    row = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.zeros(0)
    return row[:: -(-row.numel() // SAMPLE) or 1]


def slope(x: Tensor, y: Tensor) -> float:
    """Least-squares slope of log y over log x where both are positive; NaN when fewer than two x differ."""
    known = (x > 0) & (y > 0)
    across, up = x[known].double().log(), y[known].double().log()
    if across.numel() < 2:
        return float("nan")
    across = across - across.mean()
    spread = across.square().sum()
    return float((across * (up - up.mean())).sum() / spread) if spread > 0 else float("nan")


def _layer(size: Tensor, strength: Tensor) -> dict[str, float]:
    if not strength.numel():
        return {}
    numbers = {**_quantiles(strength), "coefficient_slope": slope(size, strength)}
    for low, high in zip(DECADES, (*DECADES[1:], 99), strict=True):
        within = strength[(size >= 10.0**low) & (size < 10.0**high)]
        if within.numel():
            numbers[f"coefficient_1e{low}"] = float(within.double().log().mean().exp())
    return numbers


def _quantiles(values: Tensor) -> dict[str, float]:
    found = torch.quantile(values.float(), torch.tensor(QUANTILES, device=values.device)).tolist()
    return {f"coefficient_{100 * q:02.0f}": number for q, number in zip(QUANTILES, found, strict=True)}

"""Temperature by a crop's sharpness: on blurred and on noisy crops a net is surer than it is right."""

import torch

_LIMITS = (-2.5, 2.0)
_FLAT = 1e-6  # a crop of one colour has no logarithm


def sharpness(x: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean absolute Laplacian of the channels' mean, -2.5 to 2; low for blur, high for noise.

    `x` are normalised crops, float (N, C, H, W), H and W at least 3. Returns float (N,).
    """
    grey = x.mean(dim=1)
    sides = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    laplacian = 4 * grey[:, 1:-1, 1:-1] - sides
    return laplacian.abs().mean(dim=(1, 2)).clamp_min(_FLAT).log().clamp(*_LIMITS)


def relative_temperature(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """exp(b·q + c·q²) of the `sharpness` q: what the temperature of each crop is multiplied by, float (N, 1).

    `x` is that of `sharpness`; `slope`, float (2,), is b and c; zeros give 1.
    """
    q = sharpness(x)
    return torch.exp(slope[0] * q + slope[1] * q * q)[:, None]

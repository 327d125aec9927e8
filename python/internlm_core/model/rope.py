"""Angles of the rotary embedding as a pure function of positions, base, scaling and length.

Nothing is remembered between calls, so an earlier long request can't change a later answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.model.config import ModelConfig

__all__ = ["dynamic_base", "rope_tables"]


def dynamic_base(base: float, width: int, factor: float, length: int, max_positions: int) -> float:
    """Dynamic NTK base for a sequence of `length`: raised only beyond `max_positions`.

    base · (f·L/M − (f − 1))^(d/(d − 2)), the form of InternLM2's published modelling code.
    """
    if length <= max_positions or width <= 2:
        return base
    stretch = factor * length / max_positions - (factor - 1)
    return float(base * stretch ** (width / (width - 2)))


def rope_tables(
    config: ModelConfig, positions: Tensor, lengths: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, fp32, one angle a pair of channels.

    Args:
        config: Gives base, scaling, trained length and head width.
        positions: `[B, T]` int64.
        lengths: Declared length of the sequence each position belongs to: one number, or int64
            that broadcasts to `[B, T]`. Only dynamic scaling looks at it.

    Returns:
        Two tensors `[B, T, D/2]`.
    """
    width, scaling = config.head_width, config.rope_scaling
    exponents = torch.arange(0, width, 2, device=positions.device).float() / width
    angles = positions.float()
    if scaling is not None and scaling.type == "linear":
        angles = angles / scaling.factor
    if scaling is None or scaling.type != "dynamic":
        return _tables(angles, config.rope_theta**exponents)

    def base(length: int) -> float:
        maximum = config.max_position_embeddings
        return dynamic_base(config.rope_theta, width, scaling.factor, length, maximum)

    if isinstance(lengths, int):
        return _tables(angles, base(lengths) ** exponents)
    distinct, which = torch.unique(lengths.expand_as(positions), return_inverse=True)
    bases = [base(length) ** exponents for length in distinct.tolist()]
    return _tables(angles, torch.stack(bases)[which])


def _tables(angles: Tensor, wavelengths: Tensor) -> tuple[Tensor, Tensor]:
    turned = angles.unsqueeze(-1) * (1.0 / wavelengths)
    return turned.cos(), turned.sin()

"""Recurrent networks that read an image row by row."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from sparsepop.nn.masked import pruned_once


class Rows(nn.Module):
    """An image as the sequence of its rows, all channels of a row side by side."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, H, C W)."""
        return x.transpose(1, 2).flatten(2)


class Last(nn.Module):
    """The last element of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) -> (N, width)."""
        return x[:, -1]


class LSTM(nn.Module):
    """One layer of long short-term memory (Gers et al. 2000: with a forget gate, without peepholes), started
    from zeros.

    Its matrices are linear layers, so that methods find them: `inputs` and `hidden` hold the input gate,
    forget gate, candidate and output gate below one another, in the order of torch's `weight_ih_l0` and
    `weight_hh_l0`; one bias where torch has two.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, 4 * width)
        self.hidden = nn.Linear(width, 4 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, inputs) -> (N, T, width)."""
        width = self.hidden.in_features
        hidden = cell = x.new_zeros(len(x), width)
        outputs = []
        with pruned_once(self.hidden):
            for given in self.inputs(x).unbind(1):
                enter, forget, candidate, leave = (given + self.hidden(hidden)).chunk(4, 1)
                cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
                hidden = leave.sigmoid() * cell.tanh()
                outputs.append(hidden)
        return torch.stack(outputs, 1)


def lstm(width: int, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two LSTM layers of `width` units over an image's rows, and a classifier on the last one's output: DST's
    LSTM-a (128) and LSTM-b (256) (Liu et al. 2020, table 1, where the classifier is not pruned:
    `keep_dense=("fc.weight",)`).

    Weights ~ U(-1, 1) / sqrt(width), biases zero. Unlike the paper's code, no state is carried from one batch
    to the next.
    """
    channels, _, columns = shape
    model = nn.Sequential(
        OrderedDict(
            rows=Rows(),
            lstm1=LSTM(channels * columns, width),
            lstm2=LSTM(width, width),
            last=Last(),
            fc=nn.Linear(width, classes),
        )
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -(width**-0.5), width**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model

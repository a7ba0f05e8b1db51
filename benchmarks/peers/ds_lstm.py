"""Dual-level DS-LSTM (Wang et al. 2020) as a PyTorch user would write it.

nn.Conv2d and nn.LSTM where they fit, a module for the cell, a Python loop over
time around it. One batch has one length: masks would only slow it down.
"""

import torch
from torch import nn

HIDDEN = 200


class RecurrentNorm(nn.Module):
  """Batch normalisation with running statistics for each step."""

  def __init__(self, features: int, steps: int, scale: float):
    super().__init__()
    self.scale = nn.Parameter(torch.full((features,), scale))
    self.shift = nn.Parameter(torch.zeros(features))
    self.register_buffer("mean", torch.zeros(steps, features))
    self.register_buffer("variance", torch.ones(steps, features))

  def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
    return nn.functional.batch_norm(
      x, self.mean[step], self.variance[step], self.scale, self.shift,
      training=self.training,
    )  # fmt: skip


class DSLSTM(nn.Module):
  """Equations (1) to (8)."""

  def __init__(self, dim_x: int, dim_y: int, steps: int):
    super().__init__()
    self.gates = nn.Linear(dim_x + dim_y + HIDDEN, 4 * HIDDEN)
    self.candidate_t = nn.Linear(dim_x + HIDDEN, HIDDEN)
    self.candidate_f = nn.Linear(dim_y + HIDDEN, HIDDEN)
    self.gate_norm = RecurrentNorm(4 * HIDDEN, steps, 0.1)
    self.output_norm = RecurrentNorm(HIDDEN, steps, 1.0)

  def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    h = c = x.new_zeros(len(x), HIDDEN)
    outputs = []
    for t in range(x.shape[1]):
      gates = torch.sigmoid(self.gates(torch.cat([x[:, t], y[:, t], h], 1)))
      f, i_t, i_f, o = self.gate_norm(gates, t).chunk(4, 1)
      c_t = torch.tanh(self.candidate_t(torch.cat([x[:, t], h], 1)))
      c_f = torch.tanh(self.candidate_f(torch.cat([y[:, t], h], 1)))
      c = f * c + i_t * c_t + i_f * c_f
      h = o * torch.tanh(c)
      outputs.append(self.output_norm(h, t))
    return torch.stack(outputs, 1)


def cnn() -> nn.Sequential:
  layers = []
  for inputs, outputs in ((1, 64), (64, 16)):
    layers += [
      nn.Conv2d(inputs, outputs, 4),
      nn.BatchNorm2d(outputs),
      nn.ReLU(),
      nn.MaxPool2d(2),
    ]
  return nn.Sequential(*layers)


class Dual(nn.Module):
  """M_LSTM beside M_DS-LSTM; logits are averaged."""

  def __init__(self, shapes: dict, classes: int = 4):
    super().__init__()
    self.lstm = nn.LSTM(
      shapes["mfcc"][1], HIDDEN, num_layers=2, batch_first=True
    )
    self.cnn_x, self.cnn_y = cnn(), cnn()

    def after(size):
      for _ in range(2):
        size = (size - 3) // 2
      return size

    time_x, dim_x = (after(size) for size in shapes["s1"])
    time_y, dim_y = (after(size) for size in shapes["s2"])
    self.steps = min(time_x // 2, time_y)
    self.first = DSLSTM(16 * dim_x, 16 * dim_y, self.steps)
    self.second = DSLSTM(HIDDEN, 16 * dim_y, self.steps)
    self.heads = nn.ModuleList(nn.Linear(HIDDEN, classes) for _ in range(2))

  def forward(self, inputs: dict) -> list[torch.Tensor]:
    mfcc = self.lstm(inputs["mfcc"])[0].mean(1)

    def maps(network, x):
      x = network(x[:, None])
      return x.permute(0, 2, 1, 3).flatten(2)

    x = maps(self.cnn_x, inputs["s1"])
    x = x[:, : len(x[0]) // 2 * 2].unflatten(1, (-1, 2)).mean(2)
    y = maps(self.cnn_y, inputs["s2"])
    x, y = x[:, : self.steps], y[:, : self.steps]
    out = self.second(self.first(x, y), y).mean(1)
    return [head(z) for head, z in zip(self.heads, (mfcc, out), strict=True)]

  def loss(self, inputs: dict, targets: dict) -> torch.Tensor:
    losses = [
      nn.functional.cross_entropy(logits, targets["emotion"])
      for logits in self(inputs)
    ]
    return sum(losses) / 2

"""Adieu features (Trigeorgis et al. 2016) in PyTorch: two BLSTMs, 1 - CCC."""

import torch
from torch import nn
from torch.nn import functional as F

FILTERS, HIDDEN = 40, 128


class RawWaveform(nn.Module):
  """Whole-segment convolutions of 80 and 40 taps, 2 x BLSTM 128."""

  def __init__(self, shapes: dict, contours: int = 2):
    super().__init__()
    self.first = nn.Conv1d(1, FILTERS, 80, padding="same")
    self.second = nn.Conv1d(FILTERS, FILTERS, 40, padding="same")
    size = shapes["waveform"][1] // 2 * FILTERS // 20
    self.lstm = nn.LSTM(size, HIDDEN, 2, batch_first=True, bidirectional=True)
    self.dropout = nn.Dropout(0.5)
    self.head = nn.Linear(2 * HIDDEN, contours)

  def forward(self, inputs: dict) -> torch.Tensor:
    batch, frames, samples = inputs["waveform"].shape
    x = inputs["waveform"].reshape(batch, 1, frames * samples)
    x = F.max_pool1d(F.relu(self.first(x)), 2)
    x = self.second(x).unflatten(1, (-1, 20)).amax(2)
    x = x.transpose(1, 2).reshape(batch, frames, -1)
    return self.head(self.dropout(self.lstm(self.dropout(x))[0]))

  def loss(self, inputs: dict, targets: dict) -> torch.Tensor:
    found = self(inputs).flatten(0, 1)
    wanted = targets["contours"].flatten(0, 1)
    means = found.mean(0), wanted.mean(0)
    covariance = ((found - means[0]) * (wanted - means[1])).mean(0)
    spread = found.var(0, correction=0) + wanted.var(0, correction=0)
    ccc = 2 * covariance / (spread + (means[0] - means[1]) ** 2)
    return 1 - ccc.mean()

"""DCaEN second stage (Huang et al.) in PyTorch: the feature network frozen."""

import torch
from torch import nn
from torch.nn import functional as F

FILTERS, HIDDEN, EMBEDDING, WEIGHT = 40, 256, 64, 0.6


class Complementary(nn.Module):
  """Raw network beside the feature network; both embeddings are classified."""

  def __init__(self, shapes: dict, classes: int = 4):
    super().__init__()
    samples, dim = shapes["waveform"][1], shapes["functionals"][0]
    self.first = nn.Conv1d(1, FILTERS, 20, padding="same")
    self.second = nn.Conv1d(FILTERS, FILTERS, 40, padding="same")
    size = samples // 2 * FILTERS // 10
    self.lstms = nn.ModuleList(
      nn.LSTM(inputs, HIDDEN, batch_first=True) for inputs in (size, HIDDEN)
    )
    self.attention = nn.ParameterList(
      nn.Parameter(torch.zeros(HIDDEN)) for _ in range(2)
    )
    self.embedding = nn.Linear(HIDDEN, EMBEDDING)
    self.features = nn.Linear(dim, EMBEDDING).requires_grad_(False)
    self.head = nn.Linear(2 * EMBEDDING, classes)

  def raw(self, x: torch.Tensor) -> torch.Tensor:
    batch, frames, samples = x.shape
    x = F.relu(self.first(x.reshape(batch * frames, 1, samples)))
    x = F.relu(self.second(F.max_pool1d(x, 2)))
    # Max-pooling across channels, ten at a time.
    x = x.unflatten(1, (-1, 10)).amax(2)
    x = x.transpose(1, 2).reshape(batch, frames, -1)
    for number, (lstm, vector) in enumerate(
      zip(self.lstms, self.attention, strict=True)
    ):
      x = lstm(x)[0]
      x = x * (x @ vector).softmax(1)[:, :, None]
      if number == 0:
        x = x * frames
    return self.embedding(x.sum(1))

  def forward(self, inputs: dict) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
      features = self.features(inputs["functionals"])
    raw = self.raw(inputs["waveform"])
    return self.head(torch.cat([raw, features], 1)), raw, features

  def loss(self, inputs: dict, targets: dict) -> torch.Tensor:
    logits, raw, features = self(inputs)
    cosine = F.cosine_similarity(raw, features).mean()
    return WEIGHT * cosine + (1 - WEIGHT) * F.cross_entropy(
      logits, targets["emotion"]
    )

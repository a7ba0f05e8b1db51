"""The thesis' 2D-CNN-biGRU with a reversed speaker head, in PyTorch."""

import torch
from torch import nn


class Reverse(torch.autograd.Function):
  """The identity, whose gradient is multiplied by -strength."""

  @staticmethod
  def forward(ctx, x, strength):
    ctx.strength = strength
    return x.view_as(x)

  @staticmethod
  def backward(ctx, gradient):
    return -ctx.strength * gradient, None


def head(classes: int) -> nn.Sequential:
  layers = []
  for inputs in (1024, 128):
    layers += [
      nn.Linear(inputs, 128),
      nn.BatchNorm1d(128),
      nn.Dropout(0.5),
      nn.ReLU(),
    ]
  return nn.Sequential(*layers, nn.Linear(128, classes))


class SpeakerInvariant(nn.Module):
  """Depth 1, MFCC, as in the thesis' code snippet."""

  def __init__(self, shapes: dict, classes: int = 7, speakers: int = 6):
    super().__init__()
    self.conv = nn.Sequential(
      nn.Conv2d(1, 64, 2, padding=1, bias=False),
      nn.BatchNorm2d(64),
      nn.Dropout2d(0.1),
      nn.ELU(),
      nn.MaxPool2d(2),
    )
    dim = 64 * ((shapes["features"][1] + 1) // 2)
    self.gru = nn.GRU(dim, 256, batch_first=True, bidirectional=True)
    self.dense = nn.Linear(512, 512)
    self.emotion, self.speaker = head(classes), head(speakers)

  def forward(self, inputs: dict, strength: float = 0.5) -> list[torch.Tensor]:
    x = self.conv(inputs["features"][:, None])
    x = self.gru(x.permute(0, 2, 1, 3).flatten(2))[0]
    x = self.dense(x)
    x = torch.cat([x.mean(1), x.std(1)], 1)
    return [self.emotion(x), self.speaker(Reverse.apply(x, strength))]

  def loss(self, inputs: dict, targets: dict) -> torch.Tensor:
    emotion, speaker = self(inputs)
    return nn.functional.cross_entropy(
      emotion, targets["emotion"]
    ) + nn.functional.cross_entropy(speaker, targets["speaker"])

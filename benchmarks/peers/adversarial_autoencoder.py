"""Adversarial autoencoder (Parthasarathy et al. 2019) in PyTorch.

The paper's strengthened variant on functionals: a loop over four optimizers,
each with the loss and the parameters of its turn.
"""

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN, LATENT = 256, 100


def block(inputs: int, outputs: int) -> list[nn.Module]:
  return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)]


def discriminator(inputs: int) -> nn.Sequential:
  layers = []
  for size in (inputs, HIDDEN):
    layers += [nn.Linear(size, HIDDEN), nn.ReLU(), nn.Dropout(0.5)]
  return nn.Sequential(*layers, nn.Linear(HIDDEN, 1))


class AdversarialAutoencoder(nn.Module):
  """Encoder with the heads y and z, decoder, two discriminators."""

  def __init__(self, shapes: dict, classes: int = 7):
    super().__init__()
    (dim,) = shapes["functionals"]
    self.classes = classes
    self.encoder = nn.Sequential(
      *(*block(dim, HIDDEN), nn.ReLU(), nn.Dropout(0.5)),
      *(*block(HIDDEN, HIDDEN), nn.ReLU()),
    )
    self.y = nn.Sequential(*block(HIDDEN, classes))
    self.z = nn.Sequential(*block(HIDDEN, LATENT))
    self.decoder = nn.Sequential(
      *(*block(classes + LATENT, HIDDEN), nn.ReLU()),
      *(*block(HIDDEN, HIDDEN), nn.ReLU(), *block(HIDDEN, dim)),
    )
    self.judge_y, self.judge_z = discriminator(classes), discriminator(LATENT)

  def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    hidden = self.encoder(x)
    logits = self.y(hidden)
    return logits, logits.softmax(1), self.z(hidden)

  def forward(self, inputs: dict) -> torch.Tensor:
    return self.encode(inputs["functionals"])[1]

  def reconstruction(self, inputs: dict, targets: dict) -> torch.Tensor:
    x = inputs["functionals"]
    _, y, z = self.encode(x)
    return F.mse_loss(self.decoder(torch.cat([y, z], 1)), x)

  def discriminators(self, inputs: dict, targets: dict) -> torch.Tensor:
    with torch.no_grad():
      _, y, z = self.encode(inputs["functionals"])
    drawn = torch.randint(self.classes, (len(y),), device=y.device)
    real = F.one_hot(drawn, self.classes).float(), torch.randn_like(z)
    loss = 0.0
    for judge, prior, fake in zip(
      (self.judge_y, self.judge_z), real, (y, z), strict=True
    ):
      yes, no = judge(torch.cat([prior, fake])).chunk(2)
      loss = loss + F.softplus(-yes).mean() + F.softplus(no).mean()
    return loss

  def generator(self, inputs: dict, targets: dict) -> torch.Tensor:
    _, y, z = self.encode(inputs["functionals"])
    judged = self.judge_y(y), self.judge_z(z)
    return sum(F.softplus(-logits).mean() for logits in judged)

  def classification(self, inputs: dict, targets: dict) -> torch.Tensor:
    logits = self.encode(inputs["functionals"])[0]
    return F.cross_entropy(logits, targets["emotion"])

  def turns(self) -> list[tuple[Callable, list[nn.Module], float]]:
    """Each turn's loss, what it moves, and its learning rate."""
    coder = [self.encoder, self.y, self.z]
    return [
      (self.reconstruction, [*coder, self.decoder], 1e-3),
      (self.discriminators, [self.judge_y, self.judge_z], 1e-4),
      (self.generator, coder, 1e-3),
      (self.classification, [self.encoder, self.y], 1e-3),
    ]


class Classifier(AdversarialAutoencoder):
  """Its last turn alone."""

  def turns(self) -> list[tuple[Callable, list[nn.Module], float]]:
    return super().turns()[-1:]


def trainer(model: AdversarialAutoencoder, wrap: Callable) -> Callable:
  """One training step; losses go through `wrap`, such as torch.compile."""
  turns = []
  for loss, modules, rate in model.turns():
    moved = list(itertools.chain(*(m.parameters() for m in modules)))
    turns.append((wrap(loss), torch.optim.Adam(moved, lr=rate), moved))

  def train(inputs: dict, targets: dict) -> None:
    for loss, optimizer, moved in turns:
      gradients = torch.autograd.grad(loss(inputs, targets), moved)
      for parameter, gradient in zip(moved, gradients, strict=True):
        parameter.grad = gradient
      optimizer.step()

  return train

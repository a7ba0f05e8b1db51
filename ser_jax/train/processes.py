"""Several processes that train together: who writes, and what all agree on.

Every process takes the same steps in the same order; process 0 alone reads and
writes a workdir, and tells the others what it found there.
"""

import json
import os
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ser_jax.errors import UserError

ADDRESS, COUNT, NUMBER = (
  *("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES"),
  "JAX_PROCESS_ID",
)


def join() -> None:
  """Joins the other processes, before anything asks for a device.

  TPU pods, SLURM, Open MPI and Kubernetes tell JAX themselves who is there;
  elsewhere the environment does: the address of process 0, how many processes
  there are, and the number of this one.

  Raises:
    UserError: nothing says who the others are.
  """
  given = [os.environ.get(name) for name in (ADDRESS, COUNT, NUMBER)]
  try:
    if all(given):
      jax.distributed.initialize(given[0], int(given[1]), int(given[2]))
    else:
      jax.distributed.initialize()
  except (ValueError, RuntimeError) as error:
    raise UserError(
      f"--distributed: {str(error).splitlines()[0]} Start it by launch.sh "
      f"slurm or tpu, or set {ADDRESS} (HOST:PORT of process 0), {COUNT} and "
      f"{NUMBER} (0, 1, ...) for each process."
    ) from error


def primary() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


def on_primary(work: Callable[[], object]):
  """Lets process 0 do something, and tells all what came of it.

  Args:
    work: gives what JSON can hold; called by process 0 alone.

  Returns:
    Its result, on every process.

  Raises:
    UserError: `work` raised it, or anything else, then on every process; on
      process 0 what it was.
  """
  if jax.process_count() == 1:
    return work()
  answer, failed = {}, None
  if primary():
    try:
      answer = {"value": work()}
    except Exception as error:  # the others would wait for an answer for ever
      answer, failed = {"error": str(error) or repr(error)}, error
  text = json.dumps(answer).encode()
  size = int(broadcast(np.int32(len(text))))
  buffer = np.zeros(size, np.uint8)
  if primary():
    buffer[:] = np.frombuffer(text, np.uint8)
  answer = json.loads(broadcast(buffer).tobytes())
  if "error" in answer:
    raise failed or UserError(answer["error"])
  return answer["value"]


def read(work: Callable[[], PyTree], like: PyTree) -> PyTree:
  """Lets process 0 read arrays, and gives them to all.

  Args:
    work: reads host arrays; called by process 0 alone.
    like: a tree of their shapes and types.

  Returns:
    The arrays, on every process.

  Raises:
    UserError: `work` raised it, then on every process.
  """
  found = []
  on_primary(lambda: found.append(work()))
  empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  return broadcast(found[0] if found else empty)


def broadcast(tree: PyTree) -> PyTree:
  """Host arrays of process 0, on every process; shapes are the same on all."""
  with jax.transfer_guard("allow"):
    return multihost_utils.broadcast_one_to_all(tree)


def in_turn(work: Callable[[], None]) -> None:
  """Does something on one process after another: they may share a disk."""
  for turn in range(jax.process_count()):
    if turn == jax.process_index():
      work()
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"turn {turn}")


def agreed(asked: Callable[[], bool]) -> Callable[[], bool]:
  """A question that all processes answer alike, yes if one says yes.

  Signals come to each process at its own step, but all must stop at the same.
  The answer is of the call before, so that no step waits for it.

  Args:
    asked: this process' own answer.

  Returns:
    The common answer; to be called equally often by all.
  """
  if jax.process_count() == 1:
    return asked
  shape = (jax.process_count(), jax.local_device_count())
  mesh = Mesh(np.array(jax.devices()).reshape(shape), ("process", "device"))
  each = NamedSharding(mesh, PartitionSpec("process"))
  anyone = jax.jit(
    lambda votes: votes.max(),
    out_shardings=NamedSharding(mesh, PartitionSpec()),
  )
  pending = []

  def ask() -> bool:
    vote = np.array([asked()], np.int32)
    with jax.transfer_guard_host_to_device("allow"):
      votes = jax.make_array_from_process_local_data(each, vote)
    pending.append(anyone(votes))
    if len(pending) == 1:
      return False
    return bool(jax.device_get(pending.pop(0)))

  return ask

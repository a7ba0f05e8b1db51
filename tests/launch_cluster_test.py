"""launch.sh on Slurm, GPUs and TPU VMs, with our own sbatch and gcloud."""

import pathlib
import shlex
import shutil
import subprocess

import pytest

from tests.launch_fakes import LATENCY, Checkout, script


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> Checkout:
  return Checkout(tmp_path)


# --- Slurm -------------------------------------------------------------------


def submitted(checkout: Checkout, *arguments: str, **environment: str) -> str:
  """The job that sbatch was given."""
  job = checkout.root / "job"
  script(checkout.bin / "sbatch", f"cat >{shlex.quote(str(job))}")
  result = checkout.run("slurm", *arguments, **environment)
  assert result.returncode == 0, result.stderr
  return job.read_text()


def test_slurm_asks_for_a_task_a_gpu(checkout: Checkout):
  job = submitted(checkout, NODES="2", GPUS="4", CPUS="3")
  for line in (
    "--nodes=2",
    "--ntasks-per-node=4",
    "--gpus-per-node=4",
    "--cpus-per-task=3",
    "--signal=TERM@120",
    "--requeue",
  ):
    assert f"#SBATCH {line}\n" in job
  assert "ser_jax.main" in job
  assert "--distributed" in job
  assert f"export XLA_FLAGS={LATENCY}\n" in job
  assert checkout.calls()[-1][0][-1] == f"{checkout.root}[cuda]"
  assert (checkout.root / "runs").is_dir()


def test_one_task_is_not_distributed(checkout: Checkout):
  assert "--distributed" not in submitted(checkout)


@pytest.mark.parametrize("count", ["0", "two", "-1", "1.5"])
def test_slurm_counts_are_checked(checkout: Checkout, count: str):
  result = checkout.run("slurm", "--dry-run", GPUS=count)
  assert result.returncode == 2
  assert f"GPUS={count} is not a count" in result.stderr


@pytest.mark.parametrize(
  "status, requeued", [("0", False), ("1", False), ("143", True)]
)
def test_job_runs_and_is_requeued_when_out_of_time(
  checkout: Checkout, status: str, requeued: bool
):
  job = submitted(checkout, "--x=a b")
  job = job.replace("/dev/nvidiactl", "/dev/null")  # is everywhere
  note = checkout.root / "requeued"
  script(
    checkout.bin / "srun",
    'while [[ $1 == -* ]]; do shift; done; exec "$@"',
  )
  script(checkout.bin / "scontrol", f'echo "$@" >{shlex.quote(str(note))}')
  result = subprocess.run(
    ["bash"],
    input=job,
    text=True,
    timeout=60,
    cwd=checkout.bin,
    env=checkout.environment | {"SLURM_JOB_ID": "12", "FAKE_MAIN": status},
  )
  assert result.returncode == int(status)
  arguments, where, environment = checkout.calls()[-1]
  assert arguments[1] == "ser_jax.main"
  assert arguments[-1] == "--x=a b"
  assert where == str(checkout.root)
  assert environment["JAX_PLATFORMS"] == "cuda,cpu"
  assert note.exists() == requeued
  if requeued:
    assert note.read_text() == "requeue 12\n"


def test_a_node_without_gpus_does_not_train_on_its_cpu(checkout: Checkout):
  job = submitted(checkout).replace("/dev/nvidiactl", "/dev/nowhere")
  before = checkout.calls()
  result = subprocess.run(
    ["bash"],
    input=job,
    capture_output=True,
    text=True,
    timeout=60,
    env=checkout.environment,
  )
  assert result.returncode == 2
  assert "has no NVIDIA GPU" in result.stderr
  assert checkout.calls() == before


def test_slurm_without_sbatch_is_explained(checkout: Checkout):
  if shutil.which("sbatch"):
    pytest.skip("this machine has Slurm")
  result = checkout.run("slurm", "--no-install")
  assert result.returncode == 2
  assert "sbatch is not on PATH" in result.stderr


# --- CUDA --------------------------------------------------------------------


def test_an_older_cuda_has_an_environment_of_its_own(checkout: Checkout):
  checkout.run("gpu", "--install-only", CUDA="12")
  assert checkout.calls()[-1][0][-1] == f"{checkout.root}[cuda12]"
  assert (checkout.root / ".venv-cuda12").exists()
  assert not checkout.venv.exists()


def test_a_cuda_that_jax_has_not_is_refused(checkout: Checkout):
  result = checkout.run("gpu", "--dry-run", CUDA="11")
  assert result.returncode == 2
  assert "CUDA=11 is not a CUDA" in result.stderr


# --- TPU ---------------------------------------------------------------------


def test_tpu_slice_is_distributed(checkout: Checkout):
  checkout.run("tpu", TPU_WORKERS="4")
  assert checkout.calls()[-1][0][-1] == "--distributed"


def test_tpu_needs_its_zone(checkout: Checkout):
  result = checkout.run("tpu", TPU_NAME="pod")
  assert result.returncode == 2
  assert "TPU_NAME=pod needs its zone too: ZONE=..." in result.stderr


@pytest.fixture
def cloud(checkout: Checkout) -> Checkout:
  """A committed checkout, and a gcloud whose TPU VM is a folder."""
  vm = checkout.bin.parent / "vm"
  vm.mkdir()
  script(
    checkout.bin / "gcloud",
    f"printf '%s\\n' \"${{*:4}}\" >>{shlex.quote(str(vm))}/gcloud",
    'for last in "$@"; do :; done',
    f"cd {shlex.quote(str(vm))}",
    'if [[ $4 == scp ]]; then cp "$5" .; fi',
    'if [[ $4 == ssh ]]; then exec bash -c "${last#--command=}"; fi',
  )
  (checkout.root / ".gitignore").write_text("/runs/\n.venv/\n")
  (checkout.root / "code").mkdir()
  (checkout.root / "code" / "now.py").write_text("")
  for command in (
    "init -q",
    "add .",
    "-c user.name=a -c user.email=a@b commit -q -m one",
  ):
    subprocess.run(["git", *command.split()], cwd=checkout.root, check=True)
  return checkout


def test_tpu_is_sent_the_commit_and_trains_there(cloud: Checkout):
  where = {"TPU_NAME": "pod", "ZONE": "here-1", "TPU_WORKERS": "2"}
  result = cloud.run("tpu", "--x=it's a b", **where)
  assert result.returncode == 0, result.stderr
  vm = cloud.bin.parent / "vm"
  copied, called = (vm / "gcloud").read_text().splitlines()
  for line in (copied, called):
    assert "pod" in line
    assert "--zone=here-1 --worker=all" in line
  arguments, folder, environment = cloud.calls()[-1]
  assert folder == str(vm / "ser_jax")
  assert arguments[1] == "ser_jax.main"
  assert arguments[-2:] == ["--x=it's a b", "--distributed"]
  assert environment["JAX_PLATFORMS"] == "tpu,cpu"
  assert not cloud.venv.exists()


def test_tpu_is_sent_the_settings_of_the_user(cloud: Checkout):
  own = {
    "VENV": "an environment",
    "XLA_FLAGS": "--xla_a=1 --xla_b=c",
    "JAX_COMPILATION_CACHE_DIR": "it's here",
    "TFDS_DATA_DIR": "/my data",
  }
  result = cloud.run("tpu", TPU_NAME="pod", ZONE="here-1", **own)
  assert result.returncode == 0, result.stderr
  called = (cloud.bin.parent / "vm" / "gcloud").read_text()
  assert "JAX_COMPILATION_CACHE_DIR=it\\'s\\ here" in called
  assert "JAX_PLATFORMS" not in called
  environment = cloud.calls()[-1][2]
  folder = own.pop("VENV")
  assert {name: environment[name] for name in own} == own
  assert (cloud.bin.parent / "vm" / "ser_jax" / folder).exists()


def test_tpu_keeps_no_module_that_the_commit_has_not(cloud: Checkout):
  there = cloud.bin.parent / "vm" / "ser_jax"
  kept = ("runs/a.py", "shards/a", ".venv/lib/a.py", "code/notes.json")
  for name in (*kept, "code/gone.py"):
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    (there / name).write_text("")
  result = cloud.run("tpu", TPU_NAME="pod", ZONE="here-1")
  assert result.returncode == 0, result.stderr
  assert all((there / name).exists() for name in kept)
  assert [path.name for path in (there / "code").glob("*.py")] == ["now.py"]


def test_tpu_refuses_changes_it_would_not_send(cloud: Checkout):
  (cloud.root / "new.py").write_text("")
  result = cloud.run("tpu", TPU_NAME="pod", ZONE="here-1")
  assert result.returncode == 2
  assert "changes that would not be sent" in result.stderr

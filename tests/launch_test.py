"""launch.sh on this machine: arguments, environment, signals, statuses."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.launch_fakes import LATENCY, ROOT, Checkout, script

SCRIPTS = [ROOT / "launch.sh", ROOT / ".ci" / "run"]


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> Checkout:
  return Checkout(tmp_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_are_executable(path: pathlib.Path):
  subprocess.run(["bash", "-n", str(path)], check=True)
  assert os.access(path, os.X_OK)


def test_shellcheck_finds_nothing():
  beside = pathlib.Path(sys.executable).parent
  binary = shutil.which("shellcheck", path=f"{beside}:{os.environ['PATH']}")
  if binary is None:
    pytest.skip("no shellcheck: it comes with the dev extra")
  found = subprocess.run(
    [binary, *map(str, SCRIPTS)], capture_output=True, text=True
  )
  assert found.returncode == 0, found.stdout


def test_help_names_every_mode(checkout: Checkout):
  text = checkout.run("--help").stdout
  for mode in ("local", "gpu", "tpu", "slurm", "test", "demo"):
    assert f"\n  {mode} " in text


def test_unknown_mode_is_refused(checkout: Checkout):
  result = checkout.run("gpus")
  assert result.returncode == 2
  assert (
    "there is no mode 'gpus': give local, gpu, tpu, slurm, test or demo"
    in (result.stderr)
  )
  assert checkout.calls() == []


# --- what is run -------------------------------------------------------------


def test_default_trains_the_default_config(checkout: Checkout):
  assert checkout.run().returncode == 0
  (_, _, _), (pip, _, _), (main, where, environment) = checkout.calls()
  assert pip[-2:] == ["--editable", str(checkout.root)]
  assert main == [
    "-m",
    "ser_jax.main",
    "--config=configs/ds_lstm.py",
    "--workdir=runs/ds_lstm_synthetic",
  ]
  assert where == str(checkout.root)
  home = checkout.environment["HOME"]
  assert (
    environment["JAX_COMPILATION_CACHE_DIR"] == f"{home}/.cache/ser_jax/xla"
  )
  assert environment["TFDS_DATA_DIR"] == str(checkout.root / "shards")
  assert environment["TF_CPP_MIN_LOG_LEVEL"] == "2"
  assert environment["XLA_FLAGS"] is None


def test_mode_test_runs_pytest_with_its_extras(checkout: Checkout):
  checkout.run("test", "tests/a b_test.py", "-k", "one or two")
  _, (pip, _, _), (pytest_, _, environment) = checkout.calls()
  assert pip[-1] == f"{checkout.root}[dev,opensmile,demo]"
  assert pytest_[:2] == ["-m", "pytest"]
  assert pytest_[-3:] == ["tests/a b_test.py", "-k", "one or two"]
  assert environment["JAX_COMPILATION_CACHE_DIR"] is None


@pytest.mark.parametrize("given", [[], ["nope"], ["--raw=corpus", "runs"]])
def test_mode_demo_wants_a_folder_before_it_installs(
  checkout: Checkout, given: list[str]
):
  result = checkout.run("demo", *given)
  assert result.returncode and not checkout.calls()
  assert f"there is no folder '{(given or ['runs'])[0]}'" in result.stderr


def test_mode_demo_serves_this_machine_alone(checkout: Checkout):
  (checkout.root / "runs" / "a b").mkdir(parents=True)
  checkout.run("demo", "runs/a b", "--raw=corpus", STREAMLIT_SERVER_PORT="99")
  _, (pip, _, _), (page, _, environment) = checkout.calls()
  assert pip[-1] == f"{checkout.root}[demo]"
  assert page[:3] == ["-m", "streamlit", "run"]
  assert page[-3:] == ["--", "runs/a b", "--raw=corpus"]
  assert environment["STREAMLIT_SERVER_ADDRESS"] == "localhost"
  assert environment["STREAMLIT_SERVER_PORT"] == "99"


@pytest.mark.parametrize(
  "given, passed",
  [
    (
      ["--config=configs/dat.py:base4"],
      ["--config=configs/dat.py:base4"],
    ),
    (
      ["--config", "my configs/aae.py", "--workdir", "runs/x y"],
      ["--config", "my configs/aae.py", "--workdir", "runs/x y"],
    ),
    (
      ["local", "--workdir=a b"],
      ["--config=configs/ds_lstm.py", "--workdir=a b"],
    ),
    (
      ["local", "--config.seed=3", "--", "--dry-run", "it's", "$HOME"],
      [
        "--config=configs/ds_lstm.py",
        "--workdir=runs/ds_lstm_synthetic",
        "--config.seed=3",
        "--dry-run",
        "it's",
        "$HOME",
      ],
    ),
    (["--mode=predict", "a.wav"], ["--mode=predict", "a.wav"]),
    (["local", "-mode", "export"], ["-mode", "export"]),
    (
      ["--mode=analyze", "--workdir=predict"],
      ["--config=configs/ds_lstm.py", "--mode=analyze", "--workdir=predict"],
    ),
  ],
)
def test_arguments_are_passed_on_and_replace_defaults(
  checkout: Checkout, given: list[str], passed: list[str]
):
  assert checkout.run(*given).returncode == 0
  assert checkout.calls()[-1][0] == ["-m", "ser_jax.main", *passed]


def test_settings_of_the_user_are_kept(checkout: Checkout):
  own = {
    "TFDS_DATA_DIR": "/my data",
    "JAX_COMPILATION_CACHE_DIR": "",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "XLA_FLAGS": "--xla_dump_to=a",
  }
  checkout.run("local", **own)
  environment = checkout.calls()[-1][2]
  assert {name: environment[name] for name in own} == own


def test_user_may_stand_anywhere(checkout: Checkout, tmp_path: pathlib.Path):
  result = checkout.run(
    cwd=tmp_path, PYTHON="the bin/fake python", VENV="an environment"
  )
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "an environment" / "bin" / "python").exists()
  assert checkout.calls()[-1][1] == str(checkout.root)


def test_no_install_uses_the_python_given(
  checkout: Checkout, tmp_path: pathlib.Path
):
  checkout.run("--no-install", cwd=tmp_path, PYTHON="the bin/fake python")
  assert checkout.modules() == ["ser_jax.main"]
  assert not checkout.venv.exists()


def test_only_the_program_writes_to_stdout(checkout: Checkout):
  assert checkout.run().stdout == "ser_jax.main\n"


# --- dry runs ----------------------------------------------------------------


@pytest.mark.parametrize(
  "mode, expected",
  [
    ("local", ["-m ser_jax.main --config=configs/ds_lstm.py"]),
    (
      "gpu",
      [
        "\\[cuda\\]",
        f"export XLA_FLAGS={LATENCY}",
        "export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9",
        "export JAX_PLATFORMS=cuda\\,cpu",
      ],
    ),
    ("tpu", ["\\[tpu\\]", "export JAX_PLATFORMS=tpu\\,cpu"]),
    ("slurm", ["sbatch <<'JOB'", "#SBATCH --requeue"]),
    ("test", ["\\[dev\\,opensmile\\,demo\\]", "-m pytest"]),
    ("demo", ["\\[demo\\]", "ser_jax/demo/app.py -- runs"]),
  ],
)
def test_dry_run_prints_a_script_and_does_nothing(
  checkout: Checkout, mode: str, expected: list[str]
):
  result = checkout.run(mode, "--dry-run")
  assert result.returncode == 0, result.stderr
  for text in [*expected, "-m venv", "export TFDS_DATA_DIR="]:
    assert text in result.stdout
  subprocess.run(
    ["bash", "-n"], input=result.stdout, text=True, check=True, timeout=10
  )
  assert checkout.calls() == []
  assert sorted(os.listdir(checkout.root)) == ["launch.sh", "pyproject.toml"]


@pytest.mark.parametrize("mode", ["local", "tpu", "test"])
def test_dry_run_is_what_is_run(checkout: Checkout, mode: str):
  printed = checkout.run(mode, "--dry-run", "--x=it's a b").stdout
  subprocess.run(
    ["bash"],
    input=printed,
    text=True,
    check=True,
    timeout=60,
    env=checkout.environment,
    cwd=checkout.root,
  )
  of_script = [(arguments, env) for arguments, _, env in checkout.calls()]
  checkout.log.unlink()
  shutil.rmtree(checkout.venv)
  checkout.run(mode, "--x=it's a b")
  assert of_script == [
    (arguments, env) for arguments, _, env in checkout.calls()
  ]


@pytest.mark.parametrize(
  "own, flags",
  [
    ("--xla_a=1 --xla_b=c", f"--xla_a=1 --xla_b=c {LATENCY}"),
    (
      "--xla_gpu_enable_latency_hiding_scheduler=false",
      "--xla_gpu_enable_latency_hiding_scheduler=false",
    ),
  ],
)
def test_xla_flags_are_appended(checkout: Checkout, own: str, flags: str):
  printed = checkout.run("gpu", "--dry-run", XLA_FLAGS=own).stdout
  lines = [line for line in printed.splitlines() if "XLA_FLAGS" in line]
  assert [shlex.split(line)[1] for line in lines] == [f"XLA_FLAGS={flags}"]


@pytest.mark.skipif(
  any(pathlib.Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")),
  reason="this machine has an NVIDIA GPU",
)
def test_gpu_without_a_gpu_is_refused(checkout: Checkout):
  result = checkout.run("gpu", "--no-install")
  assert result.returncode == 2
  assert "there is no NVIDIA GPU here" in result.stderr


# --- the environment ---------------------------------------------------------


def test_environment_is_made_once(checkout: Checkout):
  checkout.run()
  checkout.run()
  assert checkout.modules() == ["venv", "pip", "ser_jax.main", "ser_jax.main"]


def test_environment_follows_pyproject(checkout: Checkout):
  checkout.run("--install-only")
  (checkout.root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
  checkout.run("--install-only")
  checkout.run("--install-only")
  assert checkout.modules() == ["venv", "pip", "pip"]


def test_extras_add_up(checkout: Checkout):
  for mode in ("local", "test", "local", "tpu", "test", "tpu"):
    checkout.run(mode, "--install-only")
  installs = [call[0][-1] for call in checkout.calls() if call[0][1] == "pip"]
  root = str(checkout.root)
  assert installs == [root, f"{root}[dev,opensmile,demo]", f"{root}[tpu]"]


def test_failed_pip_is_explained_and_tried_again(checkout: Checkout):
  result = checkout.run(FAKE_PIP="7")
  assert result.returncode == 2
  assert "pip could not install the project" in result.stderr
  assert "--no-install" in result.stderr
  assert sorted(os.listdir(checkout.venv)) == ["bin"]
  assert checkout.run().returncode == 0
  assert checkout.modules() == ["venv", "pip", "pip", "ser_jax.main"]


def test_failed_extra_leaves_no_stamp(checkout: Checkout):
  checkout.run("local", "--install-only")
  checkout.run("test", "--install-only", FAKE_PIP="7")
  checkout.run("local", "--install-only")
  assert checkout.modules() == ["venv", "pip", "pip", "pip"]


@pytest.mark.parametrize("version", ["2.7", "3.10"])
def test_old_python_is_refused(checkout: Checkout, version: str):
  result = checkout.run(FAKE_VERSION=version)
  assert result.returncode == 2
  assert f"is Python {version}; Python 3.11 or newer" in result.stderr
  assert checkout.calls() == []


def test_python_is_looked_for(checkout: Checkout):
  for name in ("python3", "python3.13", "python3.11", "python"):
    script(checkout.bin / name, "exit 127")
  script(
    checkout.bin / "python3.12",
    f"exec {shlex.quote(str(checkout.python))} " + '"$@"',
  )
  printed = checkout.run("--dry-run", PYTHON="").stdout
  assert shlex.split(printed.splitlines()[1])[0] == str(
    checkout.bin / "python3.12"
  )


def test_no_python_is_explained(checkout: Checkout):
  for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
    script(
      checkout.bin / name,
      f"exec {shlex.quote(str(checkout.python))} " + '"$@"',
    )
  result = checkout.run(PYTHON="", FAKE_VERSION="3.14")
  assert result.returncode == 2
  assert "Python 3.11, 3.12 or 3.13 is needed and none was found" in (
    result.stderr
  )
  assert "python3.12 is Python 3.14, too new for TensorFlow" in result.stderr
  # Whoever names it has decided.
  assert checkout.run(FAKE_VERSION="3.14").returncode == 0


# --- signals and statuses ----------------------------------------------------


def stop(
  checkout: Checkout, number: signal.Signals, **environment: str
) -> tuple[int, float]:
  """Starts, waits for the fake to wait, sends a signal; status, seconds.

  As from a terminal: what runs in the background, this test perhaps, ignores
  SIGINT from birth, and a shell cannot trap what it was born to ignore.
  """
  with subprocess.Popen(
    checkout.command(),
    env=checkout.environment | environment,
    stderr=subprocess.DEVNULL,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  ) as process:
    waiting = pathlib.Path(f"{checkout.log}.waiting")
    deadline = time.monotonic() + 30
    while not waiting.exists() and time.monotonic() < deadline:
      time.sleep(0.02)
    assert waiting.exists()
    process.send_signal(number)
    start = time.monotonic()
    return process.wait(timeout=30), time.monotonic() - start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_program(checkout: Checkout, number: signal.Signals):
  status, seconds = stop(checkout, number, FAKE_MAIN="wait")
  assert status == 40 + number
  assert seconds < 10


@pytest.mark.parametrize(
  "number, expected", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_end_the_installation(
  checkout: Checkout, number: signal.Signals, expected: int
):
  status, seconds = stop(checkout, number, FAKE_PIP="wait")
  assert status == expected
  assert seconds < 10
  assert checkout.modules() == ["venv", "pip"]
  assert sorted(os.listdir(checkout.venv)) == ["bin"]


@pytest.mark.parametrize(
  "arguments, environment",
  [(["local"], {"FAKE_MAIN": "9"}), (["test"], {"FAKE_PYTEST": "5"})],
)
def test_exit_status_is_the_program_s(
  checkout: Checkout, arguments: list[str], environment: dict[str, str]
):
  result = checkout.run(*arguments, **environment)
  assert [str(result.returncode)] == list(environment.values())

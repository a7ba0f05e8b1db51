#!/usr/bin/env bash
# From a fresh checkout to a running process: makes the environment once, sets
# what has to be set before Python starts, and hands over to Python.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'HELP'
Usage: ./launch.sh [MODE] [OPTION ...] [--] [ARGUMENT ...]

Modes (default: local)
  local   train on this machine with the JAX that PyPI gives it
  gpu     train on this machine's NVIDIA GPUs
  tpu     train on this TPU VM; with TPU_NAME and ZONE set, send the committed
          checkout to that TPU VM, on all its workers, and train there
  slurm   submit a job that trains with one task a GPU
  test    run the tests
  demo    serve trained runs as a web page on this machine: demo RUN, with
          --raw=CORPUS to hear utterances; RUN may hold several (runs)

Arguments go to ser_jax.main (or pytest, or the page). Without --config it trains
configs/ds_lstm.py on the embedded corpus, and without --workdir either, into
runs/ds_lstm_synthetic; --mode=predict and --mode=export take a --workdir alone.
Relative paths start at the checkout.

Options
  --dry-run       print the commands, a script in themselves, and run none
  --install-only  make the environment and stop
  --no-install    use the Python found as it is: no .venv, no pip
  --help          show this text; the program's own is behind: -- --help

Environment
  PYTHON          the Python (3.11 or newer) that makes the environment
  VENV            where the environment lies (.venv; .venv-cuda12 with CUDA=12)
  CUDA            gpu, slurm: which CUDA JAX brings along (13); 12 also runs on
                  older drivers and on Volta
  NODES GPUS CPUS
                  slurm: nodes (1), GPUs a node (1), cores a GPU (8); sbatch
                  itself reads SBATCH_PARTITION, SBATCH_TIMELIMIT, ...
  TPU_NAME ZONE   tpu: the TPU VM to go to through gcloud
  TPU_WORKERS     tpu: hosts of the slice (1)
  XLA_FLAGS, XLA_PYTHON_CLIENT_MEM_FRACTION, JAX_COMPILATION_CACHE_DIR,
  JAX_PLATFORMS, TFDS_DATA_DIR, TF_CPP_MIN_LOG_LEVEL, STREAMLIT_*
                  kept where set; XLA_FLAGS is added to
  With TPU_NAME, these, PYTHON, VENV and every JAX_* go along to the TPU VM.
HELP
}

die() {
  printf 'launch.sh: %s\n' "$*" >&2
  exit 2
}

quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s\n' "${line% }"
}

# The last command takes this process over, so that every signal reaches it and
# its exit status is ours.
hand_over() {
  if [[ $dry_run ]]; then
    quoted cd "$root"
    quoted exec "$@"
  else
    cd "$root"
    exec "$@"
  fi
}

# A command that others follow: signals are passed on, and end the script too.
step() {
  if [[ $dry_run ]]; then
    quoted "$@"
    return
  fi
  local status=0 caught=0 child=''
  # Before the child starts: a signal in between would end the script alone.
  trap 'caught=143; kill -TERM "$child" 2>/dev/null || :' TERM HUP
  trap 'caught=130; kill -TERM "$child" 2>/dev/null || :' INT
  "$@" >&2 &
  child=$!
  ((caught == 0)) || kill -TERM "$child" 2>/dev/null || :
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" || status=$?
  done
  trap - TERM HUP INT
  ((caught == 0)) || exit "$caught"
  return "$status"
}

# --- the environment ---------------------------------------------------------

# Prints what is wrong with a Python, or "ok".
verdict() {
  "$1" -c '
import sys
asked, venv = sys.argv[1:]
version = sys.version_info[:2]
if version < (3, 11):
  print("is Python %d.%d" % version)
elif version > (3, 13) and not asked:
  print("is Python %d.%d, too new for TensorFlow" % version)
else:
  try:
    if venv:
      import ensurepip
    print("ok")
  except ImportError:
    print("lacks ensurepip (on Debian: apt-get install python3-venv)")
' "${PYTHON:-}" "$install" 2>/dev/null || echo "does not run"
}

find_python() {
  local candidate answer rejected=''
  if [[ ${PYTHON:-} ]]; then
    answer=$(verdict "$PYTHON")
    [[ $answer == ok ]] ||
      die "PYTHON=$PYTHON $answer; Python 3.11 or newer is needed."
    command -v "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    answer=$(verdict "$candidate")
    if [[ $answer == ok ]]; then
      command -v "$candidate"
      return
    fi
    rejected+=", $candidate $answer"
  done
  die "Python 3.11, 3.12 or 3.13 is needed and none was found" \
    "(${rejected#, }). Install one and, if it is not on PATH, name it:" \
    "PYTHON=/path/to/python3.12 ./launch.sh"
}

# Sets `python`, making the environment with the extras given unless its stamp
# (pyproject's checksum and the checkout's path, then an extra a line) has them.
prepare() {
  if [[ ! $install ]]; then
    python=$(find_python)
    return
  fi
  python=$venv/bin/python
  local stamp=$venv/ser_jax.stamp key extra extras base had='' missing=yes
  key="$(cksum <"$root/pyproject.toml") $root"
  # Extras installed for another mode stay as long as pyproject does.
  if [[ -f $stamp && $(head -n 1 "$stamp") == "$key" ]]; then
    missing=''
    had=$(tail -n +2 "$stamp")
  fi
  for extra in "$@"; do
    grep -qx "$extra" <<<"$had" || missing=yes
  done
  if [[ ! $missing ]]; then
    echo "launch.sh: $venv is up to date" >&2
    return
  fi

  if ! "$python" -m pip --version >/dev/null 2>&1; then
    base=$(find_python)
    [[ $dry_run ]] || echo "launch.sh: making $venv, once: minutes and 3 GB" >&2
    step "$base" -m venv "$venv" ||
      die "$base could not make $venv: remove what is there and run again."
  fi
  extras=$(printf '%s,' "$@")
  [[ $dry_run ]] || rm -f "$stamp"
  step "$python" -m pip install --no-input --disable-pip-version-check \
    --editable "$root${1+[${extras%,}]}" ||
    die "pip could not install the project; its own message is above." \
      "Without a network, give pip a mirror (PIP_INDEX_URL) or a folder of" \
      "wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=...), or use a Python that has" \
      "the packages already: PYTHON=... ./launch.sh --no-install"
  if [[ ! $dry_run ]]; then
    {
      echo "$key"
      printf '%s\n' "$had" "$@" | sort -u | sed '/^$/d'
    } >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
  fi
}

# --- what Python must find set -----------------------------------------------

exports=''

# Exports a variable, leaving a value that is there already.
setting() {
  [[ ${!1+set} ]] || printf -v "$1" %s "$2"
  export "${1?}"
  exports+="export $(quoted "$1=${!1}")"$'\n'
}

xla_flag() {
  case " ${XLA_FLAGS:-} " in
    *" ${1%%=*}="* | *" ${1%%=*} "*) ;;
    *) XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }$1" ;;
  esac
  setting XLA_FLAGS ''
}

settings() {
  setting TF_CPP_MIN_LOG_LEVEL 2
  setting TFDS_DATA_DIR "$root/shards"
  # pytest counts on compiling afresh.
  [[ $mode != test ]] || return 0
  setting JAX_COMPILATION_CACHE_DIR "$HOME/.cache/ser_jax/xla"
  setting JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS 0
  setting JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES -1
  if [[ $mode == demo ]]; then
    # Whoever reaches the port may upload: only this machine does, unless asked.
    setting STREAMLIT_SERVER_ADDRESS localhost
    setting STREAMLIT_SERVER_MAX_UPLOAD_SIZE 20
    setting STREAMLIT_SERVER_FILE_WATCHER_TYPE none
    setting STREAMLIT_SERVER_HEADLESS true
    setting STREAMLIT_CLIENT_TOOLBAR_MODE viewer
    setting STREAMLIT_BROWSER_GATHER_USAGE_STATS false
  fi
  # A platform that is named must start: no quiet training on the CPU instead.
  [[ $mode != tpu ]] || setting JAX_PLATFORMS tpu,cpu
  if [[ $mode == gpu || $mode == slurm ]]; then
    setting JAX_PLATFORMS cuda,cpu
    setting XLA_PYTHON_CLIENT_MEM_FRACTION 0.9
    xla_flag --xla_gpu_enable_latency_hiding_scheduler=true
  fi
}

# --- modes -------------------------------------------------------------------

# Sets `training`: the user's arguments behind what they leave to us.
training_arguments() {
  local argument before='' config='' workdir=''
  # They take the config of what was trained.
  local trained='(^|=)--?mode=(predict|export)$'
  for argument in "$@"; do
    [[ ! $before=$argument =~ $trained ]] || config=trained
    before=$argument
    case $argument in
      --config | -config | --config=* | -config=*) config=given ;;
      --workdir | -workdir | --workdir=* | -workdir=*) workdir=given ;;
    esac
  done
  training=(-m ser_jax.main)
  if [[ ! $config ]]; then
    training+=(--config=configs/ds_lstm.py)
    [[ $workdir ]] || training+=(--workdir=runs/ds_lstm_synthetic)
  fi
  training+=("$@")
}

# A count from the environment: count NAME VALUE
count() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1=$2 is not a count: give 1 or more."
}

run_here() {
  settings
  [[ ! $dry_run ]] || printf %s "$exports"
  hand_over "$python" "$@"
}

submit() {
  local nodes=${NODES:-1} gpus=${GPUS:-1} cpus=${CPUS:-8} script
  count NODES "$nodes"
  count GPUS "$gpus"
  count CPUS "$cpus"
  ((nodes * gpus == 1)) || training+=(--distributed)
  settings
  # Every task sees the node's GPUs and JAX picks one by SLURM_LOCALID. Slurm
  # requeues what it preempts or loses; what ran out of time asks for itself.
  script="#!/usr/bin/env bash
#SBATCH --job-name=ser_jax
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gpus-per-node=$gpus
#SBATCH --cpus-per-task=$cpus
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/slurm-%j.log
set -euo pipefail
$(quoted cd "$root")
${exports}if [ ! -e /dev/nvidiactl ]; then
  echo \"launch.sh: \$(hostname) has no NVIDIA GPU (/dev/nvidiactl):\" \\
    \"name a partition that has (SBATCH_PARTITION=...).\" >&2
  exit 2
fi
status=0
srun --kill-on-bad-exit=1 --gpu-bind=none --cpus-per-task=$cpus \\
  $(quoted "$python" "${training[@]}") || status=\$?
if [ \"\$status\" -eq 143 ]; then scontrol requeue \"\$SLURM_JOB_ID\"; fi
exit \"\$status\""
  if [[ $dry_run ]]; then
    quoted cd "$root"
    quoted mkdir -p runs
    printf "sbatch <<'JOB'\n%s\nJOB\n" "$script"
    return
  fi
  command -v sbatch >/dev/null ||
    die "sbatch is not on PATH: run this on a login node of the cluster."
  cd "$root"
  mkdir -p runs
  sbatch <<<"$script"
}

# Sends the commit to every host of a TPU VM and trains there.
go_to_tpu() {
  local archive=ser_jax.tar.gz command folders name target
  local environment=(TPU_NAME= "TPU_WORKERS=${TPU_WORKERS:-1}")
  [[ ${ZONE:-} ]] || die "TPU_NAME=$TPU_NAME needs its zone too: ZONE=..."
  target=("--zone=$ZONE" --worker=all)
  for name in PYTHON VENV XLA_FLAGS XLA_PYTHON_CLIENT_MEM_FRACTION \
    TFDS_DATA_DIR TF_CPP_MIN_LOG_LEVEL "${!JAX_@}"; do
    [[ ! ${!name+set} ]] || environment+=("$name=${!name}")
  done
  folders=$(git -C "$root" ls-tree -d --name-only HEAD | tr '\n' ' ')
  command="mkdir -p ser_jax && cd ser_jax && mkdir -p $folders&&"
  # Modules that the commit no longer has could still be imported.
  command+=" find $folders-name '*.py' -delete && tar -xzf ../$archive &&"
  command+=" env $(quoted "${environment[@]}") ./launch.sh tpu"
  command+=" ${remote_options}-- $(quoted "$@")"
  if [[ ! $dry_run ]]; then
    command -v gcloud >/dev/null ||
      die "gcloud is not on PATH: install the Google Cloud SDK, or run" \
        "./launch.sh tpu on the TPU VM itself."
    [[ ! $(git -C "$root" status --porcelain) ]] ||
      die "the checkout has changes that would not be sent: commit them first."
  fi
  archive=$root/runs/$archive
  step mkdir -p "$root/runs"
  step git -C "$root" archive --format=tar.gz "--output=$archive" HEAD
  step gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:" "${target[@]}"
  hand_over gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${target[@]}" \
    "--command=$command"
}

# --- command line ------------------------------------------------------------

# Relative to where the user stands, who may stand anywhere.
absolute() {
  case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
  esac
}

mode='' dry_run='' install=yes install_only='' remote_options='' arguments=()
while (($#)); do
  case $1 in
    --help | -h) usage && exit ;;
    --dry-run) dry_run=yes ;;
    --no-install) install='' remote_options+='--no-install ' ;;
    --install-only) install_only=yes remote_options+='--install-only ' ;;
    --) shift && break ;;
    [!-]*)
      if [[ ! $mode && ${#arguments[@]} -eq 0 ]]; then
        mode=$1
      else
        arguments+=("$1")
      fi
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
# Bash before 4.4 calls an empty array unset.
set -- ${arguments[@]+"${arguments[@]}"} "$@"

[[ ! $dry_run ]] || echo 'set -e'
mode=${mode:-local}
venv=$(absolute "${VENV:-$root/.venv}")
[[ $install || ! $install_only ]] ||
  die "--install-only and --no-install leave nothing to do: give one of them."

extras=()
case $mode in
  local) ;;
  gpu | slurm)
    case ${CUDA:-13} in
      13) extras=(cuda) ;;
      12)
        extras=(cuda12)
        # Where both are installed, which one JAX takes is left to chance.
        [[ ${VENV:-} ]] || venv+=-cuda12
        ;;
      *) die "CUDA=$CUDA is not a CUDA that JAX brings along: give 12 or 13." ;;
    esac
    ;;
  tpu) extras=(tpu) ;;
  test) extras=(dev opensmile demo) ;;
  demo)
    extras=(demo)
    (($#)) || set -- runs
    [[ $install_only || $dry_run || -d $1 ]] ||
      die "there is no folder '$1': name one that a training wrote, or one of" \
        "several, before any option: ./launch.sh demo RUN --raw=CORPUS."
    ;;
  *) die "there is no mode '$mode': give local, gpu, tpu, slurm, test or demo." ;;
esac

if [[ $mode == tpu ]]; then
  count TPU_WORKERS "${TPU_WORKERS:-1}"
  if [[ ${TPU_NAME:-} ]]; then
    go_to_tpu "$@"
    exit
  fi
fi

case ${PYTHON:-} in */*) PYTHON=$(absolute "$PYTHON") ;; esac
prepare ${extras[@]+"${extras[@]}"}
[[ ! $install_only ]] || exit 0
if [[ $mode == test ]]; then
  # Programs compile on one core each: two of them keep two cores busy.
  run_here -m pytest -n auto --dist worksteal "$@"
  exit
fi
if [[ $mode == demo ]]; then
  run_here -m streamlit run ser_jax/demo/app.py -- "$@"
  exit
fi
training_arguments "$@"
if [[ $mode == slurm ]]; then
  submit
else
  # JAX passes over CUDA without a word where the driver has no device.
  [[ $mode != gpu || $dry_run || -e /dev/nvidiactl || -e /dev/dxg ]] ||
    die "there is no NVIDIA GPU here (/dev/nvidiactl): ./launch.sh local" \
      "trains on the CPU, ./launch.sh slurm on a cluster's GPUs."
  [[ $mode != tpu || ${TPU_WORKERS:-1} == 1 ]] || training+=(--distributed)
  run_here "${training[@]}"
fi

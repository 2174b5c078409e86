#!/usr/bin/env bash
# What launch/tpu_vm.sh runs on each worker of a TPU VM.
#
#   launch/tpu_worker.sh install              deft_jax, JAX for TPUs and a Python, into .venv of the checkout
#   launch/tpu_worker.sh run train|sweep|annealing gs://B/RUN --config FILE [--config.field=value ...]
#   launch/tpu_worker.sh stop                 what `run` started saves and ends; returns when it has
#   launch/tpu_worker.sh status
#
#   --dry-run       print the commands, as they come for worker 0 when nothing goes wrong, and run none
#   --help
#
# The workdir is the folder of the bucket itself, which worker 0 alone reads and writes. What a worker prints is in
# ~/deft_jax.log, so that the run goes on where the connection is lost.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

verb=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
      [ -z "$verb" ] || break
      verb=$1
      shift ;;
  esac
done
mine=$HOME/deft_jax.pid  # of the `run` under way
log=$HOME/deft_jax.log

metadata() {
  curl -sf --retry 5 -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

install() {
  cd "$here/.."
  # TPU VMs come with a Python that is too old; uv brings one.
  local uv=$HOME/.local/bin/uv
  if $dry_run || ! [ -x "$uv" ]; then
    perform curl -LsSf https://astral.sh/uv/install.sh -o "$HOME/uv-install.sh"
    perform sh "$HOME/uv-install.sh" --quiet
  fi
  perform "$uv" venv --quiet --allow-existing --python 3.12 .venv
  perform "$uv" pip install --quiet --python .venv/bin/python -e '.[data,gs]' 'jax[tpu]'
}

# Whether a `run` is under way. After a reboot, its number may be that of another process.
under_way() {
  [ -s "$mine" ] && tr '\0' ' ' 2>/dev/null <"/proc/$(<"$mine")/cmdline" | grep -q tpu_worker
}

# A run that is under way gets SIGTERM, and 300 seconds.
stop() {
  local i
  if $dry_run; then perform kill -TERM "$(cat "$mine" 2>/dev/null || echo PID)"; return; fi
  under_way || return 0
  kill -TERM "$(<"$mine")"
  for ((i = 0; i < 300; i++)); do
    under_way || return 0
    sleep 1
  done
  echo "tpu_worker.sh: the run before this one does not end" >&2
  return 1
}

status() {
  if under_way; then echo "$(hostname): running, process $(<"$mine")"; else echo "$(hostname): idle"; fi
}

run() {
  local python=$here/../.venv/bin/python hosts='' training showing status=0
  local work=("$python" -m "deft_jax.$module" --workdir "$bucket" "$@")
  cd "$here/.."
  if $dry_run; then perform "${work[@]}"; return; fi
  hosts=$(metadata worker-network-endpoints) || { echo "tpu_worker.sh: this is no TPU VM: it has no endpoints" >&2; return 1; }
  # A run whose connection was lost still holds the chips.
  stop
  echo $$ >"$mine"
  if [ "$module" = train ] && [[ $hosts == *,* ]]; then export DEFT_JAX_DISTRIBUTED=auto; fi

  trap 'ordered=true' TERM INT HUP
  ordered=false
  "${work[@]}" </dev/null >"$log" 2>&1 &
  training=$!
  tail -n +1 -f --pid "$training" "$log" 2>/dev/null &
  showing=$!
  while kill -0 "$training" 2>/dev/null; do
    if $ordered; then
      kill -TERM "$training" 2>/dev/null || true
      ordered=false
    fi
    sleep 0.5
  done
  wait "$training" || status=$?
  wait "$showing" || true
  rm -f "$mine"
  return "$status"
}

case $verb in
  install | stop | status) "$verb" ;;
  run)
    [ $# -ge 2 ] || fail "run needs a command and a bucket"
    module=$1 bucket=${2%/}
    [[ $bucket == gs://?* ]] || fail "the bucket must be gs://..., got '$bucket'"
    shift 2
    [ $# -ge 1 ] || fail "run needs --config FILE"
    run "$@" ;;
  '') fail "what to do? install, run, stop or status; see --help" ;;
  *) fail "unknown verb '$verb'; known: install, run, stop, status" ;;
esac

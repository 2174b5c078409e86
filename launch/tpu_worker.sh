#!/usr/bin/env bash
# What launch/tpu_vm.sh runs on each worker of a TPU VM.
#
#   launch/tpu_worker.sh install              deft_jax, JAX for TPUs and a Python, into .venv of the checkout
#   launch/tpu_worker.sh run [--every SECONDS] train|sweep|annealing gs://B/RUN --config FILE [--config.field=value ...]
#   launch/tpu_worker.sh stop                 what `run` started saves and ends; returns when it has
#   launch/tpu_worker.sh status
#
#   --dry-run       print the commands, as they come for worker 0 when nothing goes wrong, and run none
#   --help
#
# The run lies in ~/runs/B/RUN on every worker, and what it prints in ~/runs/B/RUN.log, so that it goes on where the
# connection is lost. All begin with what the bucket holds; worker 0 alone copies back. The
# copy is one object, so that whoever reads it finds a whole run even if this machine vanished while it was written.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

every=600 verb=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --every) need_value "$1" $#; whole_number "$1" "$2" 1; every=$2; shift 2 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
      [ -z "$verb" ] || break
      verb=$1
      shift ;;
  esac
done
mine=$HOME/deft_jax.pid  # of the `run` under way

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
  perform "$uv" pip install --quiet --python .venv/bin/python -e '.[data]' 'jax[tpu]'
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

# The run of the bucket, in place of what is here.
pull() {
  local listed
  if $dry_run; then
    perform gcloud storage ls "$bucket/run.tar"
  elif ! listed=$(gcloud storage ls "$bucket/run.tar" 2>&1); then
    # Only where there is none yet may the run begin anew: a bucket that cannot be read may hold one.
    [[ $listed == *"matched no objects"* ]] && return
    echo "$listed" >&2
    return 1
  fi
  perform gcloud storage cp "$bucket/run.tar" "$folder.tar"
  perform rm -rf "$folder.before"
  perform mv "$folder" "$folder.before"
  perform mkdir -p "$folder"
  perform tar -xf "$folder.tar" -C "$folder"
}

# The folders of whole checkpoints: orbax gives them their number when they are.
checkpoints() {
  (cd "$folder" && find . -type d -regex '.*/checkpoints/[0-9]+' | sort)
}

# The run, to the bucket. Archived again where a checkpoint came or went meanwhile: it could lack both.
push() {
  local before i
  for ((i = 0; i < 5; i++)); do
    before=$(checkpoints)
    # Status 1: a file grew while it was read.
    tar -C "$folder" --exclude '*orbax-checkpoint-tmp*' -cf "$folder.tar" . 2>/dev/null || [ $? -eq 1 ] || continue
    [ "$before" = "$(checkpoints)" ] || continue
    gcloud storage cp "$folder.tar" "$bucket/run.tar"
    return
  done
  echo "tpu_worker.sh: cannot archive $folder" >&2
  return 1
}

run() {
  local python=$here/../.venv/bin/python worker=0 hosts='' training showing copying='' copied status=0
  folder=$HOME/runs/${bucket#gs://}
  local work=("$python" -m "deft_jax.$module" --workdir "$folder" "$@")
  cd "$here/.."
  if $dry_run; then
    perform mkdir -p "$folder"
    pull
    perform "${work[@]}"
    perform tar -C "$folder" --exclude '*orbax-checkpoint-tmp*' -cf "$folder.tar" .
    perform gcloud storage cp "$folder.tar" "$bucket/run.tar"
    return
  fi
  worker=$(metadata agent-worker-number) || { echo "tpu_worker.sh: this is no TPU VM: it has no worker number" >&2; return 1; }
  hosts=$(metadata worker-network-endpoints)
  # A run whose connection was lost still holds the chips.
  stop
  echo $$ >"$mine"
  mkdir -p "$folder"
  pull
  if [ "$module" = train ] && [[ $hosts == *,* ]]; then export DEFT_JAX_DISTRIBUTED=auto; fi

  trap 'ordered=true' TERM INT HUP
  ordered=false
  "${work[@]}" </dev/null >"$folder.log" 2>&1 &
  training=$!
  tail -n +1 -f --pid "$training" "$folder.log" 2>/dev/null &
  showing=$!
  copied=$SECONDS
  while kill -0 "$training" 2>/dev/null; do
    if $ordered; then
      kill -TERM "$training" 2>/dev/null || true
      ordered=false
    fi
    if [ "$worker" -eq 0 ] && [ $((SECONDS - copied)) -ge "$every" ] && ! kill -0 "${copying:-x}" 2>/dev/null; then
      push &
      copying=$!
      copied=$SECONDS
    fi
    sleep 0.5
  done
  wait "$training" || status=$?
  wait "$showing" || true
  if [ "$worker" -eq 0 ]; then
    # Not to be overtaken by a copy that began before.
    [ -z "$copying" ] || wait "$copying" || true
    push || { [ "$status" -ne 0 ] || status=1; }
  fi
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

#!/usr/bin/env bash
# Train on a Cloud TPU VM (v2 to v6e), one host or a slice of several; the run lives in a bucket and outlasts the VM.
#
#   launch/tpu_vm.sh job NAME --zone Z --type T --bucket gs://B/RUN [options] -- --config configs/X.py [...]
#       create, install, run, fetch (with --to) and delete; after a preemption the VM is created again and the run resumed
#   launch/tpu_vm.sh create  NAME --zone Z --type T [--spot] [--queued]
#   launch/tpu_vm.sh install NAME --zone Z
#       copies this checkout, as it stands, to every worker and installs it there
#   launch/tpu_vm.sh run     NAME --zone Z --bucket gs://B/RUN -- --config configs/X.py [--config.field=value ...]
#       on every worker; the bucket is the workdir: the run goes on from what it holds, and is there at each checkpoint
#   launch/tpu_vm.sh stop    NAME --zone Z              the training saves and ends
#   launch/tpu_vm.sh status  NAME --zone Z [--queued]
#   launch/tpu_vm.sh fetch   --bucket gs://B/RUN --to DIR
#   launch/tpu_vm.sh delete  NAME --zone Z [--queued]
#
#   --zone Z, --type T   such as us-central2-b and v4-32
#   --spot           a spot VM, cheaper, which may be taken away at any time
#   --queued         ask through queued resources, which wait until there is capacity (--hours 24 at most)
#   --version V      runtime (default: the one of the type)
#   --create-flag F  one more flag for the creation, such as --create-flag --network=NET; may be repeated
#   --bucket URL     the workdir of the run
#   --command C      train (the default), sweep or annealing; the latter two on slices of one host
#   --to DIR         where fetch puts a copy of the run
#   --restarts N     how often job begins again after preemptions and lost connections (100)
#   --poll SECONDS   between two looks at the state (30)
#   --keep           job does not delete the VM at its end
#   --dry-run        print the commands, as they come when nothing goes wrong, and run none
#   --help
#
# job ends with the status of the training, and deletes the VM whatever that is; Ctrl-C stops the training first.
# The VM's service account must be allowed to write to the bucket.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

zone='' type='' bucket='' version='' to='' module=train restarts=100 poll=30 hours=24
spot=false queued=false keep=false creation=() arguments=() name='' verb=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --spot) spot=true; shift ;;
    --queued) queued=true; shift ;;
    --keep) keep=true; shift ;;
    --zone) need_value "$1" $#; zone=$2; shift 2 ;;
    --type) need_value "$1" $#; type=$2; shift 2 ;;
    --version) need_value "$1" $#; version=$2; shift 2 ;;
    --create-flag) need_value "$1" $#; creation+=("$2"); shift 2 ;;
    --bucket) need_value "$1" $#; bucket=${2%/}; shift 2 ;;
    --command) need_value "$1" $#; module=$2; shift 2 ;;
    --to) need_value "$1" $#; to=$2; shift 2 ;;
    --restarts) need_value "$1" $#; whole_number "$1" "$2"; restarts=$2; shift 2 ;;
    --poll) need_value "$1" $#; whole_number "$1" "$2"; poll=$2; shift 2 ;;
    --hours) need_value "$1" $#; whole_number "$1" "$2" 1; hours=$2; shift 2 ;;
    --) shift; arguments=("$@"); break ;;
    -*) fail "unknown option '$1'; what is meant for deft_jax follows --" ;;
    *)
      if [ -z "$verb" ]; then verb=$1
      elif [ -z "$name" ]; then name=$1
      else fail "unexpected argument '$1'; what is meant for deft_jax follows --"; fi
      shift ;;
  esac
done

# ---- what each verb needs ----

need() {
  local option
  for option in "$@"; do
    case $option in
      name) [ -n "$name" ] || fail "$verb needs the name of the VM" ;;
      zone) [ -n "$zone" ] || fail "$verb needs --zone" ;;
      type) [ -n "$type" ] || fail "$verb needs --type" ;;
      to) [ -n "$to" ] || fail "$verb needs --to" ;;
      bucket) [[ $bucket == gs://?* ]] || fail "$verb needs --bucket gs://..., got '$bucket'" ;;
      arguments)
        [ "${#arguments[@]}" -gt 0 ] || fail "$verb needs -- --config FILE"
        [[ " ${arguments[*]}" != *" --workdir"* ]] || fail "no --workdir: that is --bucket" ;;
    esac
  done
}
case $verb in
  create) need name zone type ;;
  install | stop | status | delete) need name zone ;;
  run) need name zone bucket arguments ;;
  fetch) need bucket to ;;
  job) need name zone type bucket arguments ;;
  '') fail "what to do? create, install, run, stop, status, fetch, delete or job; see --help" ;;
  *) fail "unknown verb '$verb'; known: create, install, run, stop, status, fetch, delete, job" ;;
esac
case $module in
  train | sweep | annealing) ;;
  *) fail "unknown --command '$module'; known: train, sweep, annealing" ;;
esac
if [ -z "$version" ]; then
  case $type in
    v6e-*) version=v2-alpha-tpuv6e ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    *) version=tpu-ubuntu2204-base ;;
  esac
fi

# ---- the verbs ----

vm=(gcloud compute tpus tpu-vm)
queue=(gcloud compute tpus queued-resources)

# Sets state: READY; NONE, if there is no such VM or request; UNKNOWN, if that is not known; or the state that the
# service reports, such as PREEMPTED. A dry run takes $1 for the answer.
look() {
  local command
  if $queued; then
    command=("${queue[@]}" describe "$name" --zone "$zone" '--format=value(state.state)')
  else
    command=("${vm[@]}" describe "$name" --zone "$zone" '--format=value(state)')
  fi
  if $dry_run; then
    perform "${command[@]}"
    state=$1
  elif ! state=$("${command[@]}" 2>&1); then
    case $state in
      *NOT_FOUND* | *"not found"*) state=NONE ;;
      *) echo "$state" >&2; state=UNKNOWN ;;
    esac
  fi
  [ "$state" != ACTIVE ] || state=READY  # so queued resources call it
}

create() {
  local tier=() deadline
  $spot && tier=(--spot)
  if ! $queued; then
    perform "${vm[@]}" create "$name" --zone "$zone" --accelerator-type "$type" --version "$version" \
      "${tier[@]}" "${creation[@]}" --quiet
    return
  fi
  perform "${queue[@]}" create "$name" --node-id "$name" --zone "$zone" --accelerator-type "$type" \
    --runtime-version "$version" "${tier[@]}" "${creation[@]}" --quiet || return
  deadline=$((SECONDS + hours * 3600))
  while look READY; [ "$state" != READY ]; do
    case $state in
      FAILED | SUSPENDING | SUSPENDED | NONE) echo "tpu_vm.sh: the request for $name is $state" >&2; return 1 ;;
    esac
    [ "$SECONDS" -lt "$deadline" ] || { echo "tpu_vm.sh: no capacity for $name in $hours hours" >&2; return 1; }
    sleep "$poll"
  done
}

delete() {
  if $queued; then
    perform "${queue[@]}" delete "$name" --zone "$zone" --force --quiet
  else
    perform "${vm[@]}" delete "$name" --zone "$zone" --quiet
  fi
}

# everywhere WORD ...: the words, run by the shell of every worker.
everywhere() {
  perform "${vm[@]}" ssh "$name" --zone "$zone" --worker=all --quiet --command "$(quoted "$@")"
}

install() {
  local root archive
  root=$(dirname "$here")
  archive=$root/build/deft_jax-$name.tar.gz
  perform mkdir -p "$root/build" || return
  # What is committed and what is not yet, but not what git ignores: runs, virtual environments.
  # shellcheck disable=SC2016
  perform bash -o pipefail -c 'cd "$1" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -czf "$2" -T -' \
    archive "$root" "$archive" || return
  perform "${vm[@]}" scp "$archive" "$name:deft_jax.tar.gz" --zone "$zone" --worker=all --quiet || return
  everywhere bash -c 'mkdir -p deft_jax && tar -xzf deft_jax.tar.gz -C deft_jax && bash deft_jax/launch/tpu_worker.sh install'
}

run() {
  everywhere bash deft_jax/launch/tpu_worker.sh run "$module" "$bucket" "${arguments[@]}"
}

stop() {
  everywhere bash deft_jax/launch/tpu_worker.sh stop
}

status() {
  if $queued; then perform "${queue[@]}" describe "$name" --zone "$zone" || return; fi
  perform "${vm[@]}" describe "$name" --zone "$zone" || return
  everywhere bash deft_jax/launch/tpu_worker.sh status
}

fetch() {
  perform mkdir -p "$to" || return
  perform gcloud storage rsync --recursive '--exclude=(.*/)?\.lock$' "$bucket" "$to"
}

# ---- the job ----

# The VM is there and ready, whatever was before. A dry run takes it that none is there.
make_ready() {
  look NONE
  case $state in
    READY) return ;;
    NONE) ;;
    UNKNOWN) return 1 ;;
    *)
      echo "tpu_vm.sh: $name is $state; making it anew" >&2
      delete || return ;;
  esac
  create || return
  installed=false
}

# In the background: while a command runs in front, a shell does not act on a signal.
run_watched() {
  if $dry_run; then run; return; fi
  run &
  wait "$!"
}

job() {
  local begun=0 result=0 running=false
  installed=false
  if ! $dry_run && ! $keep; then
    trap clean_up EXIT
    # Ends the job by way of `clean_up`.
    trap 'exit 143' TERM HUP
    trap 'exit 130' INT
  fi
  for ((; begun <= restarts; begun++)); do
    [ "$begun" -eq 0 ] || { echo "tpu_vm.sh: beginning again, $begun of $restarts" >&2; sleep "$poll"; }
    result=0
    if ! make_ready; then
      result=1
      # A first creation that fails is a wrong request. Later failures are a temporary lack of capacity.
      if $running; then continue; else break; fi
    fi
    running=true
    if ! $installed; then install || result=$?; fi
    if [ "$result" -eq 0 ]; then
      installed=true
      run_watched || result=$?
    fi
    [ "$result" -ne 0 ] || break
    # A preempted VM takes the connection with it before the service reports PREEMPTED.
    for _ in 1 2 3; do
      look READY
      [ "$state" = READY ] || break
      sleep "$poll"
    done
    # On a VM that is well: 255 is a lost connection, 143 a training that was stopped by a signal. Anything else is a fault of the training.
    [ "$state" != READY ] || [ "$result" -eq 143 ] || [ "$result" -eq 255 ] || break
  done
  if [ "$result" -eq 0 ] && [ -n "$to" ]; then fetch || result=$?; fi
  if $dry_run && ! $keep; then delete; fi
  finished=true
  return "$result"
}

finished=false
clean_up() {
  local result=$?
  # A second Ctrl-C ends the command in front, and what is left here goes on.
  trap : INT TERM HUP
  if ! $finished; then stop || true; fi
  delete || echo "tpu_vm.sh: $name in $zone may still be there, and cost" >&2
  exit "$result"
}

"$verb"

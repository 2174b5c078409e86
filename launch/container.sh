#!/usr/bin/env bash
# Build deft_jax into a container, and train in it.
#
#   launch/container.sh [options] build
#   launch/container.sh [options] train CONFIG WORKDIR [--config.field=value ...]
#   launch/container.sh [options] sweep STUDY WORKDIR [--jobs N] [--config.field=value ...]
#   launch/container.sh [options] annealing CONFIG WORKDIR [--config.field=value ...]
#
# configs/ and WORKDIR are those of this host, and the run belongs to who started it. Stopping the container makes the
# training save; the same command resumes.
#
#   --jax EXTRA     cpu (the default), cuda12, cuda13 or tpu: for what JAX is installed, and which devices are handed in
#   --engine E      docker or podman (the one that is there, docker if both are)
#   --flag F        one more flag for the engine, such as --flag --shm-size=8g; may be repeated
#   --dry-run       print the command and run none
#   --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

jax=cpu engine='' flags=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --jax) need_value "$1" $#; jax=$2; shift 2 ;;
    --engine) need_value "$1" $#; engine=$2; shift 2 ;;
    --flag) need_value "$1" $#; flags+=("$2"); shift 2 ;;
    -*) fail "unknown option '$1' before the verb; see --help" ;;
    *) break ;;
  esac
done
case $jax in
  cpu | cuda12 | cuda13 | tpu) ;;
  *) fail "unknown --jax '$jax'; known: cpu, cuda12, cuda13, tpu" ;;
esac
if [ -z "$engine" ]; then
  engine=docker
  if ! command -v docker >/dev/null && command -v podman >/dev/null; then engine=podman; fi
fi
case $engine in
  docker | podman) ;;
  *) fail "unknown --engine '$engine'; known: docker, podman" ;;
esac
[ $# -ge 1 ] || fail "what to do? build, train, sweep or annealing; see --help"
verb=$1
shift
case $verb in
  build)
    [ $# -eq 0 ] || fail "build takes no arguments, got '$1'"
    perform "$engine" build --file "$here/Containerfile" --build-arg "JAX=$jax" --tag "deft_jax:$jax" "${flags[@]}" "$root"
    exit ;;
  train | sweep | annealing) ;;
  *) fail "unknown verb '$verb'; known: build, train, sweep, annealing" ;;
esac
[ $# -ge 2 ] || fail "$verb needs a config and a workdir"
config=$1 workdir=$2
shift 2
case $config in
  "$root"/configs/*) config=${config#"$root"/} ;;
  configs/* | ./configs/*) ;;
  *) fail "the config must lie in configs/ of the checkout, got '$config'" ;;
esac
[[ $workdir == /* ]] || workdir=$PWD/$workdir
[[ $workdir != *:* ]] || fail "the workdir must have no colon, which the engine takes for its own, got '$workdir'"

# --init passes signals on, and ends what the training leaves behind. Two minutes to save, instead of ten seconds.
command=("$engine" run --rm --init --stop-timeout 120 --volume "$root/configs:/deft_jax/configs:ro" --volume "$workdir:/runs")
if [ "$engine" = docker ]; then
  command+=(--user "$(id -u):$(id -g)")
else
  command+=(--userns keep-id)
fi
case $jax-$engine in
  cuda*-docker) command+=(--gpus all) ;;
  cuda*-podman) command+=(--device nvidia.com/gpu=all --security-opt label=disable) ;;
  tpu-*) command+=(--privileged --network host) ;;
esac
command+=("${flags[@]}" --entrypoint python "deft_jax:$jax" -m "deft_jax.$verb" --config "$config" --workdir /runs "$@")
# Made here: the engine would make it as root.
perform mkdir -p "$workdir"
perform "${command[@]}"

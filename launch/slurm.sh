#!/usr/bin/env bash
# Submit training to SLURM. Paths are taken from the root of the checkout.
#
#   launch/slurm.sh [options] train CONFIG WORKDIR [--config.field=value ...]
#       one run; with --nodes above 1 its nodes share each batch, one process a node
#   launch/slurm.sh [options] grid CONFIG[,CONFIG...] WORKDIR [--config.field=value ...]
#       an array: every config with every seed of --seeds, each run in WORKDIR/NAME/seed_S
#   launch/slurm.sh [options] sweep STUDY WORKDIR [--jobs N] [--config.field=value ...]
#       one study; with --nodes above 1 as a cluster of Dask, with one worker for each GPU, or for each core without any
#
# Before its time limit, and when it is preempted, a job is sent SIGTERM, saves, and goes back into the queue; it then
# resumes from what it saved. WORKDIR must be seen by all nodes, or be in a bucket.
#
#   --nodes N       nodes of a run, or of a sweep (1)
#   --gpus N        GPUs of each node (1; 0 for none)
#   --cpus N        cores of each node (4)
#   --time LIMIT    as SLURM writes it (04:00:00)
#   --seeds LIST    of a grid, such as 0-4 or 0,3,8-9 (0)
#   --at-most N     tasks of the array that run at the same time (all)
#   --sbatch FLAG   one more flag for sbatch, such as --sbatch --partition=gpu; may be repeated
#   --python PATH   the interpreter (.venv/bin/python of the checkout if there is one, else python)
#   --dry-run       print the command and run none
#   --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

nodes=1 gpus=1 cpus=4 time=04:00:00 seeds=0 at_most='' python='' more=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --nodes) need_value "$1" $#; whole_number "$1" "$2" 1; nodes=$2; shift 2 ;;
    --gpus) need_value "$1" $#; whole_number "$1" "$2"; gpus=$2; shift 2 ;;
    --cpus) need_value "$1" $#; whole_number "$1" "$2" 1; cpus=$2; shift 2 ;;
    --time) need_value "$1" $#; time=$2; shift 2 ;;
    --seeds) need_value "$1" $#; seeds=$2; shift 2 ;;
    --at-most) need_value "$1" $#; whole_number "$1" "$2" 1; at_most=%$2; shift 2 ;;
    --sbatch) need_value "$1" $#; more+=("$2"); shift 2 ;;
    --python) need_value "$1" $#; python=$2; shift 2 ;;
    -*) fail "unknown option '$1' before the verb; see --help" ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || fail "what to submit? train, grid or sweep; see --help"
verb=$1
case $verb in
  train | grid | sweep) ;;
  *) fail "unknown verb '$verb'; known: train, grid, sweep" ;;
esac
[ $# -ge 3 ] || fail "$verb needs a config and a workdir"
config=$2 workdir=$3
shift 3
root=$(dirname "$here")
# What can be refused here is refused now, and not after hours in the queue.
configs=("$config")
[ "$verb" != grid ] || IFS=, read -ra configs <<<"$config"
names=,
for each in "${configs[@]}"; do
  file=${each%%:*} name=${each##*/}
  [ -n "$file" ] && [ -f "$(cd "$root" && realpath -m -- "$file")" ] || fail "there is no config '$each' (paths are taken from $root)"
  [[ $names != *",${name%.py},"* ]] || fail "two configs of a grid are called '${name%.py}', and would share their workdirs"
  names+=${name%.py},
done
[ -n "$workdir" ] || fail "the workdir is empty"
if [[ $workdir != *:/* ]]; then
  place=$(cd "$root" && realpath -m -- "$workdir")
  [ ! -e "$place" ] || { [ -d "$place" ] && [ -w "$place" ]; } || fail "the workdir $place is no folder that can be written to"
fi
[ "$verb" != sweep ] || [ "$nodes" -eq 1 ] || [[ $workdir != *:/* ]] || fail "a sweep on several nodes needs a folder that all see, got '$workdir'"
[ -n "$python" ] || python=$(default_python "$root")

# count_of LIST: how many numbers 0,3,8-9 stands for.
count_of() {
  local part count=0 parts
  [[ $1 =~ ^[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*$ ]] || fail "--seeds must look like 0-4 or 0,3,8-9, got '$1'"
  IFS=, read -ra parts <<<"$1"
  for part in "${parts[@]}"; do
    [ "$((10#${part%-*}))" -le "$((10#${part#*-}))" ] || fail "--seeds: $part runs backwards"
    count=$((count + 10#${part#*-} - 10#${part%-*} + 1))
  done
  echo "$count"
}

flags=(--job-name "deft_jax-$verb" --nodes "$nodes" --cpus-per-task "$cpus" --time "$time")
[ "$gpus" -eq 0 ] || flags+=(--gpus-per-node "$gpus")
job=(--python "$python")
if [ "$verb" = grid ]; then
  number=$(count_of "$seeds")
  flags+=(--array "0-$((${#configs[@]} * number - 1))$at_most")
  job+=(--seeds "$seeds")
fi
perform sbatch "${flags[@]}" "${more[@]}" --chdir "$root" "$here/slurm_job.sh" \
  "${job[@]}" "$verb" "$config" "$workdir" "$@"

#!/usr/bin/env bash
# What a SLURM job of deft_jax runs. launch/slurm.sh submits it; by hand, from the root of the checkout:
#
#   sbatch [flags of sbatch] launch/slurm_job.sh train CONFIG WORKDIR [--config.field=value ...]
#   sbatch --array=0-5 launch/slurm_job.sh --seeds 0-2 grid CONFIG,CONFIG WORKDIR [--config.field=value ...]
#   sbatch --nodes=3 launch/slurm_job.sh sweep STUDY WORKDIR [--config.field=value ...]
#
#   --seeds LIST    of a grid, such as 0-4 or 0,3,8-9 (0); the array counts through them, config by config
#   --python PATH   the interpreter (.venv/bin/python if there is one, else python)
#   --dry-run       print the command of this task and run none
#   --help
#
# SIGTERM (120 s before the time limit, or at a preemption) makes the training save and end with status 143; the job
# then goes back into the queue, unless it was cancelled, and the same command resumes. A job that has saved nothing new
# within its time limit ends, as it would for ever.

#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail
# SLURM runs a copy of this file from a folder of its own, so that nothing beside it can be read.
fail() {
  echo "slurm_job.sh: $*" >&2
  exit 2
}

dry_run=false seeds=0 python=python
[ ! -x .venv/bin/python ] || python=.venv/bin/python
while [ $# -gt 0 ]; do
  case $1 in
    --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --seeds) [ $# -ge 2 ] || fail "$1 needs a value"; seeds=$2; shift 2 ;;
    --python) [ $# -ge 2 ] || fail "$1 needs a value"; python=$2; shift 2 ;;
    -*) fail "unknown option '$1' before the verb; see --help" ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || fail "what to run? train, grid or sweep; see --help"
verb=$1
[ $# -ge 3 ] || fail "$verb needs a config and a workdir"
config=$2 workdir=$3
shift 3

nodes=${SLURM_JOB_NUM_NODES:-1}
cpus=${SLURM_CPUS_PER_TASK:-4}
# A step does not take the cores over from the job by itself. After the first process has ended the others have two
# minutes to save; they are not ended at once where the first ended with a status other than 0.
step=(srun --nodes "$nodes" --ntasks-per-node 1 --cpus-per-task "$cpus" --wait 120 --kill-on-bad-exit=0)
case $verb in
  train) work=(deft_jax.train --config "$config" --workdir "$workdir") ;;
  sweep) work=(deft_jax.sweep --config "$config" --workdir "$workdir") ;;
  grid)
    [[ ${SLURM_ARRAY_TASK_ID:-} =~ ^[0-9]+$ ]] || fail "grid runs as an array: SLURM_ARRAY_TASK_ID is not set"
    IFS=, read -ra configs <<<"$config"
    numbers=()
    IFS=, read -ra parts <<<"$seeds"
    for part in "${parts[@]}"; do
      mapfile -t -O "${#numbers[@]}" numbers < <(seq "${part%-*}" "${part#*-}")
    done
    [ "${#numbers[@]}" -gt 0 ] || fail "no seeds in '$seeds'"
    [ "$SLURM_ARRAY_TASK_ID" -lt $((${#configs[@]} * ${#numbers[@]})) ] ||
      fail "task $SLURM_ARRAY_TASK_ID of a grid of ${#configs[@]} x ${#numbers[@]}"
    config=${configs[SLURM_ARRAY_TASK_ID / ${#numbers[@]}]}
    seed=${numbers[SLURM_ARRAY_TASK_ID % ${#numbers[@]}]}
    name=${config##*/}
    workdir=$workdir/${name%.py}/seed_$seed
    work=(deft_jax.train --config "$config" --workdir "$workdir" "--config.seed=$seed")
    ;;
  *) fail "unknown verb '$verb'; known: train, grid, sweep" ;;
esac
# beside COMMAND...: runs it while the step runs.
beside() {
  if $dry_run; then echo "${*@Q} &"; else "$@" & fi
}
if [ "$verb" = sweep ] && [ "$nodes" -gt 1 ]; then
  file=$workdir/scheduler.json gpus=${SLURM_GPUS_ON_NODE:-0} each=$cpus share=(--cpus-per-task 1) resources=()
  if [ "$gpus" -gt 0 ]; then
    each=$gpus share=(--cpus-per-task "$((cpus > gpus ? cpus / gpus : 1))" --gpus-per-task 1) resources=(--resources GPU=1)
  fi
  step=(srun --overlap --nodes 1 --ntasks 1)
  $dry_run || mkdir -p "$workdir"
  $dry_run || rm -f "$file" # of an earlier job
  trap 'jobs -p | xargs -r kill 2>/dev/null' EXIT
  beside "${step[@]}" "$python" -m dask scheduler --scheduler-file "$file" --port 0 --no-dashboard
  # They outlive SIGTERM: the sweep receives it too, and stops the runs.
  beside srun --overlap --nodes "$nodes" --ntasks-per-node "$each" "${share[@]}" --kill-on-bad-exit=0 \
    "$python" -m dask worker --scheduler-file "$file" --nthreads 1 --no-dashboard "${resources[@]}" \
    --preload deft_jax.studies.worker_signals
  step+=(env JAX_PLATFORMS=cpu) # it only checks the study, and leaves the devices to the workers
  work+=(--scheduler "$file" "${resources[@]}")
elif [ "$nodes" -gt 1 ]; then
  step+=(env DEFT_JAX_DISTRIBUTED=auto)
  # Under SLURM, JAX takes one process for each GPU for granted; here one process has all GPUs of its node.
  [ "${SLURM_GPUS_ON_NODE:-0}" -eq 0 ] || step+=("JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 $((SLURM_GPUS_ON_NODE - 1)))")
fi
step+=("$python" -m "${work[@]}" "$@")
if $dry_run; then
  echo "${step[*]@Q}"
  exit 0
fi

# saved: what there is of checkpoints and results; where a bucket cannot be read, a text that never comes again. A
# bucket that does not answer must not use up the two minutes in which the job goes back into the queue.
saved() {
  local list='import sys; from deft_jax.runtime import buckets; print(*buckets.saved_names(sys.argv[1], "WORKDIR"))'
  local kinds=(-path '*/checkpoints/*' -prune -o -name results.json -o -name run.json)
  if [[ $workdir == *:/* ]]; then
    timeout 30 "$python" -c "$list" "$workdir" 2>/dev/null || echo "unknown at $(date +%s%N)"
  else
    find "$workdir" \( "${kinds[@]}" \) -print 2>/dev/null | sort || true
  fi
}
before=$(saved)

"${step[@]}" &
running=$!
# SLURM signals the processes of the step itself; this is for those who signal the batch script alone. A srun that is sent
# SIGTERM kills the step at once.
if [ -n "${SLURM_JOB_ID:-}" ]; then
  trap 'scancel --quiet --signal=TERM "$SLURM_JOB_ID" || true' TERM
else
  trap 'kill -TERM "$running"' TERM
fi
status=0
wait "$running" || status=$?
# A wait returns as soon as a signal comes; the next one returns when the step has ended.
while kill -0 "$running" 2>/dev/null; do
  status=0
  wait "$running" || status=$?
done
if [ "$status" -eq 143 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  id=$SLURM_JOB_ID
  [ -z "${SLURM_ARRAY_JOB_ID:-}" ] || id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  # scancel sends SIGTERM as well: a job that somebody cancelled is no longer RUNNING, and is not to come back.
  shown=$(scontrol show job "$id" || true)
  if [[ $shown == *JobState=RUNNING* ]]; then
    # Minutes and seconds of its time limit; at a preemption there is more, and the job has to come back.
    left=$(squeue --noheader --jobs "$id" --format %L || true)
    if [[ $left =~ ^\ *[0-3]:[0-9]{2}$ && $(saved) == "$before" ]]; then
      fail "nothing new was saved before the time limit, and would not be in the next job: submit with a longer --time"
    fi
    scontrol requeue "$id" && exit 0
    echo "slurm_job.sh: cannot requeue $id; submit the same command again to resume" >&2
  fi
fi
exit "$status"

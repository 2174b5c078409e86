#!/usr/bin/env bash
# Train on one node of a SLURM cluster. Submit from the root of the checkout, with deft_jax installed in .venv:
#
#   sbatch launch/slurm.sh configs/dsprites_deft.py runs/dsprites_deft [--config.field=value ...]
#
# Two minutes before its time limit the job receives SIGTERM, saves, and puts itself back into the queue; it then goes
# on from the step it saved. All GPUs of the node share each batch.
#SBATCH --job-name=deft_jax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: sbatch launch/slurm.sh CONFIG WORKDIR [--config.field=value ...]" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2

.venv/bin/python -m deft_jax.train --config "$config" --workdir "$workdir" "$@" &
training=$!
trap 'kill -TERM "$training"' TERM
# The first wait returns as soon as the signal comes, the second when the training has saved.
status=0
wait "$training" || status=$?
if kill -0 "$training" 2>/dev/null; then
  status=0
  wait "$training" || status=$?
fi
if [ "$status" -eq 143 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"

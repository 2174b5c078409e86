#!/usr/bin/env bash
# Train on a TPU VM of one host, as a batch job: make the VM, install, train, copy the run to a bucket, delete the VM.
#
#   launch/tpu_vm.sh NAME ZONE TYPE CONFIG BUCKET [--config.field=value ...]
#   launch/tpu_vm.sh deft-0 us-central2-b v4-8 configs/dsprites_deft.py gs://my-bucket/deft-0
#
# The batch is shared over the host's chips by pmap. The workdir is copied to BUCKET every ten minutes and at the end,
# and from it at the start: the same command after a preemption goes on where the last copy stood.
set -euo pipefail
if [ $# -lt 5 ]; then
  echo "usage: launch/tpu_vm.sh NAME ZONE TYPE CONFIG BUCKET [--config.field=value ...]" >&2
  exit 2
fi
name=$1 zone=$2 type=$3 config=$4 bucket=$5
shift 5
overrides=$(printf ' %q' "$@")

gcloud compute tpus tpu-vm create "$name" --zone "$zone" --accelerator-type "$type" \
  --version "${TPU_VERSION:-tpu-ubuntu2204-base}" ${SPOT:+--spot}
trap 'gcloud compute tpus tpu-vm delete "$name" --zone "$zone" --quiet' EXIT

git archive --format=tar.gz -o /tmp/deft_jax.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/deft_jax.tar.gz "$name": --zone "$zone"
gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --command "
  set -e
  mkdir -p deft_jax run && tar -xzf deft_jax.tar.gz -C deft_jax && cd deft_jax
  python3 -m venv .venv && .venv/bin/pip install -q -e . 'jax[tpu]'
  gcloud storage rsync -r '$bucket' ../run || true
  (while sleep 600; do gcloud storage rsync -r ../run '$bucket'; done) & copier=\$!
  status=0
  .venv/bin/python -m deft_jax.train --config '$config' --workdir ../run$overrides || status=\$?
  kill \$copier
  gcloud storage rsync -r ../run '$bucket'
  exit \$status"

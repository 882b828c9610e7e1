#!/bin/bash
# A run as a job of Slurm, in the workspace on the shared file system: sbatch deploy/slurm.sh
# Two minutes before its time is over it gets SIGTERM, ends what it started, and is queued again: the next one goes on from the last checkpoint.
#SBATCH --job-name=ratchet
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:1
#SBATCH --mem=64G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?}"
source .venv/bin/activate
export RATCHET_CORES="${SLURM_CPUS_PER_TASK:?}"

stopped=
run=
trap 'stopped=1; [ -z "$run" ] || kill -TERM "$run"' TERM
ratchet run &
run=$!
[ -z "$stopped" ] || kill -TERM "$run" # the signal came before it had a number
code=0
wait "$run" || code=$?
if [ -n "$stopped" ]; then
  wait "$run" || true # the first wait ended with the signal, and the run takes a moment to close its records
  scontrol requeue "${SLURM_JOB_ID:?}"
  exit 0
fi
exit "$code"

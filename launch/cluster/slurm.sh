#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, with one process per GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 \
#     launch/cluster/slurm.sh --config configs/pretrain/bert_large_lamb.py \
#     --workdir /shared/runs/large
#
# The flags are those of `bert-jax train`. The workdir, the corpus and .venv are
# on a file system that all nodes share; create .venv beforehand and run
# `pip install -e '.[cuda]'` in it. JAX finds the processes by the variables of
# Slurm. Near the time limit Slurm sends SIGTERM: the run saves a checkpoint and
# exits with code 75. The job is queued again then, and after a lost node, until
# the run is finished.
#SBATCH --job-name=bert
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
set -uo pipefail
source "${SLURM_SUBMIT_DIR:-.}/launch/environment.sh" || exit 2

srun --kill-on-bad-exit=1 .venv/bin/python -m launch.train "$@" &
step=$!
# A shell handles signals only while it waits.
trap 'kill -TERM "$step" 2>/dev/null' TERM
code=0
wait_for "$step" || code=$?

# 0: finished; 2: a mistake in the flags. Any other code is worth a retry.
if [ "$code" != 0 ] && [ "$code" != 2 ] &&
  [ "${SLURM_RESTART_COUNT:-0}" -lt "${MOST_RESTARTS:-50}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, a process each:
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 \
#     launch/cluster/slurm.sh --config configs/pretrain/bert_large_lamb.py \
#     --workdir /shared/runs/large
#
# The flags are those of launch.train; the workdir and the corpus lie on a file
# system that all nodes share, and so does .venv, made before with
# `pip install -e '.[cuda]'`. jax finds the processes by Slurm's variables. Near
# its time limit Slurm sends SIGTERM: the run saves and exits with code 75, and
# the job is queued again, as it is after a lost node, until it has ended.
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
# The shell of the job passes the signal on only where it waits for it.
trap 'kill -TERM "$step" 2>/dev/null' TERM
code=0
wait_for "$step" || code=$?

# 0: done; 2: a mistake in the flags. Everything else is worth another try.
if [ "$code" != 0 ] && [ "$code" != 2 ] &&
  [ "${SLURM_RESTART_COUNT:-0}" -lt "${MOST_RESTARTS:-50}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

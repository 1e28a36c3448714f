#!/usr/bin/env bash
# Trains with N processes on the CPU of this machine:
#   launch/local_multiprocess.sh N [FLAG...]
# The flags are those of `bert-jax train`; without flags, it pretrains the model
# of the quickstart in runs/multiprocess. DEVICES is the number of (simulated)
# devices per process, PORT the port of the first process. Every line of output
# begins with the index of its process. If a process fails, all end; the same
# command resumes from the newest checkpoint.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

if ! [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: $0: expected the number of processes, got '${1:-}'" >&2
  exit 2
fi
count=$1
shift
environment .venv --editable .

if [[ $# == 0 ]]; then
  config=configs/pretrain/quickstart.py
  corpus=runs/multiprocess/corpus
  python -m launch.prepare --config $config --output $corpus
  set -- --config $config --config.data.corpus=$corpus \
    --workdir runs/multiprocess
fi

export JAX_PLATFORMS=cpu
export XLA_FLAGS="${XLA_FLAGS:-} \
--xla_force_host_platform_device_count=${DEVICES:-1}"
port=${PORT:-$(python -c 'import socket
s = socket.socket()
s.bind(("localhost", 0))
print(s.getsockname()[1])')}

# number I: puts I, the index of a process, before each line. It ignores signals
# and reads until the process has ended.
number() {
  trap '' INT TERM
  exec sed -u "s/^/[$1] /"
}

pids=()
for ((i = 0; i < count; i++)); do
  python -m launch.train "$@" --coordinator_address=localhost:"$port" \
    --num_processes="$count" --process_id="$i" \
    > >(number "$i") 2> >(number "$i" >&2) &
  pids+=($!)
done
# SIGTERM stops all processes; the shell waits until they have saved.
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
trap '' INT

status=0
for pid in "${pids[@]}"; do
  code=0
  wait_for "$pid" || code=$?
  if ((code != 0 && status == 0)); then status=$code; fi
done
exit "$status"

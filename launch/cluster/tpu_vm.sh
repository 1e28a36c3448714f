#!/usr/bin/env bash
# Trains on a Cloud TPU slice, a queued resource, until the run is finished:
#
#   PROJECT=... ZONE=... NAME=bert ACCELERATOR=v5litepod-16 \
#     launch/cluster/tpu_vm.sh --config configs/pretrain/bert_base.py \
#     --config.data.corpus=/mnt/bucket/corpora/wikipedia \
#     --workdir /mnt/bucket/runs/base
#
# The flags are those of `bert-jax train`. Requires gcloud, logged in, and
# BUCKET, a bucket for the corpus and the workdir, which gcsfuse mounts at
# /mnt/bucket on every worker. Every worker runs the same command, and JAX finds the
# others. With SPOT=1 the slice is a spot resource: after a preemption it is
# requested again, and the run resumes from its newest checkpoint. The slice is
# deleted at the end; to stop earlier, end this script and run
# `launch/cluster/tpu_vm.sh --delete`.
#
# The workers get the files of this checkout as they are when the script starts,
# with changes that are not committed and new files, but not what .gitignore
# names. So the config has to be in the checkout, such as configs/own.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${PROJECT:?expected a Google Cloud project}" "${ZONE:?expected a zone}"
: "${BUCKET:=}"
NAME=${NAME:-bert}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}

tpu() { gcloud compute tpus "$@" --project "$PROJECT" --zone "$ZONE"; }
on_all() { tpu tpu-vm ssh "$NAME" --worker=all --command "$1"; }
state() {
  tpu queued-resources describe "$NAME" --format='value(state.state)' \
    2>/dev/null || echo NONE
}
delete() {
  if [ "$(state)" != NONE ]; then
    tpu queued-resources delete "$NAME" --force --quiet
  fi
}

if [ "${1:-}" = --delete ]; then
  delete
  exit
fi
if [ -z "$BUCKET" ] || [ $# = 0 ]; then
  echo "error: expected BUCKET=... and the flags of bert-jax train" >&2
  exit 2
fi

# A tree of the working files, by a separate index.
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export GIT_INDEX_FILE=$here/index
git read-tree HEAD
git add --all
tree=$(git write-tree)
unset GIT_INDEX_FILE

# FILE in --config FILE[:ARGUMENT] or --config=FILE[:ARGUMENT].
config=
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    -config | --config) next=$((i + 1)) && config=${!next:-} ;;
    -config=* | --config=*) config=${!i#*=} ;;
  esac
done
config=${config%%:*}
if [ -n "$config" ] && ! git cat-file -e "$tree:$config" 2>/dev/null; then
  echo "error: --config: $config is not in this checkout, from whose top paths" \
    "count, or .gitignore names it" >&2
  exit 2
fi
git archive --format=tar.gz --output="$here/bert_jax.tar.gz" "$tree"
echo "this checkout: $(du -h "$here/bert_jax.tar.gz" | cut -f 1), compressed"

setup="set -e
sudo mkdir -p /mnt/bucket && sudo chown \$USER /mnt/bucket
mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs $BUCKET /mnt/bucket
rm -rf bert_jax && mkdir bert_jax && tar xzf bert_jax.tar.gz -C bert_jax
python3 -m venv venv && venv/bin/pip install -q -e 'bert_jax[tpu]'"
printf -v flags ' %q' "$@"
train="cd bert_jax && ../venv/bin/python -m launch.train$flags"

while true; do
  case $(state) in
    NONE)
      echo "requesting $ACCELERATOR as $NAME"
      tpu queued-resources create "$NAME" --node-id "$NAME" \
        --accelerator-type "$ACCELERATOR" --runtime-version "$RUNTIME" \
        ${SPOT:+--spot}
      ;;
    ACTIVE)
      if tpu tpu-vm scp "$here/bert_jax.tar.gz" "$NAME": --worker=all &&
        on_all "$setup"; then
        code=0
        on_all "$train" || code=$?
        # 0: finished; 2: a mistake in the flags, which a restart does not fix.
        if [ "$code" = 0 ] || [ "$code" = 2 ]; then
          delete
          exit "$code"
        fi
        echo "the run ended with code $code; restarting"
      fi
      ;;
    SUSPENDED | SUSPENDING | FAILED)
      echo "$NAME was preempted"
      delete
      ;;
  esac
  sleep "${POLL_SECONDS:-60}"
done

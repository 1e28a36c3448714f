#!/usr/bin/env bash
# Builds the image of the server without Docker and without a registry of
# images: the base is made of Debian's packages.
#
#   launch/deploy/image.sh build [NAME]         makes the image NAME (bert-jax)
#   launch/deploy/image.sh run FOLDER [NAME]    serves the export in FOLDER at
#                                               PORT (8080)
#   launch/deploy/image.sh check FOLDER [NAME]  runs it, asks it, and stops it
#
# Needs mmdebstrap and buildah (apt-get install mmdebstrap buildah). BASE names
# another base image. Where there is a registry, `docker build` does the same,
# see Dockerfile.
set -euo pipefail
source "$(dirname "$0")/../environment.sh"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
PORT=${PORT:-8080}

made_base() {
  local folder name=localhost/debian-python container
  if ! buildah inspect --type image "$name" > /dev/null 2>&1; then
    folder=$(mktemp -d)
    mmdebstrap --quiet --variant=minbase \
      --include=python3,python3-venv,ca-certificates bookworm \
      "$folder/base.tar" >&2
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder/base.tar" / >&2
    buildah commit --quiet --rm "$container" "$name" >&2
    rm -r "$folder"
  fi
  echo "$name"
}

build() {
  local name=${1:-bert-jax} certificates=/etc/ssl/certs/ca-certificates.crt
  buildah bud --format docker --build-arg "BASE=${BASE:-$(made_base)}" \
    --volume "$certificates:$certificates:ro" \
    --file launch/deploy/Dockerfile \
    --ignorefile launch/deploy/Dockerfile.dockerignore --tag "$name" .
  buildah images "$name"
}

# serve FOLDER NAME: starts the image; the caller ends the process `server`, and
# removes the container.
serve() {
  local folder
  folder=$(realpath "$1")
  container=$(buildah from --pull-never "${2:-bert-jax}")
  trap 'buildah rm "$container" > /dev/null' EXIT
  # The entrypoint and the user of the image; its files are root's.
  buildah run --volume "$folder:/models/default:ro" "$container" -- \
    bert-jax serve --host=127.0.0.1 --port="$PORT" \
    --model=default=/models/default &
  server=$!
}

# stop: SIGTERM to the server itself, since buildah kills what it runs.
stop() {
  local pattern="bert-jax serve.* --port=$PORT "
  kill -TERM "$(pgrep --newest --uid 10001 --full -- "$pattern")"
}

run() {
  serve "$@"
  trap stop TERM INT
  wait_for "$server"
}

check() {
  local code=0 at=http://127.0.0.1:$PORT
  serve "$@"
  for _ in $(seq 60); do
    curl --silent --fail --output /dev/null "$at/ready" && break
    sleep 0.5
  done
  buildah run "$container" -- id
  buildah run "$container" -- python3 -c 'import importlib.util as i
found = [x for x in ("jax", "flax", "pip", "torch") if i.find_spec(x)]
assert not found, found'
  for path in /ready /health /v1/models; do
    echo "$path: $(curl --silent --show-error --fail "$at$path")"
  done
  curl --silent --show-error --fail "$at/metrics" |
    grep -E '^(bert_jax_model_info|process_resident)'
  curl --silent --show-error --fail "$at/v1/embeddings" \
    --header 'Content-Type: application/json' \
    --data '{"model": "default", "input": "The image answers."}' | cut -c 1-200
  stop
  wait_for "$server" || code=$?
  echo "exit code $code"
  return "$code"
}

case "${1:-}" in
  build | run | check) "$@" ;;
  *)
    echo "error: $0: expected build, run FOLDER or check FOLDER" >&2
    exit 2
    ;;
esac

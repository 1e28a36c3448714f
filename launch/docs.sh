#!/usr/bin/env bash
# Builds the documentation into site/, and fails on a dead link:
#   ./launch/docs.sh
# `./launch/docs.sh serve` shows it at http://127.0.0.1:8000 and updates it on
# changes. Neither the build nor the pages fetch anything from a network.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv --editable ".[docs]"

export JAX_PLATFORMS=cpu NO_MKDOCS_2_WARNING=1
case "${1:-build}" in
  build) exec python -m mkdocs build --strict ;;
  serve) exec python -m mkdocs serve --dev-addr 127.0.0.1:8000 ;;
  *)
    echo "error: $0: expected nothing or 'serve', got '$1'" >&2
    exit 2
    ;;
esac

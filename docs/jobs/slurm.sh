#!/usr/bin/env bash
# One experiment per Slurm job:  sbatch docs/jobs/slurm.sh "mnist_classifier32" "split.trial=3 train.lr=0.05"
# A sweep as a job array:        sbatch --array=0-4 docs/jobs/slurm.sh "mnist_classifier32" "split.trial=@"
# where @ becomes the number of the array's task. Give account, partition and GPUs on the command line of sbatch.
#SBATCH --job-name=osr
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%A_%a.log
#SBATCH --signal=B:TERM@120
set -euo pipefail
preset=${1:-}
overrides=${2:-}
overrides=${overrides//@/${SLURM_ARRAY_TASK_ID:-0}}

# The project and its environment lie on a disk that all nodes see; OSR_HOME names the clone.
home=${OSR_HOME:-${SLURM_SUBMIT_DIR:?submit from the clone, or set OSR_HOME}}
: "${MLFLOW_TRACKING_URI:?set it to a server, or to sqlite:///$home/mlflow.db if all jobs run on one machine}"
# Every job works in a clone of its own, of the last commit, so that jobs on many nodes never wait for one DVC lock.
# What it makes goes into the project's own cache and stays there when the job's clone goes.
work=$(mktemp -d "${TMPDIR:-/tmp}/osr.XXXXXX")
trap 'rm -rf "$work"' EXIT
git clone --quiet "$home" "$work/osr"
. "$home/.venv/bin/activate"
cache=$(cd "$home" && dvc cache dir)
cd "$work/osr"
dvc config --quiet --local cache.dir "$cache"
if [ -d "$home/data" ]; then ln -s "$home/data" data; fi
# With a DVC remote, what other jobs have computed is taken from it, and what this one computes is sent there.
has_remote=$(dvc remote list)
if [ -n "$has_remote" ]; then dvc pull --quiet || true; fi
# A process group of its own: Slurm's warning before the time limit must reach the stage, whose row is then KILLED.
setsid python -m pipeline.cli run --sync --preset "$preset" --overrides "$overrides" &
child=$!
trap 'kill -TERM -- "-$child"' TERM
status=0
wait "$child" || status=$?
for _ in $(seq 100); do kill -0 -- "-$child" 2>/dev/null && sleep 1 || break; done
[ "$status" -eq 0 ] || exit "$status"
if [ -n "$has_remote" ]; then dvc push --quiet; fi
# The experiment comes back to the clone, so that `dvc exp list` and `dvc exp apply` find it.
if [ -n "$preset$overrides" ]; then dvc exp push --quiet --no-cache origin; fi

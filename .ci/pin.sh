#!/usr/bin/env bash
# Makes requirements.txt, requirements-dev.txt, requirements-docs.txt and, for .ci/extras, .ci/EXTRA.txt anew from the
# ranges in pyproject.toml (needs uv).
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet)
# CPU and GPU machines alike take these two from the default registry; newer pairs work, too.
printf 'torch==2.14.1\ntorchvision==0.29.1\n' > .ci/constraints.txt
uv pip compile pyproject.toml --extra test -c .ci/constraints.txt "${options[@]}" -o requirements.txt
uv pip compile pyproject.toml --extra dev --extra onnx -c requirements.txt "${options[@]}" -o /tmp/dev.$$
{ echo '-r requirements.txt'; grep -vxFf requirements.txt /tmp/dev.$$; } > requirements-dev.txt
uv pip compile pyproject.toml --extra docs -c requirements.txt "${options[@]}" -o /tmp/docs.$$
grep -vxFf requirements.txt /tmp/docs.$$ > requirements-docs.txt
rm /tmp/dev.$$ /tmp/docs.$$
# What each extra needs beyond requirements.txt.
for extra in search slurm ray spark; do
  uv pip compile pyproject.toml --extra "$extra" -c requirements.txt "${options[@]}" -o /tmp/extra.$$
  grep -vxFf requirements.txt /tmp/extra.$$ > ".ci/$extra.txt"
  rm /tmp/extra.$$
done

#!/usr/bin/env bash
# From a bare machine to a trained model: installs what is missing, builds Quern, trains a small GPT
# on Quern's own source code and lets it write a few lines.
#
#   ./quickstart.sh [--set key=value ...]     options go to `quern train`
set -euo pipefail
cd "$(dirname "$0")"

tests/packages.sh build

tests/preset.sh release quern

quern=build/release/quern
run=runs/quickstart
status=0
"$quern" train configs/quickstart.json --out $run --overwrite "$@" || status=$?
if [ $status -eq 130 ]; then
    echo "Stopped and saved. To go on:"
    echo "    $quern train configs/quickstart.json --out $run --resume auto"
fi
[ $status -eq 0 ] || exit $status

echo
echo "What the model writes after \"static qn_status \":"
echo
"$quern" generate $run --prompt "static qn_status "
echo
echo "Curves and verdict: $PWD/$run/report.html"
echo "Everything else:    $PWD/$run/ (README.md tells what is what)"

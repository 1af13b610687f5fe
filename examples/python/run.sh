#!/usr/bin/env bash
# A Python handler: `ROWMILL=target/debug/rowmill examples/python/run.sh`, or with rowmill on the PATH.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")"
rowmill="${ROWMILL:-rowmill}"
rm -rf ../../target/python
mkdir -p ../../target/python

# A row fails, so it ends with 1.
"$rowmill" run payments.csv --app bank --op fee --external-id today --context '{"percent": 2}' || [ $? -eq 1 ]
"$rowmill" files ext:bank/today --download ../../target/python/out
cat ../../target/python/out/fees.csv
"$rowmill" rows ext:bank/today --status failed --format csv

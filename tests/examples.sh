#!/usr/bin/env bash
# Builds the examples, runs each twice and compares what it prints with examples/expected. What
# differs from run to run (ids, times, rates, places) is masked. `tests/examples.sh --write` writes
# what is expected anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=$(pwd)
mask() {
    sed -E \
        -e "s#$home#HOME#g" \
        -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/ID/g' \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+( UTC|Z)?/TIME/g' \
        -e 's#[0-9.]+ rows/s#RATE rows/s#g' \
        -e 's#[^ ]*/examples/([a-z_]+) --#\1 --#g'
}

cargo build --locked --quiet --examples
programs=$(cargo metadata --locked --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/examples

failed=0
for expected in examples/expected/*.txt; do
    name=$(basename "$expected" .txt)
    for run in 1 2; do
        found=$("$programs/$name" | mask) || {
            echo "$name: run $run failed"
            failed=1
            continue
        }
        if [ "${1:-}" = --write ]; then
            printf '%s\n' "$found" >"$expected"
        elif ! diff -u "$expected" <(printf '%s\n' "$found"); then
            echo "$name: run $run printed something else than $expected"
            failed=1
        fi
    done
    [ "$failed" -ne 0 ] || echo "$name: ok"
done
exit "$failed"

#!/usr/bin/env bash
# The demo: which installed packages got security fixes in the last 12 months, and which five changelogs should one
# read first? Agents in config/agents, one log, one kill -9. `./run demo` builds and then comes here.
# All that it writes lies under build/demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROOT=$PWD HERE=$ROOT/examples/demo OUT=$ROOT/build/demo
TIDEMARK=${TIDEMARK_BIN:-$ROOT/build/release/tidemark}
STATE=$OUT/state CALLS=$OUT/calls.log NAIVE=$OUT/naive-calls.log PACKAGES=$OUT/packages.jsonl
KILL_AFTER_S=5
ENGINE=
# The system's Python starts in a fifth of the time that a version manager's shim takes.
export PATH="/usr/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$HERE"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\033[1m' DIM=$'\033[2m' OFF=$'\033[0m'; else BOLD='' DIM='' OFF=''; fi
step() { printf '\n%s%s%s\n' "$BOLD" "$*" "$OFF"; }
show() { printf '%s$ %s%s\n' "$DIM" "$*" "$OFF"; }
die() {
    printf 'demo: %s\n     hint: %s\n' "$1" "$2" >&2
    exit 1
}

[ -x "$TIDEMARK" ] || die "no $TIDEMARK" "./run build"
for tool in kcat curl python3 zgrep dpkg-query; do
    command -v $tool >/dev/null || die "$tool is missing" "./run demo installs it"
done

start_engine() {
    rm -f ".tidemark/dev.json"
    "$TIDEMARK" dev --data "$STATE" --port 0 >>"$OUT/engine.out" 2>>"$OUT/engine.log" &
    ENGINE=$!
    for _ in $(seq 1200); do
        kill -0 "$ENGINE" 2>/dev/null || die "the engine ended: $(tail -n 3 "$OUT/engine.log")" "see build/demo/engine.log"
        if [ -s ".tidemark/dev.json" ] && [ "$(grep -c '^ready' "$OUT/engine.out" || true)" -gt "$READY" ]; then
            READY=$((READY + 1))
            BROKERS=$(sed -n 's/.*"bootstrap":"\([^"]*\)".*/\1/p' ".tidemark/dev.json")
            export TIDEMARK_BROKERS=$BROKERS
            return
        fi
        sleep 0.1
    done
    die "the engine is not ready after 120 s" "see build/demo/engine.log"
}
stop_engine() {
    if [ -n "$ENGINE" ] && kill -0 "$ENGINE" 2>/dev/null; then
        kill "$ENGINE"
        wait "$ENGINE" || true
    fi
    ENGINE=
}
READY=0
trap stop_engine EXIT

# Ends the engine without a warning when k is pressed, after KILL_AFTER_S, or when half of the work is done.
kill_half_way() {
    local half=$1 key='' until=$((SECONDS + KILL_AFTER_S))
    echo "  press k to kill -9 the engine (by itself after $KILL_AFTER_S seconds)"
    while [ $SECONDS -lt $until ] && [ "$(grep -c ' end ' "$CALLS" || true)" -lt "$half" ]; do
        if [ -t 0 ]; then
            read -r -s -n 1 -t 0.1 key || true
            [ "$key" != k ] || break
        else
            sleep 0.1
        fi
    done
    disown "$ENGINE" # no "Killed" from the shell
    kill -9 "$ENGINE"
    KILLED_MS=$(date +%s%3N)
    while kill -0 "$ENGINE" 2>/dev/null; do sleep 0.05; done
    ENGINE=
    echo "  killed; $(grep -c ' start ' "$CALLS" || true) changelogs were begun by then"
}

step "1. The input: the packages installed on this machine"
rm -rf "$STATE" "$OUT"/*.log "$OUT"/*.out "$OUT"/*.md "$OUT"/*.txt
mkdir -p "$STATE"
SINCE=$(date -u -d '12 months ago' +%F)
python3 "$HERE/prepare.py" "$OUT/cache" "$CALLS" "$SINCE" >"$PACKAGES"
: >"$CALLS"
COUNT=$(wc -l <"$PACKAGES")
READ=$(python3 -c 'import json,sys
print(sum(j["changelog"] is not None and j["package"] == j["lead"] for j in map(json.loads, open(sys.argv[1]))))' "$PACKAGES")
echo "  $COUNT packages, $READ changelogs; fixes since $SINCE"
start_engine
echo "  the engine and its log are up at $BROKERS"

step "2. One event in by kcat, its result out by kcat"
ONE=$(grep -m 1 '"package": "openssl"' "$PACKAGES" || head -n 1 "$PACKAGES")
NAME=$(sed -n 's/.*"lead": "\([^"]*\)".*/\1/p' <<<"$ONE")
ONE=$(grep -m 1 "\"package\": \"$NAME\"" "$PACKAGES")
show "kcat -P -b $BROKERS -t packages -k $NAME -H ce_type=org.tidemark.demo.package.found ... <<<'{\"package\":\"$NAME\",...}'"
printf '%s\n' "$ONE" | kcat -P -b "$BROKERS" -t packages -k "$NAME" -H ce_specversion=1.0 -H ce_id=by-kcat \
    -H ce_source=/demo/kcat -H ce_type=org.tidemark.demo.package.found -H content-type=application/json
show "kcat -C -b $BROKERS -t reviews -c 1"
timeout 120 kcat -C -q -b "$BROKERS" -t reviews -o beginning -c 1 -f '  %s\n' ||
    die "no review of $NAME within 120 s" "see build/demo/engine.log"

step "3. All packages, and a kill half way"
T0=$(date -u +%FT%T.%3NZ)
grep -v "\"package\": \"$NAME\"," "$PACKAGES" >"$OUT/rest.txt"
show "tidemark events publish packages --type org.tidemark.demo.package.found --lines --data @..."
"$TIDEMARK" events publish packages --type org.tidemark.demo.package.found --lines --data "@$OUT/rest.txt" >"$OUT/publish.out"
kill_half_way $((READ / 2))
KILLED_AT=$(grep -c ' end ' "$CALLS" || true)
show "tidemark dev     # again"
start_engine
python3 "$HERE/ledger.py" wait "$BROKERS" "$PACKAGES"

step "4. The ledger, beside a loop of under 30 lines that is killed at the same point and started again"
: >"$NAIVE"
[ "$KILLED_AT" -gt 0 ] || KILLED_AT=1
# In a shell of its own, whose word "Killed" goes nowhere.
bash -c 'python3 "$@"; true' sh "$HERE/naive.py" "$PACKAGES" "$OUT/naive.txt" "$NAIVE" "$KILLED_AT" >/dev/null 2>&1
python3 "$HERE/naive.py" "$PACKAGES" "$OUT/naive.txt" "$NAIVE"
python3 "$HERE/ledger.py" show "$BROKERS" "$PACKAGES" "$CALLS" "$NAIVE" "$KILLED_MS"

step "5. A mark, and a replay from it with another reviewer"
show "tidemark marks set before-all --at $T0"
"$TIDEMARK" marks set before-all --at "$T0" >"$OUT/mark.out"
show "tidemark agents apply examples/demo/reviewer-2.yaml"
"$TIDEMARK" agents apply examples/demo/reviewer-2.yaml
# The one event of step 2 lies before the mark.
AGAIN=$(python3 -c 'import journal,sys; print(len(journal.Journal(sys.argv[1]).of("reviewer", status="completed")) - 1)' "$BROKERS")
show "tidemark replays start --from before-all --agent demo/reviewer --name stricter"
"$TIDEMARK" replays start --from before-all --agent demo/reviewer --name stricter >"$OUT/replay.out"
python3 "$HERE/ledger.py" wait-agent "$BROKERS" reviewer replay:stricter "$AGAIN"
python3 "$HERE/ledger.py" diff "$BROKERS" replay:stricter "$NAME"

step "6. The report"
"$TIDEMARK" events publish reports --type org.tidemark.demo.report.requested --data \
    "{\"brokers\":\"$BROKERS\",\"report\":\"$OUT/report.md\",\"since\":\"$SINCE\",\"tools\":\"$HERE\"}" >>"$OUT/publish.out"
python3 "$HERE/ledger.py" wait-agent "$BROKERS" reporter live 1
[ -s "$OUT/report.md" ] || die "the reporter wrote no report" "tidemark runs list --where agent=demo/reporter"
sed -n '/^Since/p; /^[1-5]\. /p; /names .* in all/p' "$OUT/report.md" | sed 's/^/  /'
CHECK=$(sed -n 's/^    zgrep/zgrep/p' "$OUT/report.md")
if [ -n "$CHECK" ]; then
    show "$CHECK"
    GOT=$(bash -c "$CHECK") # the very line that the report prints
    echo "  $GOT"
    grep -q "names $GOT CVE ids in all" "$OUT/report.md" || die "the report says another number" "read build/demo/report.md"
fi

step "7. One task by HTTP, and its stream"
HTTP=$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' .tidemark/dev.json)
show "curl --json '[{\"package\":\"$NAME\",...}]' $HTTP/v1/agents/demo/planner/runs"
RUN=$(printf '[%s]' "$ONE" | curl -sS --fail-with-body --json @- "$HTTP/v1/agents/demo/planner/runs" |
    sed -n 's/.*"id":"\([0-9a-z]*\)".*/\1/p')
[ -n "$RUN" ] || die "the task was not accepted" "see build/demo/engine.log"
echo "  202: the run $RUN is in the log"
show "curl -N $HTTP/v1/runs/$RUN/stream"
timeout 120 curl -sSN "$HTTP/v1/runs/$RUN/stream" | sed -n 's/^event: /  /p' >"$OUT/stream.txt" ||
    die "its stream did not end" "see build/demo/engine.log"
cat "$OUT/stream.txt"
grep -q 'run.completed' "$OUT/stream.txt" || die "the run did not complete" "$HTTP/v1/runs/$RUN"

stop_engine
step "Done in $SECONDS s. The report is build/demo/report.md. To look around, start it again and type in a second shell:"
BIN=${TIDEMARK#"$ROOT"/}
cat <<TEXT
  $BIN dev --data build/demo/state --port 9092 &
  $BIN runs list --where agent=demo/researcher --limit 5 --brokers 127.0.0.1:9092
  $BIN runs show RUN --brokers 127.0.0.1:9092
  kcat -C -b 127.0.0.1:9092 -t tidemark.main.runs -e -o -5 -f '%o %k %s\n'
TEXT

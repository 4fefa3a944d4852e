# shellcheck shell=bash
# The parts of `./run test`, read by ./run. Each part prints one line with its result and time, keeps its output in
# build/log/PART.log and prints that log when it fails. The last line counts the tests of all parts.

PASSED=0
FAILED=0
FAILED_PARTS=()
RUNNING=()

# Background jobs of a script do not hear Ctrl-C, so that it is passed on.
interrupted() {
    local pid
    for pid in "${RUNNING[@]}"; do kill_tree "$pid"; done
    die "interrupted" "what was done so far is in build/log" 130
}
trap interrupted INT TERM

# part NAME TIMEOUT_S FUNCTION [ARG...]: runs one part in a subshell; never ends the script.
# The function's output must contain lines `@tests PASSED FAILED` for what it counted.
part() {
    local name=$1 limit_s=$2 log="build/log/$1.log" start=$SECONDS rc=0 took passed failed
    shift 2
    mkdir -p build/log
    [ ! -t 1 ] || printf '%-8s ...\r' "$name"
    # A watchdog of our own, since timeout(1) cannot run a shell function.
    (set -euo pipefail; "$@") >"$log" 2>&1 </dev/null &
    local pid=$!
    (
        trap 'kill ${nap:-} 2>/dev/null; exit 0' TERM
        sleep "$limit_s" &
        nap=$!
        wait "$nap"
        echo "part $name passed its limit of $limit_s s" >>"$log"
        kill_tree "$pid"
    ) >/dev/null 2>&1 &
    local dog=$!
    RUNNING=("$pid" "$dog")
    wait "$pid" || rc=$?
    RUNNING=()
    kill "$dog" 2>/dev/null || true
    wait "$dog" 2>/dev/null || true
    took=$((SECONDS - start))
    passed=$(awk '$1 == "@tests" { n += $2 } END { print n + 0 }' "$log")
    failed=$(awk '$1 == "@tests" { n += $3 } END { print n + 0 }' "$log")
    if [ "$rc" -eq 0 ] && [ "$name" != build ] && [ $((passed + failed)) -eq 0 ]; then
        echo "part $name ran no test" >>"$log"
        rc=1
    fi
    if [ "$rc" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    if [ "$rc" -eq 0 ] && [ "$failed" -eq 0 ]; then
        printf '%-8s ok      %5d tests  %4d s\n' "$name" "$passed" "$took"
        return 0
    fi
    FAILED_PARTS+=("$name")
    printf '%-8s FAILED  %5d tests  %4d s  status %d, log %s\n' "$name" "$((passed + failed))" "$took" "$rc" "$log"
    tail -n "${TIDEMARK_LOG_LINES:-400}" "$log" | sed 's/^/    /'
}

kill_tree() {
    local child
    for child in $(pgrep -P "$1"); do kill_tree "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}

finish() {
    if [ ${#FAILED_PARTS[@]} -gt 0 ]; then say "failed parts: ${FAILED_PARTS[*]}"; fi
    say "took $SECONDS s"
    echo "$PASSED passed, $FAILED failed"
    [ ${#FAILED_PARTS[@]} -eq 0 ] && [ "$FAILED" -eq 0 ]
}

sanitizer_env() {
    export ASAN_OPTIONS="${ASAN_OPTIONS:-abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1}"
    export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"
    export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:ignore_noninstrumented_modules=1:second_deadlock_stack=1}"
}

part_build() { compile asan "$@"; }

# One unit program under its own time limit; counts tests from CUnit's closing table.
run_unit() {
    local program=$1 rc=0 out
    shift
    out="build/log/$(basename "$(dirname "$(dirname "$program")")")-$(basename "$program")${2:+-$2}.log"
    echo "== $program $*"
    timeout --kill-after=5 600 "$program" "$@" >"$out" 2>&1 || rc=$?
    cat "$out"
    awk -v rc="$rc" '$1 == "tests" { good = $4; bad = $5 }
        END { if (rc != 0 && bad == 0) bad = 1; print "@tests " good + 0 " " bad + 0 }' "$out"
    [ "$rc" -eq 0 ] || echo "$program: exit status $rc"
    return "$rc"
}

# As many at a time as there are cores, or AT_ONCE; what each says stays together.
SAID=()
# spawn NAME COMMAND...: its output ends with `@tests PASSED FAILED`.
spawn() {
    local out="build/log/said-$1.log"
    shift
    while [ "$(jobs -rp | wc -l)" -ge "${AT_ONCE:-$JOBS}" ]; do sleep 0.1; done
    SAID+=("$out")
    "$@" >"$out" 2>&1 &
}
# Waits for all and prints what they said, those that failed last, since a reader may have only the end of a log. The
# shell may have forgotten the status of one that ended early, so that what it wrote tells whether it passed.
gather() {
    local out bad=()
    wait
    for out in "${SAID[@]}"; do
        if grep -q '^@tests [1-9][0-9]* 0$' "$out"; then cat "$out"; else bad+=("$out"); fi
    done
    [ ${#bad[@]} -gt 0 ] || return 0
    cat "${bad[@]}"
    return 1
}

# spawn_unit NAME PROGRAM [FILTER]: one process; all tests of the largest program in three, so that it does not run on
# alone when the others have ended.
spawn_unit() {
    local name=$1 program=$2 i
    if [ $# -eq 2 ] && [ "${program##*/}" = unit_broker ]; then
        for i in 0 1 2; do spawn "$name-$i" run_unit "$program" "" "$i" 3; done
    else
        spawn "$name" run_unit "${@:2}"
    fi
}

# part_unit [FOLDER [FILTER]]
part_unit() {
    local folder=${1:-} program rc=0 seen=0 AT_ONCE=$((JOBS * 2)) # some wait more than they compute
    [ $# -eq 0 ] || shift
    sanitizer_env
    for program in build/asan/tests/unit_${folder:-*}; do
        [ -x "$program" ] || continue
        # A program whose tests were removed from the tree may linger from an older build.
        [ -d "tests/unit/${program##*/unit_}" ] || continue
        seen=1
        spawn_unit "${program##*/}" "$program" "$@"
    done
    gather || rc=1
    [ "$seen" = 1 ] || {
        echo "no unit program ${folder:-at all} under build/asan/tests"
        return 1
    }
    return "$rc"
}

# Without arguments: random schedules, every short sequence after a few beginnings, and each rule switched off in turn,
# which some schedule must miss.
part_sim() {
    sanitizer_env
    [ -x build/asan/tests/sim ] || {
        echo "no build/asan/tests/sim: tests/sim has no source"
        return 1
    }
    if [ $# -gt 0 ]; then
        run_sim "$@"
    else
        # 2,000 seeds in two halves.
        spawn sim-1 run_sim --seed 1 --runs 1000 --steps 300
        spawn sim-2 run_sim --seed 1001 --runs 1000 --steps 300
        spawn sim-exhaust run_sim --exhaust 2 --runs 5 --steps 60
        spawn sim-mutations run_sim --mutations --runs 20000
        gather
    fi
}
run_sim() {
    echo "== sim $*"
    build/asan/tests/sim "$@" || {
        echo "the failing seed stands above; repeat it with ./run test sim --seed SEED --trace"
        echo "@tests 0 1"
        return 1
    }
    echo "@tests 1 0"
}

# The threads of the loop, of the embedded log, of its client and of the read model by their unit tests, those of the
# gateway by the end-to-end tests that use them most. Libraries without the sanitizer's marks (librdkafka counts
# references without locks) are passed over: what is told is about our code.
part_tsan() {
    local rc=0 t targets=() AT_ONCE=$((JOBS * 2))
    sanitizer_env
    for t in loop broker log view; do
        compgen -G "tests/unit/$t/*.c" >/dev/null && targets+=("unit_$t")
    done
    [ ${#targets[@]} -gt 0 ] || {
        echo "none of its folders of tests/unit has a test"
        return 1
    }
    compile tsan tidemark "${targets[@]}"
    export TIDEMARK_POWER_SEEDS="${TIDEMARK_POWER_SEEDS:-4}" # one thread's work, which the part unit has done
    for t in "${targets[@]}"; do spawn_unit "tsan-$t" "build/tsan/tests/$t"; done
    gather || rc=1
    tsan_e2e || rc=1
    return "$rc"
}

# What a node writes to files; one that was killed has written it before.
tsan_e2e() {
    local rc=0 reports="$ROOT/build/tsan/reports"
    rm -rf "$reports"
    mkdir -p "$reports"
    TIDEMARK_BIN="$ROOT/build/tsan/tidemark" \
        TSAN_OPTIONS="exitcode=0:log_path=$reports/race:ignore_noninstrumented_modules=1:second_deadlock_stack=1" \
        part_pytest "not kafka" -n 4 --dist worksteal \
        -k "test_view_kill or test_gateway_stream or test_gateway_events or test_run_place or test_nodes_lists" || rc=1
    if [ -n "$(find "$reports" -type f -size +0 -print -quit)" ]; then
        cat "$reports"/*
        echo "@tests 0 1"
        rc=1
    fi
    return "$rc"
}

# part_pytest MARK [PYTEST_ARG...]: all tests by several processes, since they wait more than they compute; with
# arguments one after the other, so that -x, -s and --pdb do what they say (-n 3 may be one of them).
part_pytest() {
    local mark=$1 rc=0 xml="build/log/pytest-${1// /-}.xml" paths=(tests/e2e)
    shift
    [ $# -gt 0 ] || set -- -n "$(pytest_workers "$mark")" --dist worksteal --durations 15
    sanitizer_env # which leaves what is set
    rm -f "$xml"
    [ "$mark" = kafka ] || paths+=(tests/lint)
    TIDEMARK_BIN="${TIDEMARK_BIN:-$ROOT/build/asan/tidemark}" PYTHONDONTWRITEBYTECODE=1 \
        build/venv/bin/python -m pytest -m "$mark" --junitxml="$xml" "${paths[@]}" "$@" || rc=$?
    build/venv/bin/python tests/run/count.py "$xml" || true
    # Status 5 is pytest's "no test ran"; that is a failure here: a suite that vanished is not a suite that passed.
    [ "$rc" -ne 5 ] || echo "no end-to-end test matched"
    return "$rc"
}

# Each process starts an Apache Kafka of its own, which needs a gigabyte and half a minute of a core.
pytest_workers() {
    if [ "$1" = kafka ]; then echo 2; else echo 4; fi
}

# part_fuzz [TARGET [SECONDS]]: without SECONDS as part of the tests, where the same commit must give the same result:
# as many inputs as stand below, from one seed. With SECONDS a search, each time from another seed.
part_fuzz() {
    local only=${1:-} seconds=${2:-} program name rc=0 seen=0
    build_fuzz
    for program in build/fuzz/tests/fuzz_${only:-*}; do
        [ -x "$program" ] || continue
        name=${program##*/fuzz_}
        [ -f "tests/fuzz/fuzz_$name.c" ] || continue
        seen=1
        spawn "fuzz_$name" fuzz_one "$program" "$name" "$seconds"
    done
    gather || rc=1
    [ "$seen" = 1 ] || {
        echo "no fuzz target ${only:-at all}"
        return 1
    }
    return "$rc"
}

# About three seconds each on the machine where they were counted.
fuzz_inputs() {
    case $1 in
    base_json) echo 250000 ;;
    broker_batch) echo 600000 ;;
    broker_request | core_state) echo 150000 ;;
    broker_segment) echo 1200 ;;
    core_fold) echo 12000 ;;
    flow_evalwire) echo 2500 ;;
    flow_expr) echo 6000 ;;
    flow_*) echo 25000 ;;
    *) echo 100000 ;;
    esac
}

build_fuzz() {
    # No feature of how deep the stack was: it differs with the environment's length.
    local flags="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
    flags+=" -fno-sanitize-coverage=stack-depth"
    if [ ! -f build/fuzz/build.ninja ]; then
        rm -rf build/fuzz
        cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTIDEMARK_FUZZ=ON \
            -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
            -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags"
    fi
    ninja -C build/fuzz -j "$JOBS" fuzz
}

# What the project keeps elsewhere and is a good input too.
more_seeds() {
    case $1 in
    flow_parse) printf '%s\n' examples tests/data/flows ;;
    esac
}

# The seeds as they are, then new inputs made from them. A search keeps those in build/fuzz/corpus and goes on from them;
# what is worth keeping for ever is copied to tests/fuzz/corpus by hand. The tests' run does not try the operands of
# comparisons: addresses are among them, which differ with the folder and the environment. And it takes the seeds in
# the order of their names, since a folder's own order differs too.
fuzz_one() {
    local program=$1 name=$2 seconds=$3 seeds=("tests/fuzz/corpus/$2") more work inputs how
    mkdir -p build/fuzz/found build/fuzz/corpus
    while read -r more; do seeds+=("$more"); done < <(more_seeds "$name")
    local options=(-timeout=60 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
        "-artifact_prefix=build/fuzz/found/$name-")
    if [ -n "$seconds" ]; then
        echo "== fuzz $name, $seconds s"
        work="build/fuzz/corpus/$name"
        how=("-max_total_time=$seconds" "${seeds[@]}")
        mkdir -p "$work"
    else
        inputs=$(fuzz_inputs "$name")
        echo "== fuzz $name, $inputs inputs"
        work="build/fuzz/work/$name" # empty each time, also after a run that was killed
        rm -rf "$work"
        mkdir -p "$work"
        find "${seeds[@]}" -type f | LC_ALL=C sort | paste -sd, >"$work.seeds"
        how=(-seed=1 -reload=0 -use_cmp=0 "-runs=$inputs" "-seed_inputs=@$work.seeds")
        case $name in broker_segment | flow_evalwire) how+=(-use_counters=0) ;; esac # threads: how often they turn differs
    fi
    local rc=0
    { "$program" -runs=0 "${options[@]}" "${seeds[@]}" 2>&1 | tail -n 60 &&
        "$program" "$work" "${how[@]}" "${options[@]}" 2>&1 | tail -n 60; } || rc=1
    if [ "$rc" -eq 0 ]; then
        echo "@tests 1 0"
    else
        echo "fuzz $name failed; the input lies in build/fuzz/found; repeat with: $program FILE"
        echo "@tests 0 1"
        return 1
    fi
}

need_clang() {
    need_deb clang
    local v
    v=$(clang -dumpversion | cut -d. -f1)
    [ -n "$(find "$(clang -print-resource-dir)/lib" -name 'libclang_rt.fuzzer*' -print -quit 2>/dev/null)" ] ||
        need_deb "libclang-rt-$v-dev"
}

need_test() {
    need_build
    need_venv
    # shellcheck disable=SC2086
    need_deb $PKG_E2E $PKG_UNIT
    command -v node >/dev/null || need_deb nodejs
}

# Everything else would only repeat a broken build.
test_build() {
    part build 1800 part_build "$@"
    [ ${#FAILED_PARTS[@]} -eq 0 ] || finish
}

test_all() {
    need_test
    need_clang
    test_build
    part unit 900 part_unit
    part sim 600 part_sim
    part tsan 900 part_tsan
    part e2e 1200 part_pytest "not kafka"
    part fuzz 600 part_fuzz
    finish
}

cmd_test() {
    local what=${1:-all}
    [ $# -eq 0 ] || shift
    case $what in
    all) test_all ;;
    unit)
        need_build
        need_deb "$PKG_UNIT"
        # Only its own program, so that one folder can be tested while another does not build.
        test_build ${1:+"unit_$1"}
        part unit 900 part_unit "$@"
        finish
        ;;
    sim)
        need_build
        test_build sim
        part sim 3600 part_sim "$@"
        finish
        ;;
    tsan)
        need_test
        part tsan 900 part_tsan
        finish
        ;;
    e2e)
        need_test
        test_build tidemark foldcheck
        part e2e 1200 part_pytest "not kafka" "$@"
        finish
        ;;
    kafka)
        need_test
        need_kafka
        test_build tidemark foldcheck
        part kafka 1200 part_pytest kafka "$@"
        finish
        ;;
    fuzz)
        need_build
        need_clang
        part fuzz 3600 part_fuzz "$@"
        finish
        ;;
    *) die "no such part of the tests: $what" "unit, sim, tsan, e2e, kafka or fuzz" 2 ;;
    esac
}

cmd_fuzz() {
    need_build
    need_clang
    part fuzz 86400 part_fuzz "${1:-}" "${2:-60}"
    finish
}

# What scripts/test and .ci/run share; sourced by bash after setup.sh, runs nothing itself.

beside_files=$(mktemp -d)
trap end_checks EXIT

# What still runs is ended, so that a failure elsewhere leaves nothing behind.
end_checks() {
  local file
  for file in "$beside_files"/*.pid; do
    [ ! -e "$file" ] || kill -- "-$(cat "$file")" 2>/dev/null || true
  done
  wait
  rm -rf "$beside_files"
}

# beside NAME COMMAND [ARGUMENT...]: runs it beside what follows, up to `joined NAME`.
beside() {
  local name=$1
  shift
  say "beside what follows: $name"
  set -m # a process group of its own, which end_checks can end as a whole
  ("$@") >"$beside_files/$name.log" 2>&1 </dev/null &
  set +m
  echo $! >"$beside_files/$name.pid"
}

# joined NAME: waits for its end, shows what it said, and returns its status.
joined() {
  local status=0
  wait "$(cat "$beside_files/$1.pid")" || status=$?
  rm "$beside_files/$1.pid"
  say "$1 said:"
  cat "$beside_files/$1.log" >&2
  [ "$status" -eq 0 ] || say "$1 failed"
  return "$status"
}

check() {
  say "$*"
  "$@"
}

# Lint, types and the floors' import rule.
check_code() {
  cd "$B1K_ROOT"
  export PATH="$B1K_ROOT/.venv/bin:$PATH"
  beside mypy mypy
  check ruff check .
  check ruff format --check .
  check lint-imports
  joined mypy
}

# run_tests [OPTION OF pytest...]: the last that is done, so that pytest's summary is printed last.
run_tests() {
  # More than eight would compile more twins than they save time.
  set -- -n auto --maxprocesses 8 --dist worksteal "$@"
  say "pytest $*"
  end_checks
  exec pytest "$@"
}

# Sourced by the other scripts, which it takes to the root of the project.
# PYTHON names the interpreter that environments are made with, 3.11 or newer.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# wait_for PID: waits until the process has ended, and gives its exit code; a
# wait that a trapped signal cuts short is taken up again.
wait_for() {
  local code=0
  wait "$1" || code=$?
  while kill -0 "$1" 2>/dev/null; do
    code=0
    wait "$1" || code=$?
  done
  return "$code"
}

# environment FOLDER PACKAGE...: makes a virtual environment with these
# packages (as pip takes them) unless it is there, and puts it on the PATH.
environment() {
  local folder=$1 python=${PYTHON:-python3} stamp wanted
  shift
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $python is not Python 3.11 or newer; set PYTHON=..." >&2
    exit 2
  fi
  # One stamp for each list of packages, written only after success.
  stamp=$folder/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)
  wanted=$(cat requirements.txt pyproject.toml | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing $* into $folder ..."
    "$python" -m venv "$folder" || exit 1
    # A pip as old as the interpreter may look for versions that go together
    # for a quarter of an hour.
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
      --upgrade pip || exit 1
    "$folder/bin/python" -m pip install --quiet "$@" || exit 1
    echo "$wanted" > "$stamp"
  fi
  export PATH="$PWD/$folder/bin:$PATH"
}

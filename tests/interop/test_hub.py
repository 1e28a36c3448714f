import os
import pathlib
import shlex

import pytest

from bert_jax.interop import hub
from tests.commands import python
from tests.errors import user_error
from tests.interop import hub_server

# In a new process, since huggingface_hub reads its variables once.
SCRIPT = """
import resource, sys, time
from bert_jax.interop import hub
from bert_jax.settings import UserError
assert "huggingface_hub" not in sys.modules
time.sleep = lambda seconds: None  # Between one attempt and the next.
*addresses, limit = sys.argv[1:]
if int(limit):
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
for where in addresses:
  try:
    print(hub.download(where))
  except UserError as error:
    print(f"UserError: {error}")
"""
READ = {
  "config.json": b"{}",
  "model.safetensors": bytes(range(256)) * 40,
  "tokenizer.json": b"{ }",
  "vocab.txt": "[PAD]\né\n".encode(),
  "modules.json": b"[]",
  "1_Pooling/config.json": b"{  }",
}
NOT_READ = {
  "README.md": b"# A model",
  "onnx/model.onnx": b"onnx",
  "pytorch_model.bin": b"pickle",
  "training_args.bin": b"pickle",
}
FILES = READ | NOT_READ
NOWHERE = "http://127.0.0.1:1"


def download(where, home, url, limit=0, **environment):
  """The folder that `hub.download` returns, and the message of its error."""
  (result,) = downloads([where], home, url, limit, **environment)
  return result


def downloads(addresses, home, url, limit=0, **environment):
  """The same for several addresses, in one new process."""
  ours = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("HF_", "TRANSFORMERS_"))
  }
  ours |= {"HF_HOME": str(home), "HF_ENDPOINT": url, "NO_PROXY": "127.0.0.1"}
  ran = python(SCRIPT, *addresses, limit, env=ours | environment)
  lines = ran.stdout.splitlines()
  assert len(lines) == len(addresses)
  mark = "UserError: "
  return [
    (None, line.removeprefix(mark))
    if line.startswith(mark)
    else (pathlib.Path(line), "")
    for line in lines
  ]


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


@pytest.mark.parametrize("where", ["hf://org/name@v1", "hf://name"])
def test_only_the_needed_files_are_downloaded_and_cached(tmp_path, where):
  revisions = ("main", "v1", hub_server.COMMIT)
  names = {"org/name": FILES, "name": FILES}
  with hub_server.serve(names, revisions=revisions) as server:
    folder, _ = download(where, tmp_path, server.url)
    assert contents(folder) == READ
    for file in NOT_READ:
      assert not server.gets(file)
    again, _ = download(where, tmp_path, server.url)
    assert again == folder
    assert len(server.gets("model.safetensors")) == 1
    count = len(server.requests)
    offline, _ = download(where, tmp_path, server.url, HF_HUB_OFFLINE="1")
    assert offline == folder
    assert len(server.requests) == count
  server_is_off, _ = download(where, tmp_path, server.url)
  assert server_is_off == folder


def test_errors_of_the_hub(tmp_path):
  messages = {
    "hf://org/other": "no such repository",
    "hf://org/name@v2": "no such revision",
    "hf://org/gated": "gated: ask for access on its page",
    "hf://org/forbidden": "status 403; set HF_TOKEN",
    "hf://org/down": "status 500",
    "hf://org/nothing": "it has no model.safetensors",
  }
  errors = {
    "org/gated": (403, "GatedRepo"),
    "org/forbidden": (403, ""),
    "org/down": (500, ""),
  }
  names = {"org/name": FILES, "org/nothing": {}}
  with hub_server.serve(names, errors=errors) as server:
    found = downloads(messages, tmp_path, server.url)
  for (where, message), (_, error) in zip(messages.items(), found):
    assert error.startswith(f"{where}: ")
    assert message in error


def test_the_access_token_is_sent_and_never_printed(tmp_path):
  with hub_server.serve({"org/name": FILES}, token="secret") as server:
    _, error = download("hf://org/name", tmp_path, server.url)
    assert "status 401; set HF_TOKEN or run `hf auth login`" in error
    _, error = download(
      "hf://org/name", tmp_path, server.url, HF_TOKEN="another"
    )
    assert "status 401" in error
    assert "another" not in error
    folder, _ = download(
      "hf://org/name", tmp_path, server.url, HF_TOKEN="secret"
    )
  assert contents(folder) == READ


@pytest.mark.parametrize(
  ("url", "offline", "message"),
  [
    (NOWHERE, "0", f"download from {NOWHERE} failed: Connect"),
    (NOWHERE, "1", "HF_HUB_OFFLINE is set"),
    ("localhost", "0", "download from localhost failed: "),
  ],
)
def test_offline_without_a_cached_copy(tmp_path, url, offline, message):
  _, error = download("hf://org/name", tmp_path, url, HF_HUB_OFFLINE=offline)
  assert message in error


def test_repositories_with_only_pickles(tmp_path):
  options = {
    "pytorch_model-00001-of-00002.bin": "",
    "tf_model.h5": "from_tf=True",
    "flax_model.msgpack": "from_flax=True",
  }
  names = {
    f"org/name{i}": {"config.json": b"{}", file: b"pickle"}
    for i, file in enumerate(options)
  }
  with hub_server.serve(names) as server:
    addresses = [f"hf://{name}@main" for name in names]
    found = downloads(addresses, tmp_path, server.url)
    assert not any(map(server.gets, options))
  for name, (file, option), (_, error) in zip(names, options.items(), found):
    assert f"found only {file}" in error
    program, flag, code = shlex.split(error[error.index("python -c") :])
    assert (program, flag) == ("python", "-c")
    compile(code, "command", "exec")
    start = f'from_pretrained("{name}", revision="main"{option and ", "}'
    assert start in code
    assert option in code


def test_an_interrupted_download_is_resumed(tmp_path):
  # A little more than the 10 MiB that huggingface_hub writes at a time.
  weights = os.urandom(100) * 110_000
  files = {"config.json": b"{}", "model.safetensors": weights}
  with hub_server.serve({"org/name": files}) as server:
    server.cuts["model.safetensors"] = (10_900_000, 1)
    folder, _ = download("hf://org/name", tmp_path, server.url)
    # Old versions do not retry within a call, but resume in the next one.
    folder = folder or download("hf://org/name", tmp_path, server.url)[0]
    whole, rest = server.gets("model.safetensors")
  assert (whole, rest) == ("", f"bytes={10 * 2**20}-")
  assert contents(folder) == files


def test_a_partial_download_is_not_used(tmp_path):
  with hub_server.serve({"org/name": FILES}) as server:
    server.cuts["model.safetensors"] = (0, 100)
    _, error = download("hf://org/name", tmp_path, server.url)
    assert f"download from {server.url} failed: " in error
    _, error = download(
      "hf://org/name", tmp_path, server.url, HF_HUB_OFFLINE="1"
    )
    assert "cached; " in error
    server.cuts.clear()
    folder, _ = download("hf://org/name", tmp_path, server.url)
  assert contents(folder) == READ


@pytest.mark.parametrize("climb", ["../../../../../", "a/../../../../../../"])
def test_files_outside_the_cache_are_refused(tmp_path, climb):
  file = climb + "outside.model"
  home = tmp_path / "home"
  with hub_server.serve({"org/name": READ | {file: b"evil"}}) as server:
    _, error = download("hf://org/name", home, server.url)
  assert "outside.model" in error
  assert list(tmp_path.iterdir()) == [home]


def test_absolute_files_are_not_written_there(tmp_path):
  file = str(tmp_path / "outside.model")
  home = tmp_path / "home"
  with hub_server.serve({"org/name": READ | {file: b"evil"}}) as server:
    # Some versions refuse it, others read it as a path in the repository.
    download("hf://org/name", home, server.url)
  assert list(tmp_path.iterdir()) == [home]


def test_a_full_disk_is_a_user_error(tmp_path):
  files = READ | {"model.safetensors": bytes(1_000_000)}
  with hub_server.serve({"org/name": files}) as server:
    _, error = download("hf://org/name", tmp_path, server.url, limit=500_000)
  assert "File too large" in error


def test_a_cache_folder_that_is_a_file(tmp_path):
  (tmp_path / "home").write_text("")
  with hub_server.serve({"org/name": FILES}) as server:
    _, error = download("hf://org/name", tmp_path / "home", server.url)
  assert "home" in error


@pytest.mark.parametrize(
  "where",
  [
    "hf://",
    "hf://org/",
    "hf://org/name/more",
    "hf://org/name@",
    "hf://org/name@../../main",
    "hf://org/name@/etc/main",
    "hf://org/name v1",
    "hf://org/n--ame",
    "hf://../name",
    "hf://org/näme",
    "org/name",
  ],
)
def test_malformed_repository_ids_are_refused(where):
  with user_error("expected hf://ORG/NAME"):
    hub.download(where)

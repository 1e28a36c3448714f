"""Folders of exports: written, opened without JAX, damaged."""

import functools
import json
import re
import shutil
import sys

import numpy as np
import pytest
from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message_factory,
  text_format,
)

import bert_jax
from bert_jax import exported
from bert_jax.checkpointing import manifest
from bert_jax.export import check, folder, onnx
from bert_jax.storage import paths
from bert_jax.tasks import TASKS
from bert_jax.tasks.targets.target import to_json
from tests import small
from tests.commands import mistake, output, python, run
from tests.errors import user_error
from tests.tasks import cases

LABELS = ("calm", "loud \ud83d")
ANSWERS = """
import json, sys
import bert_jax
from bert_jax.tasks.targets.target import to_json
home, records = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name, given in records.items():
  model = bert_jax.load(f"{home}/{name}")
  found[name] = model(given)
  assert isinstance(model.embed("a list").shape, tuple)
print(json.dumps([found, sorted(sys.modules)], default=to_json))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A classification model, and its export to ONNX."""
  home = tmp_path_factory.mktemp("exports")
  bert_jax.save(model(), home / "model", "bert_jax")
  folder.export(model(), home / "onnx")
  (home / "texts.txt").write_text("a list\n")
  return home


@pytest.fixture
def unchecked(monkeypatch):
  """Saves time: other tests compare what is exported with JAX."""
  monkeypatch.setattr(onnx, "check", lambda *_: 1e-7)
  monkeypatch.setattr(check, "compare", lambda *_: 1e-7)


@functools.cache
def model():
  given = cases.model("classification")
  task = given.task.with_targets(
    {"label": type(given.task.targets["label"])(labels=LABELS)}
  )
  return given.with_task(task)


def test_every_task_answers_the_same_without_jax(tmp_path, unchecked):
  records = {}
  for name in (name for name in TASKS if not TASKS[name].writes):
    folder.export(cases.model(name), tmp_path / name)
    records[name] = [cases.RECORDS[name], *cases.OTHERS[name]]
  done = python(ANSWERS, tmp_path, json.dumps(records))
  found, modules = json.loads(done.stdout)
  assert not {"jax", "flax", "scipy", "sklearn", "grain"} & {*modules}
  for name, given in records.items():
    wanted = json.loads(json.dumps(cases.model(name)(given), default=to_json))
    cases.assert_same(found[name], wanted)


def test_a_task_that_writes_is_no_program(tmp_path):
  model = cases.model("generation")
  with user_error("the task generation writes token by token, which only --to"):
    folder.export(model, tmp_path / "x")
  folder.export(model, tmp_path / "folder", to="huggingface")
  again = bert_jax.load(tmp_path / "folder")
  assert again.task.targets == model.task.targets


def test_a_run_is_exported_and_answers_the_same(home, tmp_path):
  out = output(
    "export", "--model=model", "--to=onnx", f"--output={tmp_path}/x", cwd=home
  )
  first, second = out.splitlines()
  assert re.fullmatch(rf"{tmp_path}/x: onnx, 0\.\d MB", first)
  assert second.startswith("largest difference from JAX: ")
  records = [cases.RECORDS["classification"], {"text": "it is a list"}]
  opened = bert_jax.load(tmp_path / "x")
  assert opened.task.state() == model().task.state()
  cases.assert_same(opened(records), model()(records))
  np.testing.assert_allclose(
    opened.embed(["names"]), model().embed(["names"]), atol=1e-6
  )
  # From the command line too.
  lines = output("predict", f"--model={tmp_path}/x", "--text=a list")
  assert {json.loads(line)["label"] for line in lines.splitlines()} == {*LABELS}


@pytest.mark.parametrize(
  "command",
  [
    ("export", "--model=onnx", "--to=onnx", "--output=x"),
    ("convert", "--to=bert_jax", "onnx", "x"),
    ("predict", "--model=onnx,model", "--combine=soup", "--text=a list"),
  ],
)
def test_what_needs_parameters_refuses_an_export(home, command):
  assert "onnx is an export, whose parameters" in mistake(*command, cwd=home)


def test_an_export_is_not_saved_as_a_model(home, tmp_path):
  with user_error("save: expected a model with parameters"):
    bert_jax.save(bert_jax.load(home / "onnx"), tmp_path / "x")


def test_the_manifest_and_the_card_say_what_it_is(home):
  about = json.loads((home / "onnx" / "manifest.json").read_text())
  assert about["format"] == "bert_jax.export"
  assert (about["kind"], about["runtime"]) == ("onnx", "standard")
  assert about["task"]["targets"]["label"]["labels"] == [*LABELS]
  assert about["encoder"]["hidden_size"] == 16
  assert about["encoder"]["dtype"] == "float32"
  assert {"jax", "numpy", "onnx", "onnxruntime"} <= about["versions"].keys()
  assert 0 <= about["largest_difference"] <= 1e-5
  assert about["inputs"][0] == {
    "name": "input_ids",
    "dtype": "int64",
    "shape": ["batch", "length"],
  }
  files = {"README.md", "model.onnx", "vocab.txt"}
  assert files <= about["files"].keys()
  card = (home / "onnx" / "README.md").read_text()
  assert "| `classifier` | float32 | [batch, 2] | logits |" in card
  assert "`calm`" in card


def code_of(card):
  """The part of a card that runs the model without bert_jax."""
  text = card.read_text().split("## Without bert_jax")[1]
  return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_stablehlo_runs_without_bert_jax(home, tmp_path):
  about = folder.export(model(), tmp_path / "x", "stablehlo", platforms=["cpu"])
  assert about["largest_difference"] == 0.0
  assert about["platforms"] == ["cpu"]
  head = (
    "import os, sys; sys.modules['bert_jax'] = None; os.chdir(sys.argv[1])\n"
  )
  code = head + code_of(tmp_path / "x" / "README.md")
  done = python(f"{code}print(outputs['classifier'].tolist())", tmp_path / "x")
  code = head + code_of(home / "onnx" / "README.md")
  found = python(f"{code}print(outputs[0].tolist())", home / "onnx")
  np.testing.assert_allclose(
    json.loads(done.stdout), json.loads(found.stdout), atol=1e-5
  )


def test_stablehlo_with_weights_inside_is_opened(tmp_path, unchecked):
  options = {"weights": "inside", "platforms": ["cpu"]}
  folder.export(model(), tmp_path / "x", "stablehlo", **options)
  files = {path.name for path in (tmp_path / "x").iterdir()}
  assert "model.stablehlo" in files and "weights.safetensors" not in files
  record = cases.RECORDS["classification"]
  cases.assert_same(bert_jax.load(tmp_path / "x")(record), model()(record))


FAULTS = {
  "model.onnx has other contents": lambda f: flip(f / "model.onnx", -40),
  "vocab.txt is missing": lambda f: (f / "vocab.txt").unlink(),
  "more.bin is not in its manifest.json": lambda f: (
    f / "more.bin"
  ).write_bytes(b""),
  "manifest.json cannot be read": lambda f: (f / "manifest.json").unlink(),
  "manifest.json cannot be read ": lambda f: (f / "manifest.json").write_text(
    "{"
  ),
  "manifest.json has other contents": lambda f: change(
    f / "manifest.json", "calm", "balm"
  ),
}


def flip(path, place):
  data = bytearray(path.read_bytes())
  data[place] ^= 1
  path.write_bytes(data)


def change(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_export_is_one_clear_line(home, tmp_path, fault):
  where = tmp_path / "x"
  shutil.copytree(home / "onnx", where)
  FAULTS[fault](where)
  with user_error(f"{where}: this export is damaged or incomplete: {fault}"):
    bert_jax.load(where)
  code, out, err = run("verify", home / "onnx", where)
  assert (code, err) == (1, "")
  first, second = out.splitlines()
  assert first == f"{home}/onnx: OK"
  assert second.startswith(f"{where}: {fault.strip()}")


def test_what_cannot_be_opened_is_refused(home, tmp_path):
  with user_error("engine of onnx: unknown 'jax'; known: auto, onnxruntime, "):
    exported.load(home / "onnx", engine="jax")
  with user_error("no such folder|expected the --workdir"):
    bert_jax.load(tmp_path / "nothing")
  shutil.copytree(home / "onnx", tmp_path / "x")
  about = manifest.read(tmp_path / "x")
  for key, value, message in (
    ("format_version", 2, "exported by a newer version of bert_jax"),
    ("kind", "savedmodel", "bert_jax does not run a savedmodel"),
    ("format", "other", "is not of an exported model"),
  ):
    changed = {k: v for k, v in about.items() if k != "checksum"}
    manifest.write(tmp_path / "x", about={**changed, key: value})
    with user_error(message):
      bert_jax.load(tmp_path / "x")


def test_an_export_in_a_store_is_opened_and_verified(home, s3, unchecked):
  arguments = ("--to=onnx", "--layout=triton", f"--output={s3}/tone")
  out = output("export", "--model=model", *arguments, cwd=home)
  assert out.startswith(f"{s3}/tone: onnx, 0.")
  record = cases.RECORDS["classification"]
  cases.assert_same(bert_jax.load(f"{s3}/tone")(record), model()(record))
  assert output("verify", f"{s3}/tone") == f"{s3}/tone: OK\n"
  paths.write_bytes(f"{s3}/tone/vocab.txt", b"")
  assert run("verify", f"{s3}/tone").out.startswith(
    f"{s3}/tone: vocab.txt has 0 bytes in place of"
  )


def test_hugging_face_folders_have_a_manifest(tmp_path):
  given = cases.model("classification")
  folder.export(given, tmp_path / "x", "huggingface")
  opened = bert_jax.load(tmp_path / "x")
  assert isinstance(opened, bert_jax.Model)
  record = cases.RECORDS["classification"]
  cases.assert_same(opened(record), given(record))
  assert output("verify", tmp_path / "x") == f"{tmp_path}/x: OK\n"
  (tmp_path / "x" / "config.json").write_text("{}")
  code, out, _ = run("verify", tmp_path / "x")
  assert code == 1
  assert "config.json has 2 bytes in place of" in out


def test_weights_of_8_bits_are_measured(home, tmp_path, unchecked):
  words = small.WORDS.replace("[ ] mask", "").split()
  texts = [" ".join(words[n % 7 : 3 + n]) for n in range(5, 30)]
  (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
  arguments = [
    "--to=onnx",
    f"--model={home}/model",
    "--bits=8",
    "--texts=texts.txt",
    "--output=x",
  ]
  out = output("export", *arguments, cwd=tmp_path)
  _, change, equal = out.splitlines()
  assert change.startswith("largest_change: ")
  assert equal.startswith("equal_answers: ")
  about = exported.read_manifest(tmp_path / "x")
  assert (about["bits"], about["runtime"]) == (8, "onnxruntime")
  assert about["measured"]["largest_change"] < 0.1
  assert "With weights of 8 bits" in (tmp_path / "x" / "README.md").read_text()
  assert bert_jax.load(tmp_path / "x")("the list")
  (tmp_path / "texts.txt").write_text("one\n")
  arguments[-1] = "--output=y"
  line = mistake("export", *arguments, cwd=tmp_path)
  assert "at least 20 texts to measure on, got 1" in line
  assert not (tmp_path / "y").exists()


# The parts of Triton's `ModelConfig` that are written; 9 is a string, 3 an
# int64, 11 a message.
TRITON = {
  "Config": [
    ("name", 9, ""),
    ("backend", 9, ""),
    ("max_batch_size", 3, ""),
    ("input", 11, "Tensor"),
    ("output", 11, "Tensor"),
    ("dynamic_batching", 11, "Batching"),
  ],
  "Tensor": [
    ("name", 9, ""),
    ("data_type", 14, "Type"),
    ("dims", 3, ""),
    ("reshape", 11, "Reshape"),
  ],
  "Reshape": [("shape", 3, "")],
  "Batching": [("max_queue_delay_microseconds", 3, "")],
}
REPEATED = {"input", "output", "dims", "shape"}


def parse_triton(text):
  file = descriptor_pb2.FileDescriptorProto(name="triton_config", package="t")
  types = file.enum_type.add(name="Type")
  for number, name in enumerate(("TYPE_INVALID", "TYPE_INT64", "TYPE_FP32")):
    types.value.add(name=name, number=number)
  for message, fields in TRITON.items():
    made = file.message_type.add(name=message)
    for number, (name, kind, of) in enumerate(fields, 1):
      made.field.add(
        name=name,
        number=number,
        type=kind,
        type_name=f".t.{of}" if of else None,
        label=3 if name in REPEATED else 1,
      )
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  found = pool.FindMessageTypeByName("t.Config")
  return text_format.Parse(text, message_factory.GetMessageClass(found)())


def test_a_model_of_triton_is_written(tmp_path, unchecked):
  folder.export(model(), tmp_path / "tone", layout="triton")
  config = parse_triton((tmp_path / "tone" / "config.pbtxt").read_text())
  assert (config.name, config.backend) == ("tone", "onnxruntime")
  assert config.max_batch_size > 1
  assert config.dynamic_batching.max_queue_delay_microseconds > 0
  inputs = {x.name: (x.data_type, [*x.dims]) for x in config.input}
  assert inputs.keys() == {"input_ids", "attention_mask", "token_type_ids"}
  assert {*map(str, inputs.values())} == {"(1, [-1])"}
  outputs = {x.name: (x.data_type, [*x.dims]) for x in config.output}
  assert outputs == {"classifier": (2, [2]), "token_embeddings": (2, [-1, 16])}
  assert (tmp_path / "tone" / "1" / "model.onnx").is_file()
  opened = bert_jax.load(tmp_path / "tone")
  record = cases.RECORDS["classification"]
  cases.assert_same(opened(record), model()(record))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("--to=onnx --output=x", "--model: missing"),
    ("--model=model --output=x", "--to: missing"),
    ("--model=model --to=onnx", "--output: missing"),
    ("--model=model --to=torchscript --output=x", "torchscript"),
    ("--model=nowhere --to=onnx --output=x", "nowhere: no such file or folder"),
    (
      "--model=model --to=onnx --output=onnx",
      "onnx is not empty; choose a",
    ),
    (
      "--model=model --to=tflite --output=x --weights=beside",
      "weights goes with onnx or stablehlo, not with tflite",
    ),
    ("--model=model --to=onnx --output=x --bits=8", "--bits and --texts go to"),
    (
      "--model=model --to=onnx --output=x --bits=4 --texts=texts.txt",
      "bits: expected 8, or 0 for float32, got 4",
    ),
    (
      "--model=model --to=onnx --output=x --bits=8 --texts=no.txt",
      "--texts: 'no.txt' matches no file",
    ),
    (
      "--model=model --to=savedmodel --output=x --length=3",
      "length goes with tflite, not with savedmodel",
    ),
    (
      "--model=model --to=stablehlo --output=x --platforms=gpu",
      "platforms: unknown 'gpu'",
    ),
    (
      "--model=model --to=onnx --layout=triton --output=a+b",
      "the folder's name is that of the model in Triton",
    ),
    (
      "--model=model,model --combine=ensemble --to=onnx --output=x",
      "an ensemble is several models, which no format holds",
    ),
  ],
)
def test_a_mistake_is_one_line(home, arguments, message):
  before = sorted(home.iterdir())
  assert message in mistake("export", *arguments.split(), cwd=home)
  assert sorted(home.iterdir()) == before


def test_a_missing_package_is_one_line(home, monkeypatch):
  monkeypatch.delattr(bert_jax.export, "onnx")
  for kind, module, extra in (
    ("onnx", "bert_jax.export.onnx", "export"),
    ("savedmodel", "tensorflow", "savedmodel"),
    ("tflite", "tensorflow", "savedmodel"),
  ):
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ("--model=model", f"--to={kind}", "--output=x")
    line = mistake("export", *arguments, cwd=home)
    assert f'pip install "bert_jax[{extra}]"' in line


def test_a_run_is_verified(home, tmp_path):
  where = tmp_path / "run"
  shutil.copytree(home / "model", where)
  step = where / "checkpoints" / "0"
  assert output("verify", f"{where}/") == f"{step}: OK\n{where}: OK\n"
  (where / "tokenizer" / "vocab.txt").write_text("[PAD]\n[UNK]\n")
  (step / "contents.json").unlink()
  code, out, err = run("verify", where)
  assert (code, err) == (1, "")
  assert f"{step}: contents.json is missing" in out
  assert f"{where}: " in out
  for wrong, message in (
    ((), "expected at least one FOLDER"),
    ((tmp_path / "no",), "no such folder"),
    ((tmp_path,), "it has no checkpoints and no manifest.json"),
  ):
    assert message in mistake("verify", *wrong)

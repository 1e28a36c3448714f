"""The curve of smaller models: its points, files and command."""

import dataclasses
import json

import jax

import bert_jax
from bert_jax.evaluation import tradeoff
from bert_jax.evaluation.tradeoff import Curve, Point
from bert_jax.model import Model
from bert_jax.models.exits import Exits
from launch import compress
from launch import tradeoff as command
from tests import pytrees, small
from tests.tasks import cases


def point(name, size, speedup, accuracy, method="layers"):
  return Point(
    name,
    method,
    (f"make {name}",),
    9,
    size,
    1.0,
    speedup,
    2.0,
    {"accuracy": accuracy},
  )


CURVE = Curve(
  "runs/<a>",
  "dev.tsv",
  "accuracy",
  [
    point(tradeoff.FULL, 100, 1.0, 0.9, tradeoff.FULL),
    point("a", 50, 2.0, 0.8),
    point("b", 60, 3.0, 0.7),
    point("c", 40, 0.9, 0.85, "bits"),
  ],
  {"heads 0.5": "its layers share parameters"},
)


def test_the_best_points_are_those_that_no_cheaper_one_equals():
  by_size = [x.name for x in CURVE.best(lambda x: x.bytes)]
  assert by_size == ["c", tradeoff.FULL]
  by_time = [x.name for x in CURVE.best(lambda x: 1 / x.speedup)]
  assert by_time == ["b", "a", tradeoff.FULL]
  near = dataclasses.replace(
    CURVE, points=[*CURVE.points, point("d", 30, 1.5, 0.893)]
  )
  advice = [*near.advice().values()]
  assert advice == ["d, 30% of the bytes", "d, 1.50x"]
  # Of an error, less is better.
  errors = dataclasses.replace(
    CURVE,
    metric="rmse",
    points=[
      dataclasses.replace(x, metrics={"rmse": x.metrics["accuracy"]})
      for x in CURVE.points
    ],
  )
  assert [x.name for x in errors.best(lambda x: x.bytes)] == ["c", "a", "b"]


def test_the_files_have_every_point(tmp_path):
  files = tradeoff.write(CURVE, tmp_path / "curve")
  assert all(file.exists() for file in files)
  found = json.loads((tmp_path / "curve" / "tradeoff.json").read_text())
  assert [x["name"] for x in found["points"]] == [x.name for x in CURVE.points]
  assert found["points"][1]["commands"] == ["make a"]
  page = (tmp_path / "curve" / "tradeoff.html").read_text()
  assert "make c" in page
  assert "its layers share parameters" in page
  assert "runs/&lt;a&gt;" in page and "<a>" not in page


def saved(folder):
  """A model with early exits."""
  encoder = dataclasses.replace(small.ENCODER, num_layers=2)
  task = cases.task("classification", config=encoder)
  task = task.with_exits(Exits(every=1, patience=1))
  model = Model(task, jax.device_put(pytrees.of_task(task)))
  bert_jax.save(model, folder, "bert_jax")


def test_how_rows_leave_is_saved(tmp_path, capsys):
  saved(tmp_path / "model")
  flags = [f"--model={tmp_path / 'model'}", "--exits=entropy=0.5"]
  assert compress.main([*flags, f"--output={tmp_path / 'fast'}"]) == 0
  exits = bert_jax.load(tmp_path / "fast").task.exits
  assert exits == Exits(every=1, entropy=0.5)
  flags += [f"--output={tmp_path / 'half'}", "--layers=1"]
  assert compress.main(flags) == 2
  assert "--layers leaves early exits out" in capsys.readouterr().err


def test_the_command_makes_points_and_goes_on(tmp_path, monkeypatch, capsys):
  saved(tmp_path / "model")
  rows = [{"text": x, "label": "LABEL_1"} for x in ("a list", "it sorts")]
  data = tmp_path / "dev.jsonl"
  data.write_text("".join(json.dumps(row) + "\n" for row in rows))
  made = []

  def run(arguments, folder):
    made.append(arguments)
    if not (tmp_path / "curve/points/bits-8").exists():
      assert compress.main(arguments[1:]) == 0

  monkeypatch.setattr(command, "_run", run)
  flags = ["--model", str(tmp_path / "model"), "--data", str(data)]
  flags += ["--output", str(tmp_path / "curve")]
  for _ in range(2):
    assert command.main([*flags, "--methods=bits=8,patience=1"]) == 0
  assert made[0] == made[1]
  found = json.loads((tmp_path / "curve/tradeoff.json").read_text())
  full, bits, patience = found["points"]
  assert bits["bytes"] < 0.5 * full["bytes"]
  assert full["layers"] == 2
  assert patience["layers"] <= 2
  assert "--exits=patience=1" in patience["commands"][0]
  assert "bert-jax compress" in bits["commands"][0]
  capsys.readouterr()
  for methods, message in (
    ("nothing", "--methods: expected some of layers"),
    ("heads", "--methods: heads needs --train"),
    ("patience=x", "--methods: patience=x: no number"),
  ):
    assert command.main([*flags, f"--methods={methods}"]) == 2
    assert message in capsys.readouterr().err

"""Speaks sentences with flite and adds noise: the audio to recognize.

`python -m examples.speech.speak MULTI30K FOLDER` reads the English side of
Multi30k and writes FOLDER/train.txt, the sentences for the language models,
and for `tune` (from its validation set) and `test` the spoken sentences
FOLDER/SPLIT.jsonl and their audio FOLDER/SPLIT/ID.wav. A second run goes on
where the first one stopped.
"""

import argparse
import functools
import gzip
import json
import multiprocessing.pool
import os
import pathlib
import re
import shutil
import subprocess
import sys
import wave

import numpy as np

SPLITS = {"tune": "val", "test": "test_2016_flickr"}
VOICES = ("slt", "rms", "awb", "kal16")  # those of 16 kHz


def read(path: pathlib.Path) -> list[str]:
  """Returns the sentences of a file, one a line, as words that are spoken."""
  try:
    with gzip.open(path, "rt", encoding="utf-8") as file:
      lines = file.read().lower().splitlines()
  except (OSError, EOFError) as error:
    sys.exit(f"{path}: {error}")
  return [" ".join(re.findall(r"[a-z]+(?:'[a-z]+)*", line)) for line in lines]


def noisy(samples: np.ndarray, snr: float, seed: int) -> np.ndarray:
  """Adds white noise, `snr` decibels below the speech, to int16 samples."""
  power = np.mean(samples.astype(np.float64) ** 2) / 10 ** (snr / 10)
  noise = np.random.default_rng(seed).normal(0, power**0.5, samples.shape)
  return np.clip(np.rint(samples + noise), -32768, 32767).astype(np.int16)


def speak(spoken: dict, folder: pathlib.Path, voice: str, snr: float) -> None:
  """Writes the audio of a sentence, unless it is there."""
  path = folder / f"{spoken['id']}.wav"
  if path.exists():
    return
  part = path.with_suffix(".part")
  command = ["flite", "-voice", voice, "-t", spoken["reference"], "-o", part]
  subprocess.run(command, check=True)
  with wave.open(str(part)) as file:
    parameters = file.getparams()
    samples = np.frombuffer(file.readframes(parameters.nframes), np.int16)
  with wave.open(str(part), "wb") as file:
    file.setparams(parameters)
    seed = int(spoken["id"].rpartition("-")[2])
    file.writeframes(noisy(samples, snr, seed).tobytes())
  os.replace(part, path)


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("multi30k", type=pathlib.Path)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--number", type=int, default=400, help="of each split")
  parser.add_argument("--snr", type=float, default=30, help="decibels")
  parser.add_argument("--voice", choices=VOICES, default=VOICES[0])
  given = parser.parse_args(arguments)
  if given.number < 1:
    parser.error(f"--number: expected at least 1, got {given.number}")
  if not shutil.which("flite"):
    sys.exit("flite is not installed: sudo apt-get install flite")
  train = read(given.multi30k / "train.en.gz")
  given.folder.mkdir(parents=True, exist_ok=True)
  settings = {"number": given.number, "snr": given.snr, "voice": given.voice}
  made = given.folder / "settings.json"
  if made.exists() and (other := json.loads(made.read_text())) != settings:
    sys.exit(f"{given.folder} was made with {other}; choose another folder")
  made.write_text(json.dumps(settings))
  seen = set(train)
  (given.folder / "train.txt").write_text("\n".join(train) + "\n")
  for split, name in SPLITS.items():
    sentences = read(given.multi30k / f"{name}.en.gz")
    rows = [
      {"id": f"{split}-{index}", "reference": sentence}
      for index, sentence in enumerate(sentences)
      if sentence and sentence not in seen
    ][: given.number]
    (given.folder / split).mkdir(exist_ok=True)
    one = functools.partial(
      speak, folder=given.folder / split, voice=given.voice, snr=given.snr
    )
    with multiprocessing.pool.ThreadPool() as pool:
      pool.map(one, rows, chunksize=1)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (given.folder / f"{split}.jsonl").write_text(lines)
    print(f"{split}: {len(rows)} sentences in {given.folder / split}")


if __name__ == "__main__":
  main()

"""Recognizes the audio with PocketSphinx and a bigram of the training text.

`python -m examples.speech.recognize FOLDER`, after `speak`, writes the 100
best hypotheses of each sentence to FOLDER/SPLIT.nbest.jsonl. A second run goes
on where the first one stopped.
"""

import argparse
import json
import math
import multiprocessing
import pathlib
import re
import sys
import wave

from examples.speech import arpa
from examples.speech.speak import SPLITS

# Several paths of the lattice have the same words, with other pauses and
# pronunciations; so many are read at most for each hypothesis.
PATHS = 20
# PocketSphinx's weight of the language model in its last pass, its default. A
# score is divided by it: the bigram's log probability, plus a part of that of
# the sounds.
WEIGHT = 9.5
# Its acoustic scores are shifted by 10 bits.
SHIFT = 1024


def write_dictionary(path: pathlib.Path, words: set[str]) -> None:
  """Writes the pronunciations of words: a line WORD or WORD(2), and sounds."""
  import pocketsphinx

  known = pathlib.Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
  with known.open(encoding="utf-8") as lines:
    found = [line for line in lines if re.split(r"[ (]", line)[0] in words]
  path.write_text("".join(found), encoding="utf-8")


def start(folder: pathlib.Path) -> None:
  """Loads the recognizer of this process."""
  global decoder
  import pocketsphinx

  decoder = pocketsphinx.Decoder(
    lm=str(folder / "bigram.arpa"),
    dict=str(folder / "words.dict"),
    bestpathlw=WEIGHT,
    cmn="batch",
    loglevel="FATAL",
  )


def recognize(path: pathlib.Path, number: int = 100) -> list[dict]:
  """Returns the best different texts of an audio file, best first."""
  with wave.open(str(path)) as file:
    audio = file.readframes(file.getnframes())
  # Forgets the noise of the sentence before, so that their order is nothing.
  decoder.reinit_feat()
  decoder.start_utt()
  decoder.process_raw(audio, full_utt=True)
  decoder.end_utt()
  scores = {}
  for _, found in zip(range(PATHS * number), decoder.nbest(), strict=False):
    score = math.log(found.score) * SHIFT / WEIGHT
    scores[found.hypstr] = max(score, scores.get(found.hypstr, -math.inf))
    if len(scores) == number:
      break
  scores = scores or {"": 0.0}  # Nothing was recognized.
  best = sorted(scores, key=scores.get, reverse=True)
  return [{"text": text, "score": round(scores[text], 3)} for text in best]


def whole_lines(path: pathlib.Path) -> int:
  """Returns the number of lines, after cutting one that is not finished."""
  with path.open("a+b") as file:
    file.seek(0)
    text = file.read()
    file.truncate(text.rfind(b"\n") + 1)
  return text.count(b"\n")


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("folder", type=pathlib.Path)
  folder = parser.parse_args(arguments).folder
  try:
    import pocketsphinx  # noqa: F401
  except ImportError:
    sys.exit("PocketSphinx is not installed: pip install pocketsphinx==5.1.1")
  for name in ("train.txt", *(f"{split}.jsonl" for split in SPLITS)):
    if not (folder / name).exists():
      sys.exit(f"{folder / name} is not there: run examples.speech.speak first")
  text = (folder / "train.txt").read_text()
  bigram = arpa.write(folder / "bigram.arpa", text.splitlines())
  write_dictionary(folder / "words.dict", set(text.split()))
  processes = multiprocessing.get_context("spawn")
  with processes.Pool(None, start, (folder,)) as pool:
    for split in SPLITS:
      output = folder / f"{split}.nbest.jsonl"
      lines = (folder / f"{split}.jsonl").read_text().splitlines()
      rows = [json.loads(line) for line in lines][whole_lines(output) :]
      paths = [folder / split / f"{row['id']}.wav" for row in rows]
      with output.open("a") as file:
        for row, found in zip(rows, pool.imap(recognize, paths), strict=True):
          for one in found:
            one["lm_score"] = round(bigram.score(one["text"].split()), 3)
          print(json.dumps({**row, "hypotheses": found}), file=file, flush=True)
      print(f"{split}: {len(lines)} sentences in {output}")


if __name__ == "__main__":
  main()

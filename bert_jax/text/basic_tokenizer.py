"""The basic tokenizer of BERT: normalizes text and splits it into words.

The rules are those of `BasicTokenizer` in google-research/bert: remove control
characters, separate CJK ideographs, lower-case, strip accents, split at white
space and around punctuation. As in `BertTokenizer` of Transformers, all
characters of the Unicode category C are removed; Google's code keeps those for
private use and unassigned ones.

`BertNormalizer` and `BertPreTokenizer` of the `tokenizers` library implement
the rules with Unicode tables of 2015 and some errors. Other components of the
library are used here where they differ from the Python code:

- marks, format characters and punctuation newer than those tables;
- capital sigma at the end of a word, which Python lower-cases to final sigma;
- U+2B820 to U+2B91F, ideographs that `BertNormalizer` does not separate;
- unassigned characters.

Two differences from Google's code remain: category C as above, and the Unicode
version, which is that of the regular expressions in `tokenizers`, so that ids
do not depend on the version of Python. `BertTokenizer` of Transformers has two
more: it composes characters (NFC) first, which matters for decomposed text with
case, and has no final sigma.
"""

import dataclasses

from tokenizers import Regex, normalizers, pre_tokenizers

# A capital sigma after a cased letter and not before one, with case-ignorable
# characters between them. The classes are disjoint and the groups atomic, so
# any text takes linear time.
_BETWEEN = r"(?>\p{Case_Ignorable}*)"
_CASED = r"[\p{Cased}&&\P{Case_Ignorable}]"
_FINAL_SIGMA = rf"{_CASED}{_BETWEEN}\KΣ(?!{_BETWEEN}{_CASED})"
_DROPPED = r"[\p{C}\x{FFFD}&&[^\t\n\r]]"
# ASCII characters other than letters, digits and spaces; the categories P*; and
# the ideographs that BertNormalizer does not separate.
_ALONE = r"[\p{P}!-/:-@\[-`{-~]"
_ALONE_AND_CJK = r"[\p{P}!-/:-@\[-`{-~\x{2B820}-\x{2B91F}]"


@dataclasses.dataclass(frozen=True)
class WordRules:
  """The options of the basic tokenizer.

  Attributes:
    lowercase: whether text is lower-cased (uncased models).
    strip_accents: whether accents are removed; None follows `lowercase`.
    split_cjk: whether each CJK ideograph is a word.
  """

  lowercase: bool = True
  strip_accents: bool | None = None
  split_cjk: bool = True


def normalizer(rules: WordRules) -> normalizers.Normalizer:
  """Normalizes text: all rules except splitting into words."""
  steps = [normalizers.Replace(Regex(_DROPPED), "")]
  if rules.lowercase:
    steps.append(normalizers.Replace(Regex(_FINAL_SIGMA), "ς"))
  steps.append(
    normalizers.BertNormalizer(
      clean_text=False,
      handle_chinese_chars=rules.split_cjk,
      strip_accents=False,
      lowercase=rules.lowercase,
    )
  )
  strips = rules.strip_accents
  if rules.lowercase if strips is None else strips:
    steps += [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
  return normalizers.Sequence(steps)


def pre_tokenizer(rules: WordRules) -> pre_tokenizers.PreTokenizer:
  """Splits normalized text at white space and around punctuation."""
  alone = _ALONE_AND_CJK if rules.split_cjk else _ALONE
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(alone), "isolated"),
      pre_tokenizers.WhitespaceSplit(),
    ]
  )

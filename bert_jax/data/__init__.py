"""Data: sources, corpora, pretraining examples, labelled records, batches.

`sources` reads documents and labelled records, `corpus` prepares a tokenized
corpus, `pretraining` makes examples of it. `stream`, `grouping` and `mixing`
order examples into batches, which `loader` prefetches.
"""

"""Models in Flax Linen: configuration, attention, layers, encoder and heads.

`config` and `presets` describe an encoder, `encoder` computes it, and `heads`
joins it with the output layers of tasks. `attention` selects among backends.
"""

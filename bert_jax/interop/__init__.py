"""Checkpoints of other libraries: Hugging Face, its Hub, and Google's releases.

`families` and `name_table` map parameter names, `safetensors_files` and
`tensorflow` read and write the files, and `published` opens any of them.
"""

"""Data sets that are prepared once and read in pieces: TFRecord shards, TensorFlow Datasets, the digits. Imports
`datasets` and below; `loading`, and the command that writes records, come here.
"""

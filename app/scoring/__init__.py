"""Answers about any number of pictures, into a file or a folder of parts, by a command that can be killed and goes on.
Imports `artefacts`, `run_folder`, `images` and below; commands come here.
"""

"""Pages that open without a server: one file, everything inside. Imports `datasets`, `run_folder` and below; training,
batch norm and studies come here.
"""

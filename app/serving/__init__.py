"""`serve`: the contract of TensorFlow Serving over HTTP, answered by an export. What starlette and uvicorn do not know:
JSON and tensors, routes, texts of errors. Imports `artefacts` and `program`; TensorFlow only to load a SavedModel.
"""

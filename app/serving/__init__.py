"""`serve`: the contract of TensorFlow Serving over HTTP, answered by an export. What starlette and uvicorn do not know:
JSON and tensors, routes, texts of errors. TensorFlow is imported to load a SavedModel alone. And a client.
"""

"""`serve`: the contract of TensorFlow Serving over HTTP and gRPC, and the Open Inference Protocol, answered by an
export. What starlette, uvicorn and grpcio do not know: JSON, messages and tensors, routes, texts of errors. TensorFlow
is imported to load a SavedModel alone. And a client.
"""

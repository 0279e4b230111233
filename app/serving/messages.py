"""The messages of TensorFlow Serving's gRPC services, described here once more: importing its stubs imports TensorFlow,
which takes seconds and hundreds of megabytes.

In the language of .proto files, and only what is answered or looked at: what else a client sends is kept unread. The
files are tensorflow_serving/{apis,config,sources/storage_path}/*.proto and, of TensorFlow,
core/framework/{tensor,tensor_shape,types}.proto and core/protobuf/meta_graph.proto. The examples of a request are bytes
here, since the network parses them; all messages are of their package, none inside another.
"""

import functools
import re
from typing import Any

MESSAGES = {
    "tensorflow": """
        enum DataType { DT_INVALID = 0; DT_FLOAT = 1; DT_DOUBLE = 2; DT_INT32 = 3; DT_UINT8 = 4; DT_INT16 = 5;
            DT_INT8 = 6; DT_STRING = 7; DT_COMPLEX64 = 8; DT_INT64 = 9; DT_BOOL = 10; DT_QINT8 = 11; DT_QUINT8 = 12;
            DT_QINT32 = 13; DT_BFLOAT16 = 14; DT_QINT16 = 15; DT_QUINT16 = 16; DT_UINT16 = 17; DT_COMPLEX128 = 18;
            DT_HALF = 19; DT_RESOURCE = 20; DT_VARIANT = 21; DT_UINT32 = 22; DT_UINT64 = 23; }
        message Dim { int64 size = 1; string name = 2; }
        message TensorShapeProto { repeated Dim dim = 2; bool unknown_rank = 3; }
        message TensorProto { DataType dtype = 1; TensorShapeProto tensor_shape = 2; bytes tensor_content = 4;
            repeated float float_val = 5; repeated double double_val = 6; repeated int32 int_val = 7;
            repeated bytes string_val = 8; repeated int64 int64_val = 10; repeated bool bool_val = 11;
            repeated int32 half_val = 13; repeated uint32 uint32_val = 16; repeated uint64 uint64_val = 17; }
        message TensorInfo { string name = 1; DataType dtype = 2; TensorShapeProto tensor_shape = 3; }
        message SignatureDef { map<string, TensorInfo> inputs = 1; map<string, TensorInfo> outputs = 2;
            string method_name = 3; map<string, TensorProto> defaults = 4; }
    """,
    "tensorflow.error": """
        enum Code { OK = 0; CANCELLED = 1; UNKNOWN = 2; INVALID_ARGUMENT = 3; DEADLINE_EXCEEDED = 4; NOT_FOUND = 5;
            ALREADY_EXISTS = 6; PERMISSION_DENIED = 7; UNAUTHENTICATED = 16; RESOURCE_EXHAUSTED = 8;
            FAILED_PRECONDITION = 9; ABORTED = 10; OUT_OF_RANGE = 11; UNIMPLEMENTED = 12; INTERNAL = 13;
            UNAVAILABLE = 14; DATA_LOSS = 15; }
    """,
    "tensorflow.serving": """
        enum State { UNKNOWN = 0; START = 10; LOADING = 20; AVAILABLE = 30; UNLOADING = 40; END = 50; }
        message ModelSpec { string name = 1; google.protobuf.Int64Value version = 2 of version_choice;
            string signature_name = 3; string version_label = 4 of version_choice; }
        message PredictRequest { ModelSpec model_spec = 1; map<string, tensorflow.TensorProto> inputs = 2;
            repeated string output_filter = 3; }
        message PredictResponse { map<string, tensorflow.TensorProto> outputs = 1; ModelSpec model_spec = 2; }
        message ExampleList { repeated bytes examples = 1; }
        message ExampleListWithContext { repeated bytes examples = 1; bytes context = 2; }
        message Input { ExampleList example_list = 1 of kind;
            ExampleListWithContext example_list_with_context = 2 of kind; }
        message Class { string label = 1; float score = 2; }
        message Classifications { repeated Class classes = 1; }
        message ClassificationResult { repeated Classifications classifications = 1; }
        message ClassificationRequest { ModelSpec model_spec = 1; Input input = 2; }
        message ClassificationResponse { ClassificationResult result = 1; ModelSpec model_spec = 2; }
        message RegressionRequest { ModelSpec model_spec = 1; Input input = 2; }
        message MultiInferenceRequest { Input input = 2; }
        message SignatureDefMap { map<string, tensorflow.SignatureDef> signature_def = 1; }
        message GetModelMetadataRequest { ModelSpec model_spec = 1; repeated string metadata_field = 2; }
        message GetModelMetadataResponse { ModelSpec model_spec = 1; map<string, google.protobuf.Any> metadata = 2; }
        message StatusProto { tensorflow.error.Code error_code = 1; string error_message = 2; }
        message ModelVersionStatus { int64 version = 1; State state = 2; StatusProto status = 3; }
        message GetModelStatusRequest { ModelSpec model_spec = 1; }
        message BatchingParameters { google.protobuf.Int64Value max_batch_size = 1;
            google.protobuf.Int64Value batch_timeout_micros = 2; google.protobuf.Int64Value max_enqueued_batches = 3;
            google.protobuf.Int64Value num_batch_threads = 4; google.protobuf.StringValue thread_pool_name = 5;
            repeated int64 allowed_batch_sizes = 6; bool pad_variable_length_inputs = 7;
            google.protobuf.BoolValue enable_large_batch_splitting = 8;
            google.protobuf.Int64Value max_execution_batch_size = 9; }
        message GetModelStatusResponse { repeated ModelVersionStatus model_version_status = 1; }
        enum ModelType { MODEL_TYPE_UNSPECIFIED = 0; TENSORFLOW = 1; OTHER = 2; }
        message Latest { uint32 num_versions = 1; }
        message All { }
        message Specific { repeated int64 versions = 1; }
        message ServableVersionPolicy { Latest latest = 100 of policy_choice; All all = 101 of policy_choice;
            Specific specific = 102 of policy_choice; }
        message LogCollectorConfig { string type = 1; string filename_prefix = 2; }
        message SamplingConfig { double sampling_rate = 1; }
        message LoggingConfig { LogCollectorConfig log_collector_config = 1; SamplingConfig sampling_config = 2; }
        message ModelConfig { string name = 1; string base_path = 2; ModelType model_type = 3;
            string model_platform = 4; LoggingConfig logging_config = 6;
            ServableVersionPolicy model_version_policy = 7; map<string, int64> version_labels = 8; }
        message ModelConfigList { repeated ModelConfig config = 1; }
        message ModelServerConfig { ModelConfigList model_config_list = 1 of config;
            google.protobuf.Any custom_model_config = 2 of config; }
        message ReloadConfigRequest { ModelServerConfig config = 1; }
        message ReloadConfigResponse { StatusProto status = 1; }
    """,
}
_BLOCK = re.compile(r"(enum|message) (\w+) \{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r"(?:(repeated) |map<string, ([\w.]+)> )?([\w.]+ )?(\w+) = (\d+)(?: of (\w+))?;")


def message(name: str) -> Any:
    """The class of a message, as "tensorflow.serving.PredictRequest"."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


@functools.cache
def pool() -> Any:
    """One of its own: the default one has messages of these names as soon as TensorFlow is imported."""
    from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, wrappers_pb2

    found = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        found.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    files = {package: descriptor_pb2.FileDescriptorProto(name=f"{package}.proto") for package in MESSAGES}
    for package, text in MESSAGES.items():
        file = files[package]
        file.package, file.syntax = package, "proto3"
        if package == "tensorflow.serving":
            before = (
                "tensorflow.proto",
                "tensorflow.error.proto",
                any_pb2.DESCRIPTOR.name,
                wrappers_pb2.DESCRIPTOR.name,
            )
            file.dependency.extend(before)
        enums = {name for block in MESSAGES.values() for kind, name, _ in _BLOCK.findall(block) if kind == "enum"}
        for kind, name, content in _BLOCK.findall(text):
            if kind == "enum":
                values = file.enum_type.add(name=name).value
                for *_, value, number, _ in _FIELD.findall(content):
                    values.add(name=value, number=int(number))
            else:
                _describe(file.message_type.add(name=name), package, content, enums)
        found.Add(file)
    return found


def _describe(described: Any, package: str, content: str, enums: set[str]) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    def add(to: Any, name: str, number: int, kind: str, **more: Any) -> Any:
        scalar = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}", None)
        if scalar is not None:
            return to.field.add(name=name, number=number, type=scalar, **more)
        type_ = (
            FieldDescriptorProto.TYPE_ENUM if kind.rpartition(".")[2] in enums else FieldDescriptorProto.TYPE_MESSAGE
        )
        full = f".{kind}" if "." in kind else f".{package}.{kind}"
        return to.field.add(name=name, number=number, type=type_, type_name=full, **more)

    for repeated, mapped, kind, name, number, choice in _FIELD.findall(content):
        label = FieldDescriptorProto.LABEL_REPEATED if repeated or mapped else FieldDescriptorProto.LABEL_OPTIONAL
        if mapped:
            entry = described.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            for each, of, what in (("key", 1, "string"), ("value", 2, mapped)):
                add(entry, each, of, what, label=FieldDescriptorProto.LABEL_OPTIONAL)
            add(described, name, int(number), f"{package}.{described.name}.{entry.name}", label=label)
            continue
        added = add(described, name, int(number), kind.strip(), label=label)
        if choice:
            if choice not in [each.name for each in described.oneof_decl]:
                described.oneof_decl.add(name=choice)
            added.oneof_index = [each.name for each in described.oneof_decl].index(choice)

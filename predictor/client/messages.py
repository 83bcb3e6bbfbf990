"""The messages of ModelInfer in the V2 protocol over gRPC, as far as the client uses them.

Names, numbers and types of the fields are those of KServe's `grpc_predict_v2.proto`. The classes are made here because
those in KServe's package come with its server and all that the server needs.
"""

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def _field(name: str, number: int, kind: str, repeated: bool = False) -> FieldDescriptorProto:
    """Describe a field; `kind` is a type of protobuf, or the name of a message."""
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = FieldDescriptorProto(name=name, number=number, label=label)
    if kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".inference.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    return field


_TENSOR = [
    _field("name", 1, "string"),
    _field("datatype", 2, "string"),
    _field("shape", 3, "int64", repeated=True),
    _field("contents", 5, "InferTensorContents"),
]
_MESSAGES = [
    DescriptorProto(
        name="InferTensorContents",
        field=[_field("fp32_contents", 6, "float", repeated=True), _field("bytes_contents", 8, "bytes", repeated=True)],
    ),
    DescriptorProto(
        name="ModelInferRequest",
        field=[
            _field("model_name", 1, "string"),
            _field("inputs", 5, "ModelInferRequest.InferInputTensor", repeated=True),
        ],
        nested_type=[DescriptorProto(name="InferInputTensor", field=_TENSOR)],
    ),
    DescriptorProto(
        name="ModelInferResponse",
        field=[
            _field("model_version", 2, "string"),
            _field("outputs", 5, "ModelInferResponse.InferOutputTensor", repeated=True),
        ],
        nested_type=[DescriptorProto(name="InferOutputTensor", field=_TENSOR)],
    ),
]
# A pool of our own: KServe registers the full messages under the same names in the default one.
_POOL = DescriptorPool()
_POOL.AddSerializedFile(
    FileDescriptorProto(
        name="grpc_predict_v2.proto", package="inference", syntax="proto3", message_type=_MESSAGES
    ).SerializeToString()
)
ModelInferRequest = GetMessageClass(_POOL.FindMessageTypeByName("inference.ModelInferRequest"))
ModelInferResponse = GetMessageClass(_POOL.FindMessageTypeByName("inference.ModelInferResponse"))

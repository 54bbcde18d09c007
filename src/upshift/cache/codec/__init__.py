"""Values as bytes, and values from bytes: no pickle, nothing that a byte could choose to have run.

Flows in: what cached functions return. Flows out: bytes for a store that other processes share, and from
them values that nobody else has.

Three forms
    The quickest that an annotation allows is taken, and at each value it is made sure, before it is kept,
    that it comes back as it was: equal, of the same types, to the time zone.

    =======  ============================================================================================
    typed    Annotations that say all: msgspec writes and reads msgpack from them, in C.
    models   With Pydantic models, and nothing that is mapped: a `TypeAdapter`.
    tagged   Everything else: msgpack, with a tag for what it has no type for. Classes with fields are those
             that the annotation names; mapped objects go by the columns of their mappers (`mapped`).
    =======  ============================================================================================

Never a wrong value
    A payload has the fingerprint of the shape that it was written for, the classes that the annotation
    reaches included, and of each mapper that it has objects of. After a deploy with other fields, another
    order of them, or other members of an enumeration it is not read. Whatever cannot be read is a
    `CodecError`, for a cache to take for a miss.

    Who can write to the store can write any value of the annotation's shape. That is all: no class is looked
    up by a name other than mapped ones, no code of the application runs but that of validators and of "load"
    events, and what is decompressed has a bound.
"""

from upshift.cache.codec.codec import COMPRESS_FROM, MAX_BYTES, Codec, codec_for, return_annotation_of
from upshift.cache.codec.copies import Copies, copies_of
from upshift.cache.codec.mapped.plan import Plans

__all__ = [
    "COMPRESS_FROM",
    "MAX_BYTES",
    "Codec",
    "Copies",
    "Plans",
    "codec_for",
    "copies_of",
    "return_annotation_of",
]

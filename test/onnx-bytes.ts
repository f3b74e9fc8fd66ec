// ONNX files of a few bytes, written field by field: what an attacker would write, and no library would.

/** One field of a protobuf message, of a stated length. */
export function field(number: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** A TensorProto whose data lie at `location`. */
export function external(location: string): Buffer {
  const entry = (key: string, value: string) =>
    field(13, Buffer.concat([field(1, key), field(2, value)]));
  return Buffer.concat([
    // dims: 1, data_type: FLOAT, data_location: EXTERNAL.
    Buffer.from([0x08, 1, 0x10, 1]),
    field(8, 'stolen'),
    entry('location', location),
    entry('length', '4'),
    Buffer.from([0x70, 1]),
  ]);
}

/** A GraphProto with one initializer. */
export function graphWith(location: string): Buffer {
  return field(5, external(location));
}

/** A ModelProto of the given parts. */
export function model(parts: { graph?: Uint8Array; more?: Uint8Array }): Buffer {
  return Buffer.concat([
    parts.graph ? field(7, parts.graph) : Buffer.of(),
    parts.more ?? Buffer.of(),
  ]);
}

// The edge in the browser: runs an export's edge.onnx in WebAssembly, writes a frame (docs/reference/wire.md) and sends it.

const here = new URL("../device/", import.meta.url);
const runtime = new URL("files/node_modules/onnxruntime-web/dist/", here);
const utf8 = new TextEncoder();

async function fetched(name) {
  const answer = await fetch(new URL(`files/${name}`, here));
  if (!answer.ok) throw new Error(`${name}: the page answers ${answer.status}`);
  return answer;
}

const loading = (async () => {
  const ort = await import(new URL("ort.wasm.min.mjs", runtime));
  ort.env.wasm.numThreads = 1; // more need a page that shares memory with no other
  ort.env.wasm.wasmPaths = runtime.href;
  const facts = await (await fetched("edge.json")).json();
  const graph = new Uint8Array(await (await fetched("edge.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return { ort, facts, session };
})();

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

// MessagePack of what a frame's header is made of, as pieces of bytes.
function packed(value) {
  const head = (kind, number) => {
    const bytes = new Uint8Array(5);
    bytes[0] = kind;
    new DataView(bytes.buffer).setUint32(1, number);
    return bytes;
  };
  if (value === null) return [Uint8Array.of(0xc0)];
  if (typeof value === "number") return [head(0xce, value)];
  if (typeof value === "string") {
    const bytes = utf8.encode(value);
    return [head(0xdb, bytes.length), bytes];
  }
  if (Array.isArray(value)) return [head(0xdd, value.length), ...value.flatMap(packed)];
  const entries = Object.entries(value);
  return [head(0xdf, entries.length), ...entries.flat().flatMap(packed)];
}

function padded(parts) {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return [...parts, new Uint8Array((64 - (length % 64)) % 64)];
}

async function pixels(file, size) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }); // upright, as its EXIF says
  const original = [bitmap.height, bitmap.width];
  const [height, width] = size ?? original;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return { rgb, original, sides: [height, width] };
}

// A frame's bytes, in pieces, and the ms of its stages.
async function frame(file) {
  const { ort, facts, session } = await loading;
  const begun = performance.now();
  const { rgb, original, sides } = await pixels(file, facts.size);
  const decoded = performance.now();
  const scale = Math.min(
    Math.fround(facts.min_size / Math.min(...sides)),
    Math.fround(facts.max_size / Math.max(...sides)),
  );
  const resized = sides.map((side) => Math.trunc(side * scale));
  const whole = resized.map((side) => Math.ceil(side / facts.divisor) * facts.divisor);
  const pair = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [2]);
  const given = facts.size ? {} : { resized: pair(resized), padded: pair(whole) };
  const found = await session.run({ image: new ort.Tensor("uint8", rgb, [...sides, 3]), ...given });
  const inferred = performance.now();
  const tensors = [];
  const body = [];
  for (const name of facts.tensors) {
    const { data, dims } = found[name];
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    tensors.push([name, "float32", [...dims], crc32(bytes), null, null]);
    body.push(...padded([bytes]));
  }
  const key = crc32(new Uint8Array(await file.arrayBuffer())).toString(16);
  const { model, weights } = facts;
  const header = packed({
    ...{ domain: "feature", model, weights, key, original, resized, padded: whole, tensors },
    ...(facts.features && { features: facts.features }),
    ...(facts.reduced && { extensions: { reduced: facts.reduced } }),
  });
  const raw = new Uint8Array(await new Blob(header).arrayBuffer());
  const prefix = new DataView(new ArrayBuffer(24));
  utf8.encodeInto("FEATLINK", new Uint8Array(prefix.buffer));
  prefix.setUint16(8, facts.wire, true);
  prefix.setUint16(10, 1, true); // checksums are CRC-32
  prefix.setUint32(12, raw.length, true);
  prefix.setUint32(16, crc32(raw), true);
  const times = { decode: decoded - begun, backbone: inferred - decoded, serialize: performance.now() - inferred };
  return { parts: [...padded([prefix.buffer, raw]), ...body], times };
}

addEventListener("message", async ({ data: { file, condition } }) => {
  try {
    const { facts } = await loading;
    const { parts, times } = await frame(file);
    const begun = performance.now();
    const query = new URLSearchParams({ condition: condition || facts.condition });
    const answer = await fetch(new URL(`frames?${query}`, here), {
      method: "POST",
      body: new Blob(parts),
      headers: { "featlink-report": JSON.stringify({ timings: times }) },
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.detail);
    postMessage({ result, times: { ...times, answer: performance.now() - begun } });
  } catch (error) {
    postMessage({ error: error.message });
  }
});

// From a file to pixels, by the browser's decoder: upright, no colours converted, what is transparent on white.

// Of the kinds that the network was trained on: what its header says.
function headerOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (text(0, 3) === "\xff\xd8\xff") return { kind: "JPEG", ...sizeOfJpeg(view) };
  if (text(0, 8) === "\x89PNG\r\n\x1a\n") return { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20) };
  if (text(0, 4) === "GIF8") return { kind: "GIF", width: view.getUint16(6, true), height: view.getUint16(8, true) };
  if (text(0, 2) === "BM") {
    if (view.getUint32(14, true) === 12) {
      return { kind: "BMP", width: view.getUint16(18, true), height: view.getUint16(20, true) };
    }
    return { kind: "BMP", width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true)) };
  }
  if (text(8, 4) === "WEBP") {
    const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16) + 1;
    if (text(12, 4) === "VP8X") return { kind: "WebP", width: three(24), height: three(27) };
    if (text(12, 4) === "VP8L") {
      const packed = view.getUint32(21, true);
      return { kind: "WebP", width: (packed & 0x3fff) + 1, height: ((packed >>> 14) & 0x3fff) + 1 };
    }
    return { kind: "WebP", width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  }
  if (/^ftyp(hei|hev|mif)/.test(text(4, 8))) {
    throw new Error("This is a HEIC file, which is not decoded here; save it as JPEG.");
  }
  throw new Error("This is no JPEG, PNG, GIF, WebP or BMP file.");
}

function sizeOfJpeg(view) {
  for (let at = 2; view.getUint8(at) === 0xff; ) {
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
    } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    } else {
      at += 2 + view.getUint16(at + 2);
    }
  }
  throw new RangeError();
}

// A Blob -> its pixels, RGBA: { data, width, height }. `limits` are of bytes, pixels and a side.
async function decoded(blob, limits) {
  const damaged = "This file is damaged or cut short.";
  // The header is within so much of all files but of some JPEGs with long texts before it.
  const bytes = new Uint8Array(await blob.slice(0, 2 ** 20).arrayBuffer());
  let header;
  try {
    header = headerOf(bytes);
  } catch (error) {
    throw error instanceof RangeError ? new Error(damaged) : error; // a header that is not all there
  }
  const { kind, width, height } = header;
  const fits = Math.min(width, height) > 0 && Math.max(width, height) <= limits.side && width * height <= limits.pixels;
  if (!fits || blob.size > limits.bytes) {
    throw new Error(
      `This ${kind} has ${blob.size} bytes and claims ${width} x ${height} pixels; at most ${limits.bytes} bytes, ` +
        `${limits.side} pixels a side and ${limits.pixels} in all are decoded.`,
    );
  }
  let bitmap;
  try {
    // Upright without being told so: some browsers of before 2024 have no word for it.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(damaged);
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const paper = canvas.getContext("2d", { alpha: false, willReadFrequently: true, colorSpace: "srgb" });
  paper.fillStyle = "white";
  paper.fillRect(0, 0, canvas.width, canvas.height);
  paper.drawImage(bitmap, 0, 0);
  bitmap.close();
  return paper.getImageData(0, 0, canvas.width, canvas.height);
}

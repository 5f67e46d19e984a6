// An image file to the model's input, as edgevit/preprocess/images.py does it: the same geometry, Pillow's resampling
// with its fixed-point arithmetic, float32 throughout. Decoding is the browser's own: PNG gives the same bytes, JPEG
// differs where decoders do, and half-transparent pixels may differ by one.

const PRECISION_BITS = 22;
const FILTERS = {
  bilinear: [1, (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0)],
  bicubic: [2, bicubic],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** The pixels of an image file, upright and over white: {width, height, data} with four bytes a pixel. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** One image as float32 (channels, height, width), flat, in the units of `spec` (the manifest's `preprocess`). */
export function imageTensor(image, spec) {
  const channels = spec.mode.length;
  const place = geometry(image.height, image.width, spec);
  const planes = planesOf(image, spec.mode).map((plane) =>
    resized(plane, image.width, image.height, place.width, place.height, spec.interpolation),
  );
  const [height, width] = spec.size;
  const tensor = new Float32Array(channels * height * width);
  let index = 0;
  for (let channel = 0; channel < channels; channel++) {
    const mean = Math.fround(spec.mean[channel]);
    const std = Math.fround(spec.std[channel]);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = planes[channel][(place.top + y) * place.width + place.left + x];
        tensor[index++] = Math.fround(Math.fround(Math.fround(value / 255) - mean) / std);
      }
    }
  }
  return tensor;
}

function geometry(height, width, spec) {
  const [goalHeight, goalWidth] = spec.size.map((side) => Math.floor(side / spec.crop_fraction));
  let resizedHeight = goalHeight;
  let resizedWidth = goalWidth;
  if (spec.resize !== "exact") {
    if (goalHeight === goalWidth) {
      const longer = Math.trunc((goalHeight * Math.max(height, width)) / Math.min(height, width));
      [resizedHeight, resizedWidth] = height <= width ? [goalHeight, longer] : [longer, goalHeight];
    } else {
      const ratio = Math.min(height / goalHeight, width / goalWidth);
      [resizedHeight, resizedWidth] = [roundToEven(height / ratio), roundToEven(width / ratio)];
    }
  }
  return {
    height: resizedHeight,
    width: resizedWidth,
    top: roundToEven((resizedHeight - spec.size[0]) / 2),
    left: roundToEven((resizedWidth - spec.size[1]) / 2),
  };
}

function roundToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function planesOf(image, mode) {
  const count = image.width * image.height;
  const pick = (weigh) => {
    const plane = new Uint8Array(count);
    for (let i = 0; i < count; i++) plane[i] = weigh(image.data[4 * i], image.data[4 * i + 1], image.data[4 * i + 2]);
    return plane;
  };
  const one = {
    R: (r) => r,
    G: (_, g) => g,
    B: (_, __, b) => b,
    L: (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16,
  };
  return [...mode].map((letter) => pick(one[letter]));
}

/** One plane of bytes resized as Pillow does: rows first, then columns, each only where the size changes. */
function resized(plane, width, height, goalWidth, goalHeight, interpolation) {
  if (interpolation === "nearest") return nearest(plane, width, height, goalWidth, goalHeight);
  let result = plane;
  if (goalWidth !== width) {
    const taps = coefficients(width, goalWidth, interpolation);
    const rows = new Uint8Array(goalWidth * height);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < goalWidth; x++) rows[y * goalWidth + x] = weighted(result, y * width, 1, taps[x]);
    result = rows;
  }
  if (goalHeight !== height) {
    const taps = coefficients(height, goalHeight, interpolation);
    const columns = new Uint8Array(goalWidth * goalHeight);
    for (let y = 0; y < goalHeight; y++)
      for (let x = 0; x < goalWidth; x++) columns[y * goalWidth + x] = weighted(result, x, goalWidth, taps[y]);
    result = columns;
  }
  return result;
}

function weighted(values, start, stride, tap) {
  let sum = 2 ** (PRECISION_BITS - 1);
  for (let i = 0; i < tap.weights.length; i++) sum += values[start + (tap.first + i) * stride] * tap.weights[i];
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION_BITS)));
}

/** For every output position the first input it reads and its weights, in units of 2⁻²², as in Pillow's Resample.c. */
function coefficients(size, goal, interpolation) {
  const [reach, filter] = FILTERS[interpolation];
  const scale = size / goal;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  return Array.from({ length: goal }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    let total = 0;
    for (let i = 0; i < last - first; i++) {
      const weight = filter((i + first - center + 0.5) * (1 / stretch));
      weights.push(weight);
      total += weight;
    }
    const fixed = weights.map((weight) => {
      const value = (total === 0 ? weight : weight / total) * 2 ** PRECISION_BITS;
      return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    });
    return { first, weights: fixed };
  });
}

function nearest(plane, width, height, goalWidth, goalHeight) {
  const [rows, columns] = [positions(height, goalHeight), positions(width, goalWidth)];
  const result = new Uint8Array(goalWidth * goalHeight);
  for (let y = 0; y < goalHeight; y++)
    for (let x = 0; x < goalWidth; x++) result[y * goalWidth + x] = plane[rows[y] * width + columns[x]];
  return result;
}

/** The input that each output is nearest to. Pillow adds the step up, and so rounds as a sum does, not a product. */
function positions(size, goal) {
  const step = size / goal;
  let position = step * 0.5;
  return Array.from({ length: goal }, () => {
    const found = Math.trunc(position);
    position += step;
    return found;
  });
}

function bicubic(x) {
  const a = -0.5;
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

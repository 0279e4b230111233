// A picture at the network's size: the preprocessing of the run, as app/images/preprocessing.py defines it.
// `how` has its height, width, colour, resize, antialias, aspect, crop and mean.

// How each side is resampled, in whole pixels: `taken` of them from `low` on become `whole`, of which those from `shift`
// on are kept.
function axesOf(rows, columns, how) {
  if (how.aspect !== "keep") {
    const [down, across] = [rows, columns].map((side) => {
      const low = Math.floor((side - side * how.crop) / 2 + 1e-3);
      return { low, taken: side - 2 * low };
    });
    const tall = down.taken * how.width > across.taken * how.height, pad = how.aspect === "pad";
    const fitting = (axis, other, size, whole) => {
      const fit = Math.max(1, Math.floor((whole * axis.taken + 0.5) / other.taken));
      return { ...axis, whole: fit, shift: -Math.floor((size - fit) / 2) };
    };
    return [
      pad && !tall ? fitting(down, across, how.height, how.width) : { ...down, whole: how.height, shift: 0 },
      pad && tall ? fitting(across, down, how.width, how.height) : { ...across, whole: how.width, shift: 0 },
    ];
  }
  const height = Math.floor(how.height / how.crop + 1e-6), width = Math.floor(how.width / how.crop + 1e-6);
  const tall = rows * width > columns * height;
  const covering = (taken, whole, size) => ({ low: 0, taken, whole, shift: halfOf(whole - size) });
  return [
    covering(rows, tall ? Math.floor((width * rows + 0.5) / columns) : height, how.height),
    covering(columns, tall ? width : Math.floor((height * columns + 0.5) / rows), how.width),
  ];
}

// Of a whole number; halves to the even neighbour.
function halfOf(number) {
  const low = Math.floor(number / 2);
  return number % 2 && low % 2 ? low + 1 : low;
}

// The weights that make `size` pixels of a line of `side`: for each the first pixel that counts, and the weights from it
// on, of sum 1; or of 0, where it lies outside the picture.
function filterOf(side, axis, size, how) {
  const scale = axis.taken / axis.whole, widened = how.antialias ? Math.max(scale, 1) : 1;
  const cubic = how.resize === "bicubic", reach = (cubic ? 2 : 1) * widened;
  const cropped = how.aspect !== "keep" && how.crop < 1;
  const lowest = cropped ? axis.low : 0, highest = (cropped ? axis.low + axis.taken : side) - 1;
  return Array.from({ length: size }, (_, place) => {
    const outside = place + axis.shift < 0 || place + axis.shift >= axis.whole;
    if (outside) return { first: lowest, weights: Float64Array.of(0), outside };
    const wanted = axis.low + (place + axis.shift + 0.5) * scale - 0.5;
    const first = Math.max(lowest, Math.ceil(wanted - reach)), last = Math.min(highest, Math.floor(wanted + reach));
    const weights = [];
    for (let pixel = first; pixel <= last; pixel++) {
      const distance = Math.abs(wanted - pixel) / widened;
      weights.push(cubic ? keys(distance) : Math.max(0, 1 - distance));
    }
    const sum = weights.reduce((all, weight) => all + weight, 0);
    return { first, weights: Float64Array.from(weights, (weight) => weight / sum), outside };
  });
}

// Keys' cubic convolution with a = -0.5.
function keys(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// RGBA bytes -> RGB of 0 to 255, Float32Array (how.height, how.width, 3): two products of matrices, columns and rows.
function resized(pixels, rows, columns, how) {
  const [down, across] = axesOf(rows, columns, how);
  const vertical = filterOf(rows, down, how.height, how), horizontal = filterOf(columns, across, how.width, how);
  const top = Math.min(...vertical.map(({ first }) => first));
  const bottom = Math.max(...vertical.map(({ first, weights }) => first + weights.length));
  const narrow = new Float32Array((bottom - top) * how.width * 3);
  for (let row = top, to = 0; row < bottom; row++) {
    for (const { first, weights } of horizontal) {
      let red = 0, green = 0, blue = 0;
      for (let tap = 0, from = 4 * (row * columns + first); tap < weights.length; tap++, from += 4) {
        red += weights[tap] * pixels[from];
        green += weights[tap] * pixels[from + 1];
        blue += weights[tap] * pixels[from + 2];
      }
      narrow[to++] = red;
      narrow[to++] = green;
      narrow[to++] = blue;
    }
  }
  const line = how.width * 3, small = new Float32Array(how.height * line);
  const fill = how.colour === "BGR" ? [...how.mean].reverse() : how.mean;  // laid around a picture: what becomes 0
  vertical.forEach(({ first, weights, outside }, row) => {
    for (let place = 0; place < line; place++) {
      if (outside || horizontal[Math.floor(place / 3)].outside) {
        small[row * line + place] = fill[place % 3];
        continue;
      }
      let sum = 0;
      for (let tap = 0, from = (first - top) * line + place; tap < weights.length; tap++, from += line) {
        sum += weights[tap] * narrow[from];
      }
      small[row * line + place] = sum;
    }
  });
  return small;
}

// Normalization, quantization, and everything over single elements.

#include "check.h"

static const size_t extents[] = {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 64, 65, 97, 257};

static const clip_quantization quantizations[] = {
    {2, 128, 1, 255}, {31.75f, 0, 0, 255}, {100, 7, 0, 255}, {9, 8, 1, 15}};

static void layer_norm(check *c, size_t width) {
  enum { rows = 3 };
  const size_t stride = width + 1;
  begin_case("layer norm of %zu columns", width);
  const clip_f32_layer_norm_arguments t = {
      .input = random_floats(c, rows * width, 3, 7), .input_stride = width, .width = width,
      .gamma = random_floats(c, width, -1, 1), .beta = random_floats(c, width, -1, 1),
      .epsilon = 1e-5f,
      .output = {
          .f32 = memory(rows * stride * sizeof(float)), .f32_stride = stride,
          .qu8 = memory(rows * stride), .qu8_stride = stride,
          .quantization = {40, 100, 0, 255}}};
  c->kernels->f32_layer_norm(&t, all(rows));
  double *tolerance = memory(rows * stride * sizeof(double));
  for (size_t i = 0; i < rows * stride; i += 1) {
    tolerance[i] = i % stride == width ? 0 : 4e-6;
  }
  close_to(c, t.output.f32, tolerance, rows * stride);
  // Codes are those of the set's own floats.
  uint8_t *codes = memory(stride);
  for (size_t row = 0; row < rows; row += 1) {
    bool is_right = t.output.qu8[row * stride + width] == 0x55;
    c->kernels->f32_quantize(t.output.f32 + row * stride, width, t.output.quantization, codes);
    for (size_t i = 0; i < width; i += 1) {
      is_right = is_right && codes[i] == t.output.qu8[row * stride + i];
    }
    hold(c, is_right);
  }
  end_case();
}

static void l2_norm(check *c, size_t count, float factor) {
  begin_case("normalization of %zu elements of size %g", count, (double)factor);
  float *output = memory((count + 1) * sizeof(float));
  const float *input = random_floats(c, count, -factor, factor);
  c->kernels->f32_l2_normalize(input, count, output);
  same(c, output, (count + 1) * sizeof(float));
  end_case();
}

void check_rows(check *c) {
  for (size_t i = 0; i < COUNT_OF(extents); i += 1) {
    if (extents[i] > 1) layer_norm(c, extents[i]);
    l2_norm(c, extents[i], 0);
    l2_norm(c, extents[i], 1);
    l2_norm(c, extents[i], 1e-18f);
    l2_norm(c, extents[i], 1e18f);
  }
  layer_norm(c, 768);
}

// Quarters, of which many are half way between two codes, extremes and what is not a number.
static float *awkward_floats(check *c, size_t count) {
  static const float extremes[] = {
      __builtin_inff(), -__builtin_inff(), 3.4e38f, -3.4e38f, -0.0f, 1e-45f, 0, __builtin_nanf("")};
  float *result = memory(count * sizeof(float));
  for (size_t i = 0; i < count; i += 1) {
    const uint64_t number = next_random(c);
    result[i] = number % 7 == 0 ? extremes[number / 7 % COUNT_OF(extremes)]
                                : (float)((int)(number >> 32 & 1023) - 512) / 4;
  }
  return result;
}

static void quantizations_of(check *c, size_t count) {
  const size_t size = (count + 1) * sizeof(float);
  for (size_t i = 0; i < COUNT_OF(quantizations); i += 1) {
    begin_case("quantization %zu of %zu elements", i, count);
    const float *input = awkward_floats(c, count);
    uint8_t *codes = memory(count + 1);
    float *floats = memory(size);
    c->kernels->f32_quantize(input, count, quantizations[i], codes);
    same(c, codes, count + 1);
    c->kernels->f32_simulate(input, count, quantizations[i], 0.37f, floats);
    same(c, floats, size);
    end_case();
  }
  for (size_t bits = 2; bits <= 8; bits += 1) {
    begin_case("quantization of a row of %zu elements to %zu bits", count, bits);
    const uint8_t zero = (uint8_t)(1 << (bits - 1)), highest = (uint8_t)(2 * zero - 1);
    const clip_quantization q = {__builtin_nanf(""), zero, 1, highest};
    float *input = random_floats(c, count, bits % 2 ? -3e-20f : -1, bits % 2 ? 1e-20f : 1);
    if (count > 3 && bits == 3) input[2] = __builtin_nanf("");
    uint8_t *codes = memory(count + 1);
    const float scale = c->kernels->f32_quantize_row(input, count, q, codes);
    same(c, codes, count + 1);
    same(c, &scale, sizeof(scale));
    end_case();
  }
}

static void sums_and_activations(check *c, size_t count) {
  const size_t size = (count + 1) * sizeof(float);
  begin_case("sums and activations of %zu elements", count);
  const float *left = random_floats(c, count, -1, 1), *right = random_floats(c, count, -20, 20);
  float *output = memory(size);
  c->kernels->f32_add(left, right, count, output);
  same(c, output, size);
  c->kernels->qs8_dequantize(random_codes(c, count, 8), count, 0.37f, output);
  same(c, output, size);
  c->kernels->f32_activate(right, count, CLIP_ACTIVATION_QUICK_GELU, output);
  same(c, output, size);
  c->kernels->f32_activate(right, count, CLIP_ACTIVATION_GELU, output);
  same(c, output, size);
  c->kernels->f32_activate(right, count, CLIP_ACTIVATION_NONE, output);
  same(c, output, size);
  end_case();
}

// From far below to far above what the activation functions change.
static void activation_grid(check *c) {
  enum { count = 24001 };
  begin_case("grid of activations");
  float *x = memory(count * sizeof(float)), *y = memory(count * sizeof(float));
  for (int i = 0; i < count; i += 1) x[i] = (float)(i - count / 2) * 0.00125f;
  x[0] = -1e30f;
  x[count - 1] = 1e30f;
  c->kernels->f32_activate(x, count, CLIP_ACTIVATION_QUICK_GELU, y);
  same(c, y, count * sizeof(float));
  c->kernels->f32_activate(x, count, CLIP_ACTIVATION_GELU, y);
  same(c, y, count * sizeof(float));
  end_case();
}

void check_elements(check *c) {
  for (size_t i = 0; i < COUNT_OF(extents); i += 1) {
    quantizations_of(c, extents[i]);
    sums_and_activations(c, extents[i]);
  }
  activation_grid(c);
}

void check_patches(check *c) {
  // Side of a patch, height and width of the image.
  static const size_t shapes[][3] = {
      {1, 2, 3}, {3, 7, 10}, {14, 28, 29}, {16, 32, 48}, {32, 64, 32}, {7, 7, 23}};
  for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
    const size_t side = shapes[i][0], height = shapes[i][1], width = shapes[i][2];
    const size_t count = (height / side) * (width / side), stride = 3 * side * side + 1;
    begin_case("patches of %zu in %zu x %zu", side, height, width);
    const clip_f32_unfold_arguments t = {
        .pixels = random_floats(c, 3 * height * width, -2, 2), .channels = 3, .height = height,
        .width = width, .patch = side,
        .output = {
            .f32 = memory(count * stride * sizeof(float)), .f32_stride = stride,
            .qu8 = memory(count * stride), .qu8_stride = stride,
            .quantization = {60, 120, 0, 255}}};
    c->kernels->f32_unfold(&t, clip_range_part(count, 2, 0));
    c->kernels->f32_unfold(&t, clip_range_part(count, 2, 1));
    same(c, t.output.f32, count * stride * sizeof(float));
    same(c, t.output.qu8, count * stride);
    end_case();
  }
}

// Products of integers and of floats with panels, and with weights that are mostly zero.

#include "check.h"

#include <math.h>
#include <string.h>

static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 29, 0};
static const size_t output_counts[] = {1, 5, 16, 17, 31, 33, 64, 65, 97, 130};
static const size_t input_counts[] = {1, 3, 4, 5, 7, 8, 9, 12, 13, 16, 20, 31, 33, 64, 67, 97, 0};

static const clip_activation activations[] = {
    CLIP_ACTIVATION_NONE, CLIP_ACTIVATION_QUICK_GELU, CLIP_ACTIVATION_GELU};

typedef struct shape {
  size_t rows, outputs, inputs;
  // What else a case has follows from its number.
  size_t number;
} shape;

// Calls `run` on every number of rows with every number of inputs.
static void for_shapes(check *c, void (*run)(check *c, shape s)) {
  size_t number = 0;
  for (size_t r = 0; r < COUNT_OF(row_counts); r += 1) {
    for (size_t k = 0; k < COUNT_OF(input_counts); k += 1) {
      number += 1;
      run(c, (shape){row_counts[r], output_counts[number % COUNT_OF(output_counts)],
                     input_counts[k], number});
      end_case();
    }
  }
}

// Rows of outputs have a column more than the product, or three, that are to be left alone.
static clip_epilogue epilogue_of(check *c, shape s, bool has_codes) {
  clip_epilogue e = {.activation = activations[s.number % 3], .residual_stride = s.outputs};
  if (s.number % 2 == 0) e.bias = random_floats(c, s.outputs, -1, 1);
  if (s.number % 5 < 3) e.residual = random_floats(c, s.rows * s.outputs, -1, 1);
  e.output.f32 = memory(s.rows * (s.outputs + 1) * sizeof(float));
  e.output.f32_stride = s.outputs + 1;
  if (has_codes) {
    e.output.qu8 = memory(s.rows * (s.outputs + 3));
    e.output.qu8_stride = s.outputs + 3;
    e.output.quantization = (clip_quantization){37.25f, 128, 1, 255};
  }
  return e;
}

// The product by its definition, wherever no activation or residual follows.
static void hold_definition(
    check *c, shape s, const clip_qu8_qs8w_gemm_arguments *t, const int8_t *codes) {
  bool is_right = true;
  if (t->epilogue.activation != CLIP_ACTIVATION_NONE || t->epilogue.residual) return;
  for (size_t m = 0; m < s.rows; m += 1) {
    for (size_t n = 0; n < s.outputs; n += 1) {
      int32_t sum = -t->correction[n];
      for (size_t k = 0; k < s.inputs; k += 1) {
        sum += t->activations[m * t->activations_stride + k] * codes[n * s.inputs + k];
      }
      // Volatile, so that no two operations become one.
      volatile float y = (float)sum * t->scale[n];
      if (t->row_scale) y = y * t->row_scale[m * t->row_scale_stride];
      if (t->epilogue.bias) y = y + t->epilogue.bias[n];
      is_right = is_right && t->epilogue.output.f32[m * (s.outputs + 1) + n] == y;
    }
  }
  hold(c, is_right);
}

static void integer_product(check *c, shape s) {
  begin_case("integer product %zu x %zu x %zu", s.rows, s.outputs, s.inputs);
  const size_t stride = (s.inputs + 3) / 4 * 4 + s.number % 2 * 4;
  const int8_t *codes = random_codes(c, s.outputs * s.inputs, 8);
  int32_t *correction = memory(s.outputs * sizeof(int32_t));
  for (size_t n = 0; n < s.outputs; n += 1) {
    correction[n] = (int32_t)(next_random(c) % 100000) - 50000;
  }
  clip_qu8_qs8w_gemm_arguments t = {
      .activations = random_bytes(c, s.rows * stride), .activations_stride = stride,
      .weights = code_panels(codes, s.outputs, s.inputs), .output_count = s.outputs,
      .input_count = s.inputs, .scale = random_floats(c, s.outputs, 0.00001f, 0.0005f),
      .correction = correction, .row_scale_stride = 3,
      .row_scale = s.number % 4 == 1 ? random_floats(c, 3 * s.rows, -1, 1) : NULL,
      .epilogue = epilogue_of(c, s, true)};
  // Two pieces of rows by two of panels.
  for (size_t part = 0; part < 4; part += 1) {
    c->kernels->qu8_qs8w_gemm(
        &t, clip_range_part(s.rows, 2, part / 2),
        clip_range_part(panel_count(s.outputs), 2, part % 2));
  }
  same(c, t.epilogue.output.f32, s.rows * (s.outputs + 1) * sizeof(float));
  same(c, t.epilogue.output.qu8, s.rows * (s.outputs + 3));
  hold_definition(c, s, &t, codes);
}

// The sum of the largest magnitude at the greatest depth allowed.
static void deepest_product(check *c) {
  enum { depth = 65536 };
  begin_case("integer product of depth %d", depth);
  uint8_t *row = memory(depth);
  int8_t *codes = memory(2 * depth);
  float *output = memory(2 * sizeof(float));
  for (size_t k = 0; k < depth; k += 1) {
    row[k] = 255;
    codes[k] = -127;
    codes[depth + k] = 127;
  }
  const float ones[2] = {1, 1};
  const clip_qu8_qs8w_gemm_arguments t = {
      .activations = row, .activations_stride = depth, .weights = code_panels(codes, 2, depth),
      .output_count = 2, .input_count = depth, .scale = memory_of(ones, sizeof(ones)),
      .epilogue = {.output = {.f32 = output, .f32_stride = 2}}};
  c->kernels->qu8_qs8w_gemm(&t, all(1), all(1));
  hold(c, output[0] == -255.0f * 127 * depth && output[1] == 255.0f * 127 * depth);
  end_case();
}

void check_integer_products(check *c) {
  for_shapes(c, integer_product);
  deepest_product(c);
}

// How far two orders of additions may be apart: each is off by the terms' magnitudes times the
// roundings on its way; activation functions, whose slope is below 1.2, add roundings of their own.
static double order_tolerance(
    const clip_epilogue *e, size_t inputs, double magnitude, size_t n, float y) {
  double size = magnitude;
  if (e->bias) size += __builtin_fabs((double)e->bias[n]);
  double tolerance = 2.4 * (double)(inputs + 6) * UNIT * size;
  if (e->activation != CLIP_ACTIVATION_NONE) tolerance += 5e-7 * (1 + size);
  return tolerance + 4 * UNIT * __builtin_fabs((double)y) + 1e-37;
}

static void close_product(
    check *c, shape s, const clip_epilogue *e, const float *rows, size_t stride,
    const float *weights) {
  const size_t width = s.outputs + 1;
  double *tolerance = memory(s.rows * width * sizeof(double));
  for (size_t m = 0; m < s.rows; m += 1) {
    for (size_t n = 0; n < s.outputs; n += 1) {
      double magnitude = 0;
      for (size_t k = 0; k < s.inputs; k += 1) {
        magnitude += __builtin_fabs((double)rows[m * stride + k] * weights[n * s.inputs + k]);
      }
      tolerance[m * width + n] =
          order_tolerance(e, s.inputs, magnitude, n, e->output.f32[m * width + n]);
    }
    tolerance[m * width + s.outputs] = 0;
  }
  close_to(c, e->output.f32, tolerance, s.rows * width);
}

// The nearest bfloat16, ties to even.
static float bfloat16_of(float x) {
  int exponent;
  const double fraction = frexp(x, &exponent);
  return (float)ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static void float_product(check *c, shape s) {
  begin_case("float product %zu x %zu x %zu", s.rows, s.outputs, s.inputs);
  const size_t stride = s.inputs + s.number % 3;
  const float *weights = random_floats(c, s.outputs * s.inputs, -1, 1);
  const clip_f32_f32w_gemm_arguments t = {
      .activations = random_floats(c, s.rows * stride, -1, 1), .activations_stride = stride,
      .weights = float_panels(weights, s.outputs, s.inputs), .output_count = s.outputs,
      .input_count = s.inputs, .epilogue = epilogue_of(c, s, false)};
  c->kernels->f32_f32w_gemm(&t, all(s.rows), all(panel_count(s.outputs)));
  close_product(c, s, &t.epilogue, t.activations, stride, weights);
}

static void float_by_code_product(check *c, shape s) {
  begin_case("float by code product %zu x %zu x %zu", s.rows, s.outputs, s.inputs);
  const size_t stride = s.inputs + s.number % 3;
  const int8_t *codes = random_codes(c, s.outputs * s.inputs, 8);
  const clip_f32_qs8w_gemm_arguments t = {
      .activations = random_floats(c, s.rows * stride, -1, 1), .activations_stride = stride,
      .weights = code_panels(codes, s.outputs, s.inputs), .output_count = s.outputs,
      .input_count = s.inputs, .scale = random_floats(c, s.outputs, 0.001f, 0.01f),
      .epilogue = epilogue_of(c, s, false)};
  c->kernels->f32_qs8w_gemm(&t, all(s.rows), all(panel_count(s.outputs)));
  float *weights = memory(s.outputs * s.inputs * sizeof(float));
  for (size_t i = 0; i < s.outputs * s.inputs; i += 1) {
    weights[i] = (float)codes[i] * t.scale[i / s.inputs];
  }
  close_product(c, s, &t.epilogue, t.activations, stride, weights);
}

static void bfloat16_product(check *c, shape s) {
  begin_case("bfloat16 product %zu x %zu x %zu", s.rows, s.outputs, s.inputs);
  const size_t stride = s.inputs + s.number % 3, pairs = (s.inputs + 1) / 2;
  float *rows = random_floats(c, s.rows * stride, -1, 1);
  float *rounded = memory(s.rows * stride * sizeof(float));
  float *weights = random_floats(c, s.outputs * s.inputs, -1, 1);
  uint16_t *panels = memory(panel_count(s.outputs) * pairs * 32 * sizeof(uint16_t));
  for (size_t i = 0; i < s.rows * stride; i += 1) rounded[i] = bfloat16_of(rows[i]);
  for (size_t i = 0; i < s.outputs * s.inputs; i += 1) {
    const size_t n = i / s.inputs, k = i % s.inputs;
    uint32_t bits;
    weights[i] = bfloat16_of(weights[i]);
    memcpy(&bits, weights + i, 4);
    panels[(n / 16 * pairs + k / 2) * 32 + n % 16 * 2 + k % 2] = (uint16_t)(bits >> 16);
  }
  const clip_f32_bf16w_gemm_arguments t = {
      .activations = rows, .activations_stride = stride, .weights = panels,
      .output_count = s.outputs, .input_count = s.inputs, .epilogue = epilogue_of(c, s, false)};
  c->kernels->f32_bf16w_gemm(
      &t, all(s.rows), all(panel_count(s.outputs)),
      memory(clip_f32_bf16w_scratch_byte_count(s.rows, s.inputs)));
  close_product(c, s, &t.epilogue, rounded, stride, weights);
}

void check_float_products(check *c) {
  for_shapes(c, float_product);
  for_shapes(c, bfloat16_product);
  for_shapes(c, float_by_code_product);
}

static void sparse_product(check *c, shape s) {
  begin_case("sparse product %zu x %zu x %zu", s.rows, s.outputs, s.inputs);
  const size_t stride = s.inputs + 3, count = clip_f32_transposed_count(s.rows, s.inputs);
  float *weights = memory(s.outputs * s.inputs * sizeof(float));
  uint32_t *starts = memory((s.outputs + 1) * sizeof(uint32_t));
  uint16_t indices[130 * 97];
  float values[130 * 97];
  uint32_t kept = 0;
  for (size_t n = 0; n < s.outputs; n += 1) {
    starts[n] = kept;
    for (size_t k = 0; k < s.inputs; k += 1) {
      weights[n * s.inputs + k] = 0;
      if (next_random(c) % 10 >= 3) continue;
      weights[n * s.inputs + k] = values[kept] = random_float(c, -1, 1);
      indices[kept] = (uint16_t)k;
      kept += 1;
    }
  }
  starts[s.outputs] = kept;
  const float *input = random_floats(c, s.rows * stride, -1, 1);
  const clip_f32_transpose_arguments transpose = {
      .input = input, .input_stride = stride, .row_count = s.rows, .column_count = s.inputs,
      .output = memory(count * sizeof(float))};
  c->kernels->f32_transpose(&transpose, (clip_range){0, s.inputs / 2});
  c->kernels->f32_transpose(&transpose, (clip_range){s.inputs / 2, s.inputs});
  same(c, transpose.output, count * sizeof(float));
  const clip_f32_f32s_gemm_arguments t = {
      .activations = transpose.output, .row_count = s.rows, .starts = starts,
      .indices = memory_of(indices, kept * sizeof(uint16_t)),
      .values = memory_of(values, kept * sizeof(float)), .output_count = s.outputs,
      .input_count = s.inputs, .epilogue = epilogue_of(c, s, false)};
  c->kernels->f32_f32s_gemm(&t, all(panel_count(s.outputs)));
  close_product(c, s, &t.epilogue, input, stride, weights);
}

void check_sparse_products(check *c) {
  static const shape shapes[] = {
      {1, 1, 1, 0}, {3, 5, 17, 1}, {16, 16, 64, 2}, {50, 31, 33, 3}, {64, 48, 7, 4},
      {65, 17, 20, 5}, {130, 9, 40, 6}, {33, 130, 97, 7}, {5, 3, 0, 8}, {0, 3, 5, 9},
  };
  for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
    sparse_product(c, shapes[i]);
    end_case();
  }
}

// Kernels of training.

#include "check.h"

static const size_t extents[] = {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 64, 65, 97, 257, 301};

static const size_t shapes[][2] = {
    {0, 16}, {3, 1}, {1, 15}, {2, 16}, {5, 17}, {8, 33}, {9, 64}, {12, 32}, {65, 32}, {17, 65}};

// Numbers about the bounds of codes, the bounds themselves, zeros and extremes.
static float *clipped_floats(check *c, size_t count) {
  static const float special[] = {0, -0.0f, -1.5f, 2.25f, 1e-45f, -3e38f, 3e38f};
  float *result = random_floats(c, count, -4, 4);
  for (size_t i = 3; i < count; i += 5) result[i] = special[i / 5 % COUNT_OF(special)];
  return result;
}

static void activation_gradients(check *c, const float *x, size_t count) {
  const float *upstream = random_floats(c, count, -2, 2);
  float *output = memory((count + 1) * sizeof(float));
  for (size_t i = 0; i < 3; i += 1) {
    c->training->f32_activation_gradient(x, upstream, count, (clip_activation)i, output);
    same(c, output, (count + 1) * sizeof(float));
  }
}

static void activation_gradient_grid(check *c) {
  enum { count = 24001 };
  begin_case("grid of activation gradients");
  float *x = memory(count * sizeof(float));
  for (int i = 0; i < count; i += 1) x[i] = (float)(i - count / 2) * 0.00125f;
  x[0] = -3e38f;
  x[count - 1] = 3e38f;
  activation_gradients(c, x, count);
  end_case();
}

static void optimizer(check *c, size_t count) {
  begin_case("optimizer over %zu elements", count);
  const size_t size = (count + 1) * sizeof(float);
  const clip_f32_adamw_arguments t = {
      .parameter = random_floats(c, count + 1, -1, 1), .gradient = random_floats(c, count, -3, 3),
      .first_moment = random_floats(c, count + 1, -1, 1),
      .second_moment = random_floats(c, count + 1, 0, 1), .learning_rate = 3e-3f, .beta1 = 0.9f,
      .beta2 = 0.98f, .epsilon = 1e-6f, .decay = 6e-4f, .first_correction = 1.9f,
      .second_correction = 7.3f, .gradient_factor = 0.37f};
  for (int step = 0; step < 2; step += 1) {
    c->training->f32_adamw(&t, (clip_range){count > 0, count});
  }
  same(c, t.parameter, size);
  same(c, t.first_moment, size);
  same(c, t.second_moment, size);
  float *target = random_floats(c, count + 1, -1, 1);
  c->training->f32_average(target, t.parameter, count, 0.999f);
  same(c, target, size);
  const double squares = c->training->f32_square_sum(random_floats(c, count, -1e20f, 3e20f), count);
  same(c, &squares, sizeof(squares));
  end_case();
}

static void quantizers(check *c, size_t count) {
  static const float scales[] = {0.37f, -0.37f, 1e-12f};
  const clip_code_range codes = {-8, 7}, bounds = {-1.5f, 2.25f};
  const size_t size = (count + 1) * sizeof(float);
  begin_case("training with codes of %zu elements", count);
  const float *x = clipped_floats(c, count), *upstream = random_floats(c, count, -2, 2);
  float *output = memory(size);
  for (size_t i = 0; i < COUNT_OF(scales); i += 1) {
    c->training->f32_round_to_codes(x, count, codes, scales[i], output);
    same(c, output, size);
  }
  for (size_t gate = 0; gate < 2; gate += 1) {
    c->training->f32_clipping_gate(x, upstream, count, bounds, (clip_clipping_gate)gate, output);
    same(c, output, size);
  }
  clip_clipping_sums sums;
  c->training->f32_clipping_sums(x, count, bounds, &sums);
  same(c, &sums, sizeof(sums));
  end_case();
}

static void dropout(check *c, size_t count) {
  const clip_dropout draw = {{0x12345678u, 0x9abcdef0u}, 0x60000000u, 1.6f};
  begin_case("dropout of %zu elements", count);
  const float *x = random_floats(c, count, -1, 1);
  float *output = memory((count + 1) * sizeof(float));
  c->training->f32_dropout(x, (clip_range){0, count / 3}, draw, output);
  c->training->f32_dropout(x, (clip_range){count / 3, count}, draw, output);
  same(c, output, (count + 1) * sizeof(float));
  end_case();
}

static void operands(check *c, size_t rows, size_t width) {
  begin_case("operands of %zu x %zu", rows, width);
  const size_t stride = width + 3, turned = rows + 3, panels = (width + 15) / 16;
  const size_t pairs = panels * ((rows + 1) / 2) * 32;
  const float *input = random_floats(c, rows * stride, -1, 2);
  float *output = memory(width * turned * sizeof(float));
  c->training->f32_transposed_copy(input, stride, rows, width, output, turned);
  same(c, output, width * turned * sizeof(float));
  uint16_t *packed = memory((pairs + 1) * sizeof(uint16_t));
  c->training->f32_pack_pairs(input, stride, rows, width, (clip_range){0, panels}, packed);
  same(c, packed, (pairs + 1) * sizeof(uint16_t));
  end_case();
}

static void column_sums(check *c, size_t rows, size_t width) {
  begin_case("column sums of %zu x %zu", rows, width);
  const size_t stride = width + 3;
  const float *input = random_floats(c, rows * stride, -1, 2);
  float *output = random_floats(c, width + 1, -1, 1);
  c->training->f32_column_sums(input, stride, width, (clip_range){0, rows / 3}, output);
  c->training->f32_column_sums(input, stride, width, (clip_range){rows / 3, rows}, output);
  same(c, output, (width + 1) * sizeof(float));
  end_case();
}

void check_training_elements(check *c) {
  for (size_t i = 0; i < COUNT_OF(extents); i += 1) {
    begin_case("activation gradients of %zu elements", extents[i]);
    activation_gradients(c, random_floats(c, extents[i], -5, 5), extents[i]);
    end_case();
    optimizer(c, extents[i]);
    quantizers(c, extents[i]);
    dropout(c, extents[i]);
  }
  activation_gradient_grid(c);
  for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
    column_sums(c, shapes[i][0], shapes[i][1]);
    operands(c, shapes[i][0], shapes[i][1]);
  }
}

// Elements of rows as far apart as `tolerance`, those between rows not at all.
static void close_rows(
    check *c, const float *result, size_t rows, size_t width, size_t stride, double tolerance) {
  double *tolerances = memory(rows * stride * sizeof(double));
  for (size_t i = 0; i < rows * stride; i += 1) {
    tolerances[i] = i % stride < width ? tolerance : 0;
  }
  close_to(c, result, tolerances, rows * stride);
}

// No mask, a mixed one, one channel, none.
static float *mask_of(check *c, size_t width, int kind) {
  if (kind == 0) return NULL;
  float *mask = memory(width * sizeof(float));
  for (size_t i = 0; i < width; i += 1) {
    const bool is_mixed = i == 1 || next_random(c) % 3 != 0;
    mask[i] = kind == 1 ? is_mixed : kind == 2 && i == width / 2;
  }
  return mask;
}

static void masked_layer_norm(check *c, size_t rows, size_t width, int mask_kind) {
  begin_case("masked layer norm of %zu x %zu, mask %d", rows, width, mask_kind);
  const size_t stride = width + 3;
  const float *mask = mask_of(c, width, mask_kind), *input = random_floats(c, rows * stride, 3, 7);
  const float *gamma = random_floats(c, width, -1, 1);
  const clip_f32_masked_layer_norm_arguments forward = {
      .input = input, .input_stride = stride, .mask = mask, .width = width, .gamma = gamma,
      .beta = random_floats(c, width, -1, 1), .epsilon = 1e-5f,
      .output = memory(rows * stride * sizeof(float)), .output_stride = stride};
  c->training->f32_masked_layer_norm(&forward, all(rows));
  close_rows(c, forward.output, rows, width, stride, 8e-6);
  const clip_f32_layer_norm_gradient_arguments backward = {
      .input = input, .input_stride = stride, .mask = mask, .width = width, .gamma = gamma,
      .upstream = random_floats(c, rows * stride, -1, 1), .upstream_stride = stride,
      .epsilon = 1e-5f, .input_gradient = memory(rows * stride * sizeof(float)),
      .input_gradient_stride = stride, .gamma_gradient = random_floats(c, width + 1, -1, 1),
      .beta_gradient = random_floats(c, width + 1, -1, 1)};
  c->training->f32_layer_norm_gradient(&backward, all(rows));
  // One channel alone is its own mean: what is left is a rounding times 1 / sqrt(epsilon).
  const double tolerance = mask_kind >= 2 ? 1e-3 : 2e-5;
  close_rows(c, backward.input_gradient, rows, width, stride, tolerance);
  close_rows(c, backward.gamma_gradient, 1, width, width + 1, 1e-4);
  close_rows(c, backward.beta_gradient, 1, width, width + 1, 1e-4);
  end_case();
}

void check_training_rows(check *c) {
  for (size_t i = 0; i < COUNT_OF(shapes); i += 1) {
    for (int mask_kind = 0; shapes[i][1] > 1 && mask_kind < 4; mask_kind += 1) {
      masked_layer_norm(c, shapes[i][0], shapes[i][1], mask_kind);
    }
  }
}

static void attention_gradient(check *c, size_t tokens, size_t width, bool causal) {
  begin_case("attention gradient of %zu tokens of width %zu", tokens, width);
  const size_t stride = width + 3, size = tokens * stride * sizeof(float);
  const clip_f32_attention_gradient_arguments t = {
      .query = random_floats(c, tokens * stride, -3, 3), .query_stride = stride,
      .key = random_floats(c, tokens * stride, -3, 3), .key_stride = stride,
      .value = random_floats(c, tokens * stride, -1, 1), .value_stride = stride,
      .upstream = random_floats(c, tokens * stride, -1, 1), .upstream_stride = stride,
      .token_count = tokens, .head_width = width,
      .scale = 1 / __builtin_sqrtf(width == 0 ? 1 : (float)width), .causal = causal,
      .query_gradient = memory(size), .query_gradient_stride = stride,
      .key_gradient = memory(size), .key_gradient_stride = stride, .value_gradient = memory(size),
      .value_gradient_stride = stride};
  const size_t count = clip_f32_attention_gradient_scratch_count(tokens, width);
  c->training->f32_attention_gradient(&t, memory(count * sizeof(float)));
  close_rows(c, t.query_gradient, tokens, width, stride, 1e-5);
  close_rows(c, t.key_gradient, tokens, width, stride, 1e-5);
  close_rows(c, t.value_gradient, tokens, width, stride, 1e-5);
  end_case();
}

void check_training_attention(check *c) {
  static const size_t tokens[] = {0, 1, 2, 3, 7, 12, 13, 17, 25, 50}, widths[] = {1, 3, 16, 17, 40};
  for (size_t i = 0; i < COUNT_OF(tokens); i += 1) {
    for (size_t j = 0; j < COUNT_OF(widths); j += 1) {
      attention_gradient(c, tokens[i], widths[j], (i + j) % 2 == 0);
    }
  }
}

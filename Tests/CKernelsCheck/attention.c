// Attention over floats and over codes.

#include "check.h"

// Exponentials of scores less the greatest whose codes may be rounded either way.
static double unsure_code_count(const double *scores, const float *sizes, size_t count) {
  double greatest = scores[0], unsure = 0;
  for (size_t i = 1; i < count; i += 1) {
    if (scores[i] > greatest) greatest = scores[i];
  }
  for (size_t i = 0; i < count; i += 1) {
    const double e = 255 * (double)clip_exp((float)(scores[i] - greatest)) * (sizes ? sizes[i] : 1);
    const double rest = e - (double)(int64_t)e;
    if (rest > 0.499 && rest < 0.501) unsure += 1;
  }
  return unsure;
}

typedef struct head {
  size_t queries, keys, width, first_query;
  bool causal, has_sizes, has_codes;
} head;

static size_t seen_keys(head h, size_t row) {
  const size_t own = h.first_query + row + 1;
  return h.causal && own < h.keys ? own : h.keys;
}

static void float_attention(check *c, head h) {
  const size_t stride = h.width + 3;
  begin_case("attention of %zu to %zu of width %zu", h.queries, h.keys, h.width);
  clip_f32_attention_arguments t = {
      .query = random_floats(c, h.queries * stride, -4, 4), .query_stride = stride,
      .key = random_floats(c, h.keys * stride, -4, 4), .key_stride = stride,
      .value = random_floats(c, h.keys * stride, -1, 1), .value_stride = stride,
      .query_count = h.queries, .key_count = h.keys, .head_width = h.width,
      .scale = 1 / __builtin_sqrtf((float)h.width), .causal = h.causal,
      .first_query = h.first_query,
      .output = {
          .f32 = memory(h.queries * stride * sizeof(float)), .f32_stride = stride,
          .qu8 = memory(h.queries * stride), .qu8_stride = stride,
          .quantization = {90, 128, 1, 255}},
      .quantizes_probabilities = h.has_codes};
  if (h.has_sizes) {
    float *sizes = memory(h.keys * sizeof(float));
    for (size_t i = 0; i < h.keys; i += 1) sizes[i] = (float)(1 + i * 5 % 7);
    t.key_sizes = sizes;
  }
  c->kernels->f32_attention(
      &t, memory(clip_f32_attention_scratch_count(h.keys, h.width) * sizeof(float)));
  double *tolerance = memory(h.queries * stride * sizeof(double));
  double *scores = memory(h.keys * sizeof(double));
  for (size_t row = 0; row < h.queries; row += 1) {
    double unsure = 0;
    if (h.has_codes) {
      for (size_t k = 0; k < seen_keys(h, row); k += 1) {
        scores[k] = 0;
        for (size_t i = 0; i < h.width; i += 1) {
          scores[k] += (double)t.query[row * stride + i] * (double)t.key[k * stride + i];
        }
        scores[k] *= (double)t.scale;
      }
      unsure = unsure_code_count(scores, t.key_sizes, seen_keys(h, row));
    }
    for (size_t i = 0; i < stride; i += 1) {
      tolerance[row * stride + i] = i < h.width ? 1e-5 + unsure * 2 / 255 : 0;
    }
  }
  close_to(c, t.output.f32, tolerance, h.queries * stride);
  uint8_t *codes = memory(stride);
  for (size_t row = 0; row < h.queries; row += 1) {
    bool is_right = true;
    c->kernels->f32_quantize(t.output.f32 + row * stride, h.width, t.output.quantization, codes);
    for (size_t i = 0; i < stride; i += 1) {
      is_right = is_right && t.output.qu8[row * stride + i] == (i < h.width ? codes[i] : 0x55);
    }
    hold(c, is_right);
  }
  end_case();
}

void check_attention(check *c) {
  static const size_t tokens[] = {1, 2, 3, 7, 16, 17, 33}, widths[] = {1, 3, 16, 32, 40, 64, 83};
  for (size_t i = 0; i < COUNT_OF(tokens); i += 1) {
    for (size_t j = 0; j < COUNT_OF(widths); j += 1) {
      const head h = {
          .queries = tokens[i], .keys = tokens[i], .width = widths[j], .causal = (i + j) % 2 == 0,
          .has_sizes = (i + j) % 3 == 0, .has_codes = (i + j) % 4 == 1};
      float_attention(c, h);
    }
  }
  float_attention(c, (head){.queries = 1, .keys = 197, .width = 64});
  for (size_t first = 3; first <= 11; first += 8) {
    const head h = {.queries = 9, .keys = 20, .width = 32, .causal = true, .first_query = first};
    float_attention(c, h);
  }
}

static void integer_attention(check *c, head h) {
  const size_t stride = h.width + 3, out_stride = h.width + 1;
  begin_case("integer attention of %zu to %zu of width %zu", h.queries, h.keys, h.width);
  // Less than a row at the end: nothing behind the last column is read.
  const clip_qu8_attention_arguments t = {
      .query = random_bytes(c, h.queries * stride - 3), .query_stride = stride,
      .key = random_bytes(c, h.keys * stride - 3), .key_stride = stride,
      .value = random_bytes(c, h.keys * stride - 3), .value_stride = stride,
      .query_count = h.queries, .key_count = h.keys, .head_width = h.width, .query_zero = 131,
      .key_zero = 97, .value_zero = 120, .scale = 0.0005f, .value_scale = 0.02f,
      .causal = h.causal, .first_query = h.first_query,
      .output = {
          .f32 = memory(h.queries * out_stride * sizeof(float)), .f32_stride = out_stride}};
  const size_t scratch_count = clip_qu8_attention_scratch_byte_count(h.keys, h.width);
  c->kernels->qu8_attention(&t, memory((scratch_count + 3) / 4 * 4));
  same(c, t.output.f32, h.queries * out_stride * sizeof(float));
  end_case();
}

void check_integer_attention(check *c) {
  static const size_t tokens[] = {1, 2, 3, 7, 13, 17, 50}, widths[] = {1, 4, 5, 16, 18, 31, 64};
  for (size_t i = 0; i < COUNT_OF(tokens); i += 1) {
    for (size_t j = 0; j < COUNT_OF(widths); j += 1) {
      const head h = {
          .queries = tokens[i], .keys = tokens[i], .width = widths[j], .causal = (i + j) % 2 == 0};
      integer_attention(c, h);
    }
  }
  integer_attention(c, (head){.queries = 1, .keys = 197, .width = 64});
  for (size_t first = 4; first <= 28; first += 12) {
    const head h = {.queries = 5, .keys = 33, .width = 31, .causal = true, .first_query = first};
    integer_attention(c, h);
  }
}

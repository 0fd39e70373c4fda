// The kernel set `portable`: plain C, which defines the bits of all others.

// Where nothing is a vector register, unrolled loops are only larger.
#define V_IS_COMPACT
#include "vector-portable.h"

#define V_SET portable
#include "kernel-set.inc"

float clip_exp(float x) { return exp_clamped(x); }

size_t clip_f32_attention_scratch_count(size_t key_count, size_t head_width) {
  // Transposed keys, values, and a tile's rows of scores and of sums, in whole panels.
  size_t keys, width, transposed, values, rows, count;
  const bool is_too_large = __builtin_add_overflow(key_count, (size_t)15, &keys) ||
                            __builtin_add_overflow(head_width, (size_t)15, &width) ||
                            __builtin_mul_overflow(keys & ~(size_t)15, head_width, &transposed) ||
                            __builtin_mul_overflow(key_count, width & ~(size_t)15, &values) ||
                            __builtin_add_overflow(keys, width, &rows) ||
                            __builtin_mul_overflow(rows, (size_t)12, &rows) ||
                            __builtin_add_overflow(transposed, values, &count) ||
                            __builtin_add_overflow(count, rows, &count);
  return is_too_large || count > PTRDIFF_MAX ? PTRDIFF_MAX : count;
}

size_t clip_qu8_attention_scratch_byte_count(size_t key_count, size_t head_width) {
  // Sums of keys; a tile's rows of products; scores; keys and values in panels; a tile's rows of
  // queries and of codes.
  size_t keys, width, panels, values, rows, bytes;
  const bool is_too_large =
      __builtin_add_overflow(key_count, (size_t)15, &keys) ||
      __builtin_add_overflow(head_width, (size_t)15, &width) ||
      (keys &= ~(size_t)15, width &= ~(size_t)15, false) ||
      __builtin_mul_overflow(keys, width, &panels) ||
      __builtin_mul_overflow(panels, (size_t)2, &values) ||
      __builtin_add_overflow(keys, width, &rows) ||
      __builtin_mul_overflow(rows, (size_t)(4 * 12 + 12 + 8), &bytes) ||
      __builtin_add_overflow(bytes, values, &bytes);
  return is_too_large || bytes > PTRDIFF_MAX ? PTRDIFF_MAX : bytes;
}

size_t clip_f32_match_tokens_scratch_count(size_t token_count, size_t head_width) {
  // Metrics of both halves, those of one transposed, a tile's rows of scores in whole panels; the
  // best score and its token of each row.
  size_t tokens, metrics, transposed, rows, count;
  const bool is_too_large =
      __builtin_add_overflow(token_count, (size_t)31, &tokens) ||
      __builtin_mul_overflow(tokens, head_width, &metrics) ||
      __builtin_mul_overflow((tokens / 2 + 15) & ~(size_t)15, head_width, &transposed) ||
      __builtin_mul_overflow((tokens / 2 + 15) & ~(size_t)15, (size_t)12, &rows) ||
      __builtin_add_overflow(metrics, transposed, &count) ||
      __builtin_add_overflow(count, rows, &count) ||
      __builtin_add_overflow(count, tokens, &count);
  return is_too_large || count > PTRDIFF_MAX ? PTRDIFF_MAX : count;
}

size_t clip_f32_select_tokens_scratch_count(size_t token_count) {
  // Two whole rows of scores.
  return token_count > PTRDIFF_MAX / 2 - 16 ? PTRDIFF_MAX : 2 * ((token_count + 15) & ~(size_t)15);
}

size_t clip_pw_scratch_byte_count(size_t input_count, size_t group_size, bool is_float) {
  // Widened panels; for integer products also a scale and a correction for each group.
  const size_t group_count = group_size ? input_count / group_size + 1 : 0;
  size_t depth, bytes, groups;
  const bool is_too_large =
      __builtin_add_overflow(input_count, (size_t)3, &depth) ||
      __builtin_mul_overflow(
          depth / 4, (size_t)CLIP_WIDENED_PANELS * 64 * (is_float ? 4 : 1), &bytes) ||
      __builtin_mul_overflow(group_count, (size_t)CLIP_WIDENED_PANELS * 128, &groups) ||
      __builtin_add_overflow(bytes, groups, &bytes);
  return is_too_large || bytes > PTRDIFF_MAX ? PTRDIFF_MAX : bytes;
}

size_t clip_f32_bf16w_row_byte_count(size_t input_count, size_t element_byte_count) {
  size_t bytes;
  if (__builtin_add_overflow(input_count, (size_t)1, &bytes) ||
      __builtin_mul_overflow(bytes & ~(size_t)1, element_byte_count, &bytes) ||
      __builtin_add_overflow(bytes, (size_t)127, &bytes)) {
    return 0;
  }
  bytes = (bytes - 64) & ~(size_t)63;
  // Rows that lie apart by a great power of two share few places of the cache.
  return bytes % 2048 == 0 ? bytes + 64 : bytes;
}

size_t clip_f32_bf16w_scratch_byte_count(size_t row_count, size_t input_count) {
  const size_t row_bytes = clip_f32_bf16w_row_byte_count(input_count, sizeof(float));
  if (row_bytes == 0) return PTRDIFF_MAX;
  // Whole tiles, as many as stay in the second-level cache.
  const size_t fitting = ROW_BLOCK_BYTES / row_bytes / TILE_ROWS_MAX * TILE_ROWS_MAX;
  const size_t rows = smaller(row_count, fitting > TILE_ROWS_MAX ? fitting : TILE_ROWS_MAX);
  size_t bytes;
  const bool is_too_large = __builtin_mul_overflow(rows, row_bytes, &bytes);
  return is_too_large || bytes > PTRDIFF_MAX ? PTRDIFF_MAX : bytes;
}

size_t clip_f32_transposed_count(size_t row_count, size_t column_count) {
  size_t rows, count;
  const bool is_too_large = __builtin_add_overflow(row_count, (size_t)15, &rows) ||
                            __builtin_mul_overflow(rows & ~(size_t)15, column_count, &count);
  return is_too_large || count > PTRDIFF_MAX ? PTRDIFF_MAX : count;
}

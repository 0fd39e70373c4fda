// Matching, selecting and merging of tokens.

#include "check.h"

typedef struct sequence {
  size_t tokens, heads, width;
} sequence;

static clip_token_plan blank_plan(size_t kept, size_t merged) {
  return (clip_token_plan){
      .sources = memory((kept + 1) * sizeof(int32_t)),
      .merged = memory((merged + 1) * sizeof(int32_t)),
      .rows = memory((merged + 1) * sizeof(int32_t)),
      .shares = memory((merged + 1) * sizeof(float))};
}

// Rows that a plan makes of random ones, in two pieces of columns.
static void merge_rows(check *c, const clip_token_plan *plan, size_t tokens, size_t merge_count) {
  const size_t kept = tokens - merge_count, width = 37, stride = 40, out_stride = 41;
  const clip_f32_merge_rows_arguments t = {
      .input = random_floats(c, tokens * stride, -1, 1), .input_stride = stride, .plan = *plan,
      .kept_count = kept, .merge_count = merge_count,
      .output = memory(kept * out_stride * sizeof(float)), .output_stride = out_stride};
  c->kernels->f32_merge_rows(&t, (clip_range){0, 16});
  c->kernels->f32_merge_rows(&t, (clip_range){16, width});
  same(c, t.output, kept * out_stride * sizeof(float));
}

static void match_tokens(check *c, sequence s, size_t merge_count, bool has_sizes) {
  const size_t stride = s.heads * s.width + 3, kept = s.tokens - merge_count;
  begin_case("matching of %zu tokens in %zu heads of width %zu", s.tokens, s.heads, s.width);
  float *sizes = memory(s.tokens * sizeof(float));
  for (size_t i = 0; i < s.tokens; i += 1) sizes[i] = (float)(1 + i * 3 % 5);
  const clip_f32_match_tokens_arguments t = {
      .key = random_floats(c, s.tokens * stride, -1, 1), .key_stride = stride,
      .token_count = s.tokens, .head_count = s.heads, .head_width = s.width,
      .merge_count = merge_count, .sizes = has_sizes ? sizes : NULL,
      .merged_sizes = memory((kept + 1) * sizeof(float)), .plan = blank_plan(kept, merge_count)};
  const size_t scratch_count = clip_f32_match_tokens_scratch_count(s.tokens, s.width);
  c->kernels->f32_match_tokens(&t, memory(scratch_count * sizeof(float)));
  same(c, t.merged_sizes, (kept + 1) * sizeof(float));
  same(c, t.plan.sources, (kept + 1) * sizeof(int32_t));
  same(c, t.plan.merged, (merge_count + 1) * sizeof(int32_t));
  same(c, t.plan.rows, (merge_count + 1) * sizeof(int32_t));
  same(c, t.plan.shares, (merge_count + 1) * sizeof(float));
  merge_rows(c, &t.plan, s.tokens, merge_count);
  end_case();
}

static void select_tokens(check *c, size_t columns, size_t spacing, size_t leading) {
  enum { tokens = 50, heads = 3, width = 20, stride = heads * width + 3, kept = 30 };
  begin_case("selection with %zu columns, every %zu, behind %zu", columns, spacing, leading);
  const clip_f32_select_tokens_arguments t = {
      .query = random_floats(c, heads * width, -2, 2),
      .key = random_floats(c, tokens * stride, -1, 1), .key_stride = stride,
      .token_count = tokens, .head_count = heads, .head_width = width, .scale = 0.5f,
      .kept_count = kept, .leading = leading, .columns = columns, .spacing = spacing,
      .sources = memory((kept + 1) * sizeof(int32_t))};
  c->kernels->f32_select_tokens(
      &t, memory(clip_f32_select_tokens_scratch_count(tokens) * sizeof(float)));
  same(c, t.sources, (kept + 1) * sizeof(int32_t));
  end_case();
}

void check_tokens(check *c) {
  static const sequence sequences[] = {
      {2, 1, 3}, {3, 2, 5}, {17, 3, 16}, {50, 12, 64}, {65, 2, 40}, {33, 1, 9}};
  for (size_t i = 0; i < COUNT_OF(sequences); i += 1) {
    const sequence s = sequences[i];
    match_tokens(c, s, 0, true);
    match_tokens(c, s, s.tokens / 4, false);
    match_tokens(c, s, (s.tokens - 1) / 2, true);
  }
  select_tokens(c, 0, 1, 1);
  select_tokens(c, 7, 3, 1);
  select_tokens(c, 4, 2, 3);
  select_tokens(c, 0, 1, 9);
}

// Microkernels of the runtime: integer and float products, normalization, attention, quantization.
//
// Names. `clip_<datatypes>_<kernel>__<isa>`, for instance `clip_qu8_qs8w_gemm__avx512vnni`.
//   datatypes  `f32`   float32
//              `qu8`   uint8, affine per tensor: x = (q - zero_point) * scale
//              `qs8`   int8, symmetric: x = q * scale
//              with `w` appended for weights packed in panels (below): `f32w`, `qs8w`,
//              `s` for weights of which zeros are left out: `f32s`,
//              and `pw` for weights that are widened before they are multiplied
//              `bf16` bfloat16, the upper half of a binary32
//              `qp`   codes of 2 to 8 bits with scales for rows or for groups of their columns
//              activations come before weights; an output type is named only where nothing else
//              tells it (outputs are float32, uint8 or both, see `clip_output`)
//   kernel     `gemm`, `layer_norm`, `attention`, …
//   isa        `portable`, `avx2`, `avx2vnni`, `avx512vnni`, `avx512bf16`, `neondot`, `neoni8mm`,
//              `neonbf16`: the kernel set
// Only this grammar's part before `__` is visible: kernels are reached through the one table of
// kernel sets, `clip_kernel_sets_*`.
//
// Panels. A weight matrix [N, K] (one row per output channel) is stored as panels of 16 channels:
//   int8     `[ceil(N/16)][ceil(K/4)][16][4]` bytes, zero where a channel >= N or an index >= K
//   float32  `[ceil(N/16)][K][16]` floats, zero where a channel >= N
//   codes    of b bits, 2 to 7: `[ceil(N/16)][ceil(K/4)][8 b]` bytes, see Blocks
//   float16, bfloat16  as float32, 2 bytes each
//   pairs    of bfloat16, `[ceil(N/16)][ceil(K/2)][16][2]`, zeros as with int8
// so panel `p` starts at byte `p * ceil(K/4) * 64`, float `p * K * 16` or pair `p * ceil(K/2) * 16`.
// Panels that start on 64 bytes are fastest; nothing requires it. One layout serves every kernel set.
//
// Blocks. 64 codes of b bits, two's complement, take 8 b bytes: those of the 64 bytes that int8 panels
// have for four k, or 64 neighbours of a row. First, if b is 4 or more, the low four bits of all: byte
// i of 32 has those of code i, then of code i + 32, from the low end up; then, if b has a two (2, 3,
// 6, 7), the next two bits: byte i of 16 those of codes i, i + 16, i + 32, i + 48; then, if b is odd,
// the last bit: byte i of 8 those of codes i, i + 8 and so on.
//
// Rows. Strides count elements between the starts of two rows. A pointer named in an argument
// structure is the start of row 0, even when a call works on a later range of rows.
//
// Calls. Every kernel is thread-safe, allocates nothing, reports nothing and touches no memory but
// its arguments'. Arguments are not checked. Outputs must not overlap inputs unless a comment
// allows it. An extent of zero is valid and does nothing.
//
// Bits. All sets give the same bits for: everything computed from int8 or uint8 weights and
// activations (`qu8_qs8w_gemm` and `qu8_pw_gemm` with their whole epilogue, `qu8_attention`),
// quantization, dequantization, sums, unfolding, L2 normalization. Sets differ in the order of float
// additions in `f32_*_gemm`, `f32_layer_norm`, `f32_attention`, `f32_match_tokens` and
// `f32_select_tokens` only, and `f32_bf16w_gemm` takes the smallest numbers for zero in some. The
// result of one row or column never depends on the range it was computed in, hence never on a split
// between threads.

#ifndef CLIP_KERNELS_H
#define CLIP_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define CLIP_NULLABLE _Nullable
#define CLIP_NONNULL _Nonnull
#else
#define CLIP_NULLABLE
#define CLIP_NONNULL
#endif

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Ranges

/// Indices `begin ..< end`.
typedef struct clip_range {
  size_t begin;
  size_t end;
} clip_range;

/// Part `index` of `0 ..< count` cut into `parts` pieces whose sizes differ by one at most.
///
/// `parts` is at least 1 and `index < parts`; `count * parts` must fit `size_t`.
static inline clip_range clip_range_part(size_t count, size_t parts, size_t index) {
  clip_range part = {count * index / parts, count * (index + 1) / parts};
  return part;
}

// MARK: Epilogues and outputs

/// Applied to a product after scale and bias, before the residual.
typedef enum clip_activation {
  CLIP_ACTIVATION_NONE = 0,
  /// x / (1 + exp(-1.702 x))
  CLIP_ACTIVATION_QUICK_GELU = 1,
  /// x * Phi(x), Phi the normal distribution function; absolute error below 2e-7 * max(1, |x|)
  CLIP_ACTIVATION_GELU = 2,
} clip_activation;

/// How a float becomes a uint8 code: `clamp(rint(x * inverse_scale) + zero_point, lowest, highest)`.
///
/// Ties go to even. Any float is accepted: not-a-number becomes `lowest`, infinities the ends.
/// `lowest` is 0, or 1 for a symmetric signed 8-bit tensor with zero point 128; `highest` is
/// `2^bits - 1`, 255 at 8 bits.
typedef struct clip_quantization {
  float inverse_scale;
  uint8_t zero_point;
  uint8_t lowest;
  uint8_t highest;
} clip_quantization;

/// Where results go: float32 rows, uint8 rows, or both; a null pointer is skipped.
///
/// uint8 codes are made from the same float values by `quantization`. Bytes between the width of a
/// row and its stride are never written.
typedef struct clip_output {
  float *CLIP_NULLABLE f32;
  /// In floats.
  size_t f32_stride;
  uint8_t *CLIP_NULLABLE qu8;
  /// In bytes. Where the rows feed `qu8_qs8w_gemm`, a multiple of 4, see there.
  size_t qu8_stride;
  clip_quantization quantization;
} clip_output;

/// What follows a product: `residual + activation(y + bias)`.
typedef struct clip_epilogue {
  /// `[N]`, or null for none.
  const float *CLIP_NULLABLE bias;
  clip_activation activation;
  /// Rows of N floats, or null for none. May be the output's `f32` itself (same start and stride).
  const float *CLIP_NULLABLE residual;
  /// In floats.
  size_t residual_stride;
  clip_output output;
} clip_epilogue;

// MARK: Products

/// uint8 activations times int8 weights, accumulated in int32 without overflow or saturation.
///
/// `y[m, n] = float(sum_k activations[m, k] * weights[n, k] - correction[n]) * scale[n]`, rounded
/// after the multiplication, then the epilogue.
typedef struct clip_qu8_qs8w_gemm_arguments {
  /// `[M, K]`. Each row must be readable up to K rounded up to a multiple of 4; what lies between
  /// is multiplied by zero weights and may be anything.
  const uint8_t *CLIP_NONNULL activations;
  /// In bytes: a multiple of 4, at least K rounded up to a multiple of 4.
  size_t activations_stride;
  /// int8 panels, codes -127...127.
  const int8_t *CLIP_NONNULL weights;
  /// N.
  size_t output_count;
  /// K, at most 65536.
  size_t input_count;
  /// `[N]`: activation scale times weight scale of the channel.
  const float *CLIP_NONNULL scale;
  /// `[N]`: zero point of the activations times the sum of the channel's codes; null for zeros.
  const int32_t *CLIP_NULLABLE correction;
  /// One for each of the M rows, which it multiplies before the bias; null for ones.
  const float *CLIP_NULLABLE row_scale;
  /// In floats.
  size_t row_scale_stride;
  clip_epilogue epilogue;
} clip_qu8_qs8w_gemm_arguments;

/// How a float is stored.
typedef enum clip_float_type {
  CLIP_FLOAT32 = 0,
  /// IEEE 754 binary16; infinities and what is not a number are read as finite numbers.
  CLIP_FLOAT16 = 1,
  /// The upper half of a binary32.
  CLIP_BFLOAT16 = 2,
} clip_float_type;

/// Weights `[N, K]` that are widened, a few panels at a time, before they are multiplied.
typedef struct clip_packed_weights {
  /// Panels of codes or of floats.
  const void *CLIP_NONNULL panels;
  /// Bits of a code, 2 to 8; 0 for floats.
  size_t bits;
  /// Of floats.
  clip_float_type type;
  /// Columns that share a scale, a multiple of 4; 0 where whole rows do. The last group may be
  /// shorter.
  size_t group_size;
  /// Of codes. Whole rows: `[N]` float32. Groups, G of them: panels `[ceil(N/16)][G][16]` of
  /// `scale_type`.
  const void *CLIP_NULLABLE scales;
  clip_float_type scale_type;
} clip_packed_weights;

/// uint8 activations times codes of 2 to 8 bits.
///
/// Whole rows: as `clip_qu8_qs8w_gemm_arguments`, times `scale`, which has to be 1. Groups:
/// `y[m, n] = scale * sum_g float(sum_(k in g) (activations[m, k] - zero_point) * weights[n, k]) *
/// scales[n, g]` in order of g, each operation rounded by itself.
typedef struct clip_qu8_pw_gemm_arguments {
  /// `[M, K]`, see `clip_qu8_qs8w_gemm_arguments`.
  const uint8_t *CLIP_NONNULL activations;
  /// In bytes: a multiple of 4, at least K rounded up to a multiple of 4.
  size_t activations_stride;
  /// Codes.
  clip_packed_weights weights;
  /// N.
  size_t output_count;
  /// K, at most 65536.
  size_t input_count;
  /// Whole rows only, `[N]`: zero point of the activations times the sum of the channel's codes;
  /// null for zeros.
  const int32_t *CLIP_NULLABLE correction;
  /// Groups only: the code of zero, 0 to 255.
  int32_t zero_point;
  /// Groups only: the activations' scale.
  float scale;
  /// One for each of the M rows, which it multiplies before the bias; null for ones.
  const float *CLIP_NULLABLE row_scale;
  /// In floats.
  size_t row_scale_stride;
  clip_epilogue epilogue;
} clip_qu8_pw_gemm_arguments;

/// float32 activations times weights that become float32: codes times their scales, or floats.
/// `y[m, n] = sum_k activations[m, k] * weights[n, k]`, then the epilogue.
typedef struct clip_f32_pw_gemm_arguments {
  /// `[M, K]`. Nothing beyond K is read.
  const float *CLIP_NONNULL activations;
  /// In floats, at least K.
  size_t activations_stride;
  /// Codes, or floats of any type.
  clip_packed_weights weights;
  /// N.
  size_t output_count;
  /// K.
  size_t input_count;
  clip_epilogue epilogue;
} clip_f32_pw_gemm_arguments;

/// Panels that are widened at a time, at most.
#define CLIP_WIDENED_PANELS 4

/// Bytes of scratch of a product with packed weights, the same for every kernel set.
///
/// `group_size` is 0 for whole rows; `is_float` tells `f32_pw_gemm` from `qu8_pw_gemm`. Saturates at
/// `PTRDIFF_MAX` when the count does not fit.
size_t clip_pw_scratch_byte_count(size_t input_count, size_t group_size, bool is_float);

/// float32 activations times float32 weights: `y[m, n] = sum_k activations[m, k] * weights[n, k]`,
/// then the epilogue.
typedef struct clip_f32_f32w_gemm_arguments {
  /// `[M, K]`.
  const float *CLIP_NONNULL activations;
  /// In floats, at least K.
  size_t activations_stride;
  /// float32 panels.
  const float *CLIP_NONNULL weights;
  /// N.
  size_t output_count;
  /// K.
  size_t input_count;
  clip_epilogue epilogue;
} clip_f32_f32w_gemm_arguments;

/// float32 activations, rounded to bfloat16, times bfloat16 weights, accumulated in float32:
/// `y[m, n] = sum_k bfloat16(activations[m, k]) * weights[n, k]`, then the epilogue.
///
/// Numbers round to nearest, ties to even. Where a set has such products they take what is below the
/// normal numbers for zero.
typedef struct clip_f32_bf16w_gemm_arguments {
  /// `[M, K]`. Nothing beyond K is read.
  const float *CLIP_NONNULL activations;
  /// In floats, at least K.
  size_t activations_stride;
  /// Panels of pairs.
  const uint16_t *CLIP_NONNULL weights;
  /// N.
  size_t output_count;
  /// K.
  size_t input_count;
  clip_epilogue epilogue;
} clip_f32_bf16w_gemm_arguments;

/// Bytes of scratch of a bfloat16 product, the same for every kernel set; more rows take no less, and
/// from some number on no more.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_bf16w_scratch_byte_count(size_t row_count, size_t input_count);

/// Bytes from a rounded row of K numbers of so many bytes to the next; 0 when they do not fit.
size_t clip_f32_bf16w_row_byte_count(size_t input_count, size_t element_byte_count);

/// float32 activations times int8 weights, accumulated in float32:
/// `y[m, n] = (sum_k activations[m, k] * weights[n, k]) * scale[n]`, then the epilogue.
typedef struct clip_f32_qs8w_gemm_arguments {
  /// `[M, K]`. Nothing beyond K is read.
  const float *CLIP_NONNULL activations;
  /// In floats, at least K.
  size_t activations_stride;
  /// int8 panels, codes -127...127, the layout of `qu8_qs8w_gemm`.
  const int8_t *CLIP_NONNULL weights;
  /// N.
  size_t output_count;
  /// K.
  size_t input_count;
  /// `[N]`: weight scale of the channel.
  const float *CLIP_NONNULL scale;
  clip_epilogue epilogue;
} clip_f32_qs8w_gemm_arguments;

/// float32 activations times float32 weights of which only those that are not zero are stored:
/// `y[m, n] = sum_k activations[m, k] * weights[n, k]`, then the epilogue.
typedef struct clip_f32_f32s_gemm_arguments {
  /// What `f32_transpose` makes of M rows of K.
  const float *CLIP_NONNULL activations;
  /// M.
  size_t row_count;
  /// `[N + 1]`: values in front of each channel.
  const uint32_t *CLIP_NONNULL starts;
  /// The index below K of each value.
  const uint16_t *CLIP_NONNULL indices;
  /// Values, channel by channel.
  const float *CLIP_NONNULL values;
  /// N.
  size_t output_count;
  /// K, at most 65536.
  size_t input_count;
  clip_epilogue epilogue;
} clip_f32_f32s_gemm_arguments;

/// Computes all output rows by channels `16 * panels.begin ..< min(16 * panels.end, N)`.
///
/// Calls on disjoint panels may run at the same time.
typedef void clip_f32_f32s_gemm_function(
    const clip_f32_f32s_gemm_arguments *CLIP_NONNULL arguments, clip_range panels);

/// Rows as `f32_f32s_gemm` reads them: tiles of 64 rows, the last one filled up with zeros to a
/// multiple of 16, each `[K][rows of the tile]`.
typedef struct clip_f32_transpose_arguments {
  /// `[M, K]`.
  const float *CLIP_NONNULL input;
  /// In floats, at least K.
  size_t input_stride;
  /// M.
  size_t row_count;
  /// K.
  size_t column_count;
  /// `clip_f32_transposed_count(M, K)` floats; 64-byte alignment is fastest.
  float *CLIP_NONNULL output;
} clip_f32_transpose_arguments;

/// Floats that `f32_transpose` writes for `row_count` rows of `column_count`.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_transposed_count(size_t row_count, size_t column_count);

/// Transposes the columns in `columns` of all rows.
typedef void clip_f32_transpose_function(
    const clip_f32_transpose_arguments *CLIP_NONNULL arguments, clip_range columns);

/// Computes output rows `rows` by channels `16 * panels.begin ..< min(16 * panels.end, N)`.
///
/// Calls on disjoint pieces may run at the same time. For few rows (up to some hundreds) split the
/// panels, best at multiples of 4, so that each thread reads its own part of the weights once.
typedef void clip_qu8_qs8w_gemm_function(
    const clip_qu8_qs8w_gemm_arguments *CLIP_NONNULL arguments, clip_range rows,
    clip_range panels);
/// See `clip_qu8_qs8w_gemm_function`.
typedef void clip_f32_f32w_gemm_function(
    const clip_f32_f32w_gemm_arguments *CLIP_NONNULL arguments, clip_range rows,
    clip_range panels);
/// See `clip_qu8_qs8w_gemm_function`.
typedef void clip_f32_qs8w_gemm_function(
    const clip_f32_qs8w_gemm_arguments *CLIP_NONNULL arguments, clip_range rows,
    clip_range panels);

/// See `clip_qu8_qs8w_gemm_function`. `scratch` has `clip_pw_scratch_byte_count` bytes at a multiple
/// of 4, best of 64, for this call alone; its contents are not defined before or after.
typedef void clip_qu8_pw_gemm_function(
    const clip_qu8_pw_gemm_arguments *CLIP_NONNULL arguments, clip_range rows, clip_range panels,
    void *CLIP_NONNULL scratch);
/// See `clip_qu8_pw_gemm_function`.
typedef void clip_f32_pw_gemm_function(
    const clip_f32_pw_gemm_arguments *CLIP_NONNULL arguments, clip_range rows, clip_range panels,
    void *CLIP_NONNULL scratch);
/// See `clip_qu8_qs8w_gemm_function`. `scratch` has `clip_f32_bf16w_scratch_byte_count` bytes for the
/// rows of the range, its contents are not defined before or after; 64-byte alignment is fastest.
typedef void clip_f32_bf16w_gemm_function(
    const clip_f32_bf16w_gemm_arguments *CLIP_NONNULL arguments, clip_range rows, clip_range panels,
    void *CLIP_NONNULL scratch);

// MARK: Normalization

/// Layer normalization of rows with the biased variance, in two passes:
/// `(x - mean) * (1 / sqrt(variance + epsilon)) * gamma + beta`.
typedef struct clip_f32_layer_norm_arguments {
  /// Rows of `width` floats; may be the output's `f32` itself (same start and stride).
  const float *CLIP_NONNULL input;
  /// In floats.
  size_t input_stride;
  /// D.
  size_t width;
  /// `[D]`.
  const float *CLIP_NONNULL gamma;
  /// `[D]`.
  const float *CLIP_NONNULL beta;
  /// Positive.
  float epsilon;
  clip_output output;
} clip_f32_layer_norm_arguments;

/// Normalizes the rows in `rows`.
typedef void clip_f32_layer_norm_function(
    const clip_f32_layer_norm_arguments *CLIP_NONNULL arguments, clip_range rows);

/// Divides a vector by its Euclidean norm; a zero vector stays zero. `output` may be `input`.
///
/// The sum of squares is taken in double precision in order of index.
typedef void clip_f32_l2_normalize_function(
    const float *CLIP_NONNULL input, size_t count, float *CLIP_NONNULL output);

// MARK: Attention

/// Softmax attention of one head of one item: `softmax(scale * Q K^T) V`.
typedef struct clip_f32_attention_arguments {
  /// `[query_count, head_width]`.
  const float *CLIP_NONNULL query;
  /// In floats.
  size_t query_stride;
  /// `[key_count - prefix_count, head_width]`.
  const float *CLIP_NONNULL key;
  /// In floats.
  size_t key_stride;
  /// `[key_count - prefix_count, head_width]`.
  const float *CLIP_NONNULL value;
  /// In floats.
  size_t value_stride;
  /// `[prefix_count, head_width]`: the keys and values in front of `key` and `value`, with their
  /// strides; null where there are none.
  const float *CLIP_NULLABLE prefix_key;
  const float *CLIP_NULLABLE prefix_value;
  /// At most `key_count`.
  size_t prefix_count;
  /// Rows of `query` and of the output.
  size_t query_count;
  /// Keys and values, at least 1 when there is a query.
  size_t key_count;
  size_t head_width;
  /// Multiplies the products of queries and keys; usually `1 / sqrt(head_width)`.
  float scale;
  /// If true, query `i` sees the keys `0 ... first_query + i` only (as far as there are any).
  bool causal;
  /// Position of query 0 among the keys; 0 when queries and keys are the same tokens.
  size_t first_query;
  /// `[query_count, head_width]`; must not overlap the inputs.
  clip_output output;
  /// `[key_count]`: how many tokens a key stands for, which multiplies its share as that many equal
  /// keys would have it; null for one each.
  const float *CLIP_NULLABLE key_sizes;
  /// Whether exponentials of scores less the greatest become codes `rint(255 e)` before they meet
  /// values, and are divided by the sum of the codes.
  bool quantizes_probabilities;
} clip_f32_attention_arguments;

/// Floats of scratch that `f32_attention` needs, the same for every kernel set.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_attention_scratch_count(size_t key_count, size_t head_width);

/// Computes all rows of one head. `scratch` has `clip_f32_attention_scratch_count` floats, its
/// contents are not defined before or after; 64-byte alignment is fastest.
typedef void clip_f32_attention_function(
    const clip_f32_attention_arguments *CLIP_NONNULL arguments, float *CLIP_NONNULL scratch);

/// Softmax attention of one head of one item over codes, `softmax(scale * Q K^T) V`, with both
/// products in int32: exponentials of scores less the greatest become codes `rint(255 e)`, and what they
/// mix is divided by the sum of the codes.
typedef struct clip_qu8_attention_arguments {
  /// `[query_count, head_width]`.
  const uint8_t *CLIP_NONNULL query;
  size_t query_stride;
  /// `[key_count - prefix_count, head_width]`.
  const uint8_t *CLIP_NONNULL key;
  size_t key_stride;
  /// `[key_count - prefix_count, head_width]`.
  const uint8_t *CLIP_NONNULL value;
  size_t value_stride;
  /// See `clip_f32_attention_arguments`.
  const uint8_t *CLIP_NULLABLE prefix_key;
  const uint8_t *CLIP_NULLABLE prefix_value;
  size_t prefix_count;
  size_t query_count;
  /// At least 1 when there is a query, at most 65536.
  size_t key_count;
  /// At most 32768.
  size_t head_width;
  /// Codes of zero, 0 to 255.
  int32_t query_zero;
  int32_t key_zero;
  int32_t value_zero;
  /// Multiplies the products of codes: the scale of the scores times those of queries and keys.
  float scale;
  /// The values' scale.
  float value_scale;
  /// See `clip_f32_attention_arguments`.
  bool causal;
  size_t first_query;
  /// `[query_count, head_width]`; must not overlap the inputs.
  clip_output output;
} clip_qu8_attention_arguments;

/// Bytes of scratch that `qu8_attention` needs, the same for every kernel set.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_qu8_attention_scratch_byte_count(size_t key_count, size_t head_width);

/// Computes all rows of one head. `scratch` lies at a multiple of 4, best of 64.
typedef void clip_qu8_attention_function(
    const clip_qu8_attention_arguments *CLIP_NONNULL arguments, void *CLIP_NONNULL scratch);

// MARK: Tokens

/// How the rows of a shorter sequence are made from the tokens of a longer one.
///
/// Row `r` is token `sources[r]`; then, for each `i`, row `rows[i]` moves towards token `merged[i]`
/// by the share `shares[i]` of the way.
typedef struct clip_token_plan {
  /// `[kept_count]`.
  int32_t *CLIP_NONNULL sources;
  /// `[merge_count]`, ascending.
  int32_t *CLIP_NONNULL merged;
  /// `[merge_count]`.
  int32_t *CLIP_NONNULL rows;
  /// `[merge_count]`.
  float *CLIP_NONNULL shares;
} clip_token_plan;

/// Bipartite matching of one item's tokens by the cosine of their keys.
///
/// Tokens of even index, of which the first never goes, each choose the most similar token of odd
/// index; the `merge_count` best choices merge. The rows left are the even tokens that stay, then
/// the odd ones. Ties go to the lower index; what is not a number is never chosen.
typedef struct clip_f32_match_tokens_arguments {
  /// `[token_count, head_count * head_width]`; the metric is the sum over heads.
  const float *CLIP_NONNULL key;
  /// In floats.
  size_t key_stride;
  size_t token_count;
  size_t head_count;
  /// At least 1.
  size_t head_width;
  /// At most `(token_count - 1) / 2`.
  size_t merge_count;
  /// `[token_count]`: how many tokens each stands for; null for one each.
  const float *CLIP_NULLABLE sizes;
  /// `[token_count - merge_count]`: how many tokens each row stands for.
  float *CLIP_NONNULL merged_sizes;
  clip_token_plan plan;
} clip_f32_match_tokens_arguments;

/// Floats of scratch that `f32_match_tokens` needs, the same for every kernel set.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_match_tokens_scratch_count(size_t token_count, size_t head_width);

/// Fills the plan and the sizes of one item.
typedef void clip_f32_match_tokens_function(
    const clip_f32_match_tokens_arguments *CLIP_NONNULL arguments, float *CLIP_NONNULL scratch);

/// Which of one item's tokens stay: those at the front, those on a grid, and those that the first
/// token attends to most.
typedef struct clip_f32_select_tokens_arguments {
  /// `[head_count * head_width]`: the first token's query.
  const float *CLIP_NONNULL query;
  /// `[token_count, head_count * head_width]`.
  const float *CLIP_NONNULL key;
  /// In floats.
  size_t key_stride;
  size_t token_count;
  size_t head_count;
  size_t head_width;
  /// Multiplies the products of query and keys.
  float scale;
  /// Tokens that stay, at least those of `leading` and of the grid together.
  size_t kept_count;
  /// Tokens at the front that stay in any case.
  size_t leading;
  /// Columns of the grid of all tokens behind these, row by row; 0 where they are none.
  size_t columns;
  /// Every so many rows and columns a token of the grid stays in any case, beginning with number
  /// `spacing / 2`; at least 1.
  size_t spacing;
  /// `[kept_count]`: the leading tokens, those of the grid, then the others, each ascending.
  int32_t *CLIP_NONNULL sources;
} clip_f32_select_tokens_arguments;

/// Floats of scratch that `f32_select_tokens` needs, the same for every kernel set.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_select_tokens_scratch_count(size_t token_count);

/// Chooses the tokens of one item by the mean over heads of the first token's attention.
typedef void clip_f32_select_tokens_function(
    const clip_f32_select_tokens_arguments *CLIP_NONNULL arguments, float *CLIP_NONNULL scratch);

/// The rows that a plan makes of one item's tokens.
typedef struct clip_f32_merge_rows_arguments {
  /// Rows of floats, one a token.
  const float *CLIP_NONNULL input;
  /// In floats.
  size_t input_stride;
  clip_token_plan plan;
  size_t kept_count;
  size_t merge_count;
  /// Rows of floats, `kept_count` of them; must not overlap the input.
  float *CLIP_NONNULL output;
  /// In floats.
  size_t output_stride;
} clip_f32_merge_rows_arguments;

/// Makes the columns in `columns` of all rows.
typedef void clip_f32_merge_rows_function(
    const clip_f32_merge_rows_arguments *CLIP_NONNULL arguments, clip_range columns);

// MARK: Elements

/// Quantizes `count` floats.
typedef void clip_f32_quantize_function(
    const float *CLIP_NONNULL input, size_t count, clip_quantization quantization,
    uint8_t *CLIP_NONNULL output);

/// Quantizes `count` floats by a scale of their own, which it returns:
/// `clamp(rint(x / scale) + zero_point, lowest, highest)` for the greatest magnitude divided by
/// `highest - zero_point`, or 1 where all are zero. `inverse_scale` is not used; what is not a number
/// has no magnitude and becomes `lowest`.
typedef float clip_f32_quantize_row_function(
    const float *CLIP_NONNULL input, size_t count, clip_quantization quantization,
    uint8_t *CLIP_NONNULL output);

/// `output[i] = float(codes[i]) * scale`.
typedef void clip_qs8_dequantize_function(
    const int8_t *CLIP_NONNULL codes, size_t count, float scale, float *CLIP_NONNULL output);

/// A row of codes of 2 to 8 bits.
typedef struct clip_packed_row {
  /// Blocks of 64 codes; of 8 bits, a byte each without blocks.
  const void *CLIP_NONNULL codes;
  /// 2 to 8.
  size_t bits;
  size_t count;
  /// Codes that share a scale, 0 for all of them.
  size_t group_size;
  /// A scale for each group.
  const void *CLIP_NONNULL scales;
  clip_float_type scale_type;
} clip_packed_row;

/// `output[i] = float(code i) * its scale`.
typedef void clip_qp_dequantize_function(
    const clip_packed_row *CLIP_NONNULL row, float *CLIP_NONNULL output);

/// Writes `count` stored floats as float32.
typedef void clip_f32_widen_function(
    const void *CLIP_NONNULL input, clip_float_type type, size_t count, float *CLIP_NONNULL output);

/// `output[i] = float(code(input[i]) - zero_point) * scale`: floats after a round trip through codes.
typedef void clip_f32_simulate_function(
    const float *CLIP_NONNULL input, size_t count, clip_quantization quantization, float scale,
    float *CLIP_NONNULL output);

/// `output[i] = left[i] + right[i]`; `output` may be `left` or `right`.
typedef void clip_f32_add_function(
    const float *CLIP_NONNULL left, const float *CLIP_NONNULL right, size_t count,
    float *CLIP_NONNULL output);

/// `output[i] = activation(input[i])`; `output` may be `input`.
typedef void clip_f32_activate_function(
    const float *CLIP_NONNULL input, size_t count, clip_activation activation,
    float *CLIP_NONNULL output);

/// The non-overlapping square patches of an image as rows.
typedef struct clip_f32_unfold_arguments {
  /// `[channels, height, width]`.
  const float *CLIP_NONNULL pixels;
  size_t channels;
  size_t height;
  size_t width;
  /// Side of a patch, at least 1. What remains right and below of whole patches is left out.
  size_t patch;
  /// Row `y * (width / patch) + x` is the patch at grid position (y, x): `channels * patch * patch`
  /// elements, ordered by channel, then row, then column in the patch.
  clip_output output;
} clip_f32_unfold_arguments;

/// Writes the patches in `patches`, at most `(height / patch) * (width / patch)` in all.
typedef void clip_f32_unfold_function(
    const clip_f32_unfold_arguments *CLIP_NONNULL arguments, clip_range patches);

// MARK: Measuring

/// Goes `steps` times through the instructions of a product's innermost loop, of uint8 and int8, of
/// floats or of bfloat16, on registers alone. Returns the number of multiply-adds.
typedef size_t clip_peak_function(size_t steps);

/// Reads floats in whole groups of 128, as fast as it can.
typedef void clip_f32_read_function(const float *CLIP_NONNULL input, size_t count);

// MARK: Kernel sets

/// All kernels for one instruction set.
typedef struct clip_kernel_set {
  clip_qu8_qs8w_gemm_function *CLIP_NONNULL qu8_qs8w_gemm;
  clip_f32_f32w_gemm_function *CLIP_NONNULL f32_f32w_gemm;
  clip_f32_qs8w_gemm_function *CLIP_NONNULL f32_qs8w_gemm;
  clip_f32_layer_norm_function *CLIP_NONNULL f32_layer_norm;
  clip_f32_l2_normalize_function *CLIP_NONNULL f32_l2_normalize;
  clip_f32_attention_function *CLIP_NONNULL f32_attention;
  clip_f32_quantize_function *CLIP_NONNULL f32_quantize;
  clip_qs8_dequantize_function *CLIP_NONNULL qs8_dequantize;
  clip_f32_add_function *CLIP_NONNULL f32_add;
  clip_f32_unfold_function *CLIP_NONNULL f32_unfold;
  clip_f32_activate_function *CLIP_NONNULL f32_activate;
  clip_f32_simulate_function *CLIP_NONNULL f32_simulate;
  clip_f32_match_tokens_function *CLIP_NONNULL f32_match_tokens;
  clip_f32_select_tokens_function *CLIP_NONNULL f32_select_tokens;
  clip_f32_merge_rows_function *CLIP_NONNULL f32_merge_rows;
  clip_f32_f32s_gemm_function *CLIP_NONNULL f32_f32s_gemm;
  clip_f32_transpose_function *CLIP_NONNULL f32_transpose;
  clip_qu8_pw_gemm_function *CLIP_NONNULL qu8_pw_gemm;
  clip_f32_pw_gemm_function *CLIP_NONNULL f32_pw_gemm;
  clip_f32_bf16w_gemm_function *CLIP_NONNULL f32_bf16w_gemm;
  clip_qp_dequantize_function *CLIP_NONNULL qp_dequantize;
  clip_f32_widen_function *CLIP_NONNULL f32_widen;
  clip_f32_quantize_row_function *CLIP_NONNULL f32_quantize_row;
  clip_qu8_attention_function *CLIP_NONNULL qu8_attention;
  clip_peak_function *CLIP_NONNULL qu8_peak;
  clip_peak_function *CLIP_NONNULL f32_peak;
  clip_peak_function *CLIP_NONNULL bf16_peak;
  clip_f32_read_function *CLIP_NONNULL f32_read;
} clip_kernel_set;

/// Number of kernel sets compiled for this architecture, at least 1.
size_t clip_kernel_sets_count(void);

/// Set `index`, from the most general (0, `portable`) to the most particular.
/// An index past the end gives `portable`.
const clip_kernel_set *CLIP_NONNULL clip_kernel_sets_at(size_t index);

/// Name of set `index` as in kernel names, for instance `avx512vnni`; static, null-terminated.
const char *CLIP_NONNULL clip_kernel_sets_name(size_t index);

/// Whether this processor and operating system can run set `index`; false past the end.
bool clip_kernel_sets_is_supported(size_t index);

/// Index of the most particular set that is supported.
size_t clip_kernel_sets_best(void);

// MARK: Threads

/// A fixed team of threads.
typedef struct clip_pool clip_pool;

/// One task; `context` is the caller's, `task` counts from 0.
typedef void clip_task_function(void *CLIP_NULLABLE context, size_t task);

/// Starts a team of `thread_count` threads, the caller of `clip_pool_run` being one of them.
///
/// - Returns: Null (which runs everything on the caller's thread, and is no error) for a count of
///   0 or 1, where there are no threads, or when they cannot be started. At most 64 are started.
clip_pool *CLIP_NULLABLE clip_pool_create(size_t thread_count);

/// Ends the team's threads. Must not overlap a run. Null is allowed.
void clip_pool_destroy(clip_pool *CLIP_NULLABLE pool);

/// Number of threads that share the tasks of a run, at least 1.
size_t clip_pool_thread_count(const clip_pool *CLIP_NULLABLE pool);

/// Calls `task_function(context, task)` once for each task in `0 ..< task_count`; returns after the
/// last.
///
/// Thread `t` of `n` does the contiguous part `clip_range_part(task_count, n, t)` in order. Which
/// work a task is must not depend on the number of threads: then neither do results. Runs of one
/// pool must not overlap; a task must not start a run of its own pool. Allocates nothing.
void clip_pool_run(
    clip_pool *CLIP_NULLABLE pool, clip_task_function *CLIP_NONNULL task_function,
    void *CLIP_NULLABLE context, size_t task_count);

// MARK: Scalars and checksums

/// e to the power `x`, to about 2 units in the last place; not below 2^-125, never infinite.
float clip_exp(float x);

/// CRC-32C (Castagnoli, reflected, as in iSCSI) of `count` bytes continuing from `checksum`,
/// which is 0 at the start. `clip_crc32c(0, "123456789", 9)` is 0xE3069283.
uint32_t clip_crc32c(uint32_t checksum, const void *CLIP_NULLABLE bytes, size_t count);

#ifdef __cplusplus
}
#endif

#endif

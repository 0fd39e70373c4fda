// Microkernels of training: gradients, the optimizer, sums.
//
// Everything kernels.h says about names, rows, calls and ranges holds here, with two additions.
//
// Null. A pointer that may be null says what null means.
//
// Bits. All sets give the same bits for `f32_activation_gradient`, `f32_dropout`,
// `f32_transposed_copy`, `f32_pack_pairs`, `f32_round_to_codes`, `f32_clipping_gate`,
// `f32_clipping_sums`, `f32_column_sums`, `f32_square_sum`, `f32_adamw` and `f32_average`: they never
// use a fused multiply-add, every operation is rounded once (division and square root correctly),
// and every sum has an order of its own. Sets differ in the order of float additions in
// `f32_masked_layer_norm`, `f32_layer_norm_gradient` and `f32_attention_gradient` only.

#ifndef CLIP_TRAINING_KERNELS_H
#define CLIP_TRAINING_KERNELS_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Activations

/// `output[i] = upstream[i] * activation'(input[i])`; `output` may be `upstream` or `input`.
///
/// The derivative is off by less than 5e-7 and finite for every input but not-a-number, which stays
/// that: 0 and 1 far from the origin.
typedef void clip_f32_activation_gradient_function(
    const float *CLIP_NONNULL input, const float *CLIP_NONNULL upstream, size_t count,
    clip_activation activation, float *CLIP_NONNULL output);

/// What is dropped, and what makes up for it.
typedef struct clip_dropout {
  /// Another pair of keys gives another draw.
  uint32_t keys[2];
  /// An element is dropped whose number is below this.
  uint32_t least;
  /// What the other elements are multiplied with.
  float factor;
} clip_dropout;

/// `output[i] = number(i) < least ? 0 : input[i] * factor` for the elements in `elements`.
///
/// `number(i)` is made of the low 32 bits of `i`, modulo 2^32: `x = i * 0x9e3779b9 + keys[0]`,
/// `x = (x ^ x >> 16) * 0x21f0aaad`, `x = (x ^ x >> 15 ^ keys[1]) * 0x735a2d97`, `x ^ x >> 15`.
/// `output` may be `input`.
typedef void clip_f32_dropout_function(
    const float *CLIP_NONNULL input, clip_range elements, clip_dropout dropout,
    float *CLIP_NONNULL output);

// MARK: Normalization

/// Layer normalization over the channels whose mask is 1, which alone make up mean and biased
/// variance: `y = mask * ((x - mean) * (1 / sqrt(variance + epsilon)) * gamma + beta)`.
typedef struct clip_f32_masked_layer_norm_arguments {
  /// Rows of `width` floats.
  const float *CLIP_NONNULL input;
  /// In floats.
  size_t input_stride;
  /// `[width]` of 0 and 1, or null for ones. If all are 0, so is the output.
  const float *CLIP_NULLABLE mask;
  /// D.
  size_t width;
  /// `[D]`.
  const float *CLIP_NONNULL gamma;
  /// `[D]`.
  const float *CLIP_NONNULL beta;
  /// Positive.
  float epsilon;
  /// Rows of `width` floats; may be `input` (same start and stride).
  float *CLIP_NONNULL output;
  /// In floats.
  size_t output_stride;
} clip_f32_masked_layer_norm_arguments;

/// Normalizes the rows in `rows`. Masked channels must be finite and have no other influence.
typedef void clip_f32_masked_layer_norm_function(
    const clip_f32_masked_layer_norm_arguments *CLIP_NONNULL arguments, clip_range rows);

/// The gradient of `f32_masked_layer_norm`; statistics are computed again from its input.
///
/// With `x^` the normalized input, `g = mask * upstream * gamma`, and means over the channels whose
/// mask is 1: `input_gradient = mask * (g - mean(g) - x^ * mean(g * x^)) / sqrt(variance + epsilon)`,
/// `gamma_gradient += sum over rows of mask * upstream * x^`,
/// `beta_gradient += sum over rows of mask * upstream`.
typedef struct clip_f32_layer_norm_gradient_arguments {
  /// Rows of `width` floats: the input of the forward kernel.
  const float *CLIP_NONNULL input;
  /// In floats.
  size_t input_stride;
  /// Rows of `width` floats: the gradient of its output.
  const float *CLIP_NONNULL upstream;
  /// In floats.
  size_t upstream_stride;
  /// `[width]` of 0 and 1, or null for ones. If all are 0, so is every gradient.
  const float *CLIP_NULLABLE mask;
  /// D.
  size_t width;
  /// `[D]`.
  const float *CLIP_NONNULL gamma;
  /// Positive.
  float epsilon;
  /// Rows of `width` floats; may be `upstream` or `input` (same start and stride).
  float *CLIP_NONNULL input_gradient;
  /// In floats.
  size_t input_gradient_stride;
  /// `[D]`, to which the sums of the call's rows are added one by one in their order; or null where
  /// they are not wanted. Calls that run at the same time need accumulators of their own.
  float *CLIP_NULLABLE gamma_gradient;
  /// As `gamma_gradient`.
  float *CLIP_NULLABLE beta_gradient;
} clip_f32_layer_norm_gradient_arguments;

/// Computes the gradients of the rows in `rows`.
typedef void clip_f32_layer_norm_gradient_function(
    const clip_f32_layer_norm_gradient_arguments *CLIP_NONNULL arguments, clip_range rows);

// MARK: Attention

/// The gradient of `softmax(scale * Q K^T) V` for one head of one item, with as many queries as
/// keys. Probabilities are computed again from queries and keys.
///
/// With P the probabilities and O' the upstream gradient: `V' = P^T O'`, `P' = O' V^T`,
/// `S' = P * (P' - rowsum(P * P'))`, `Q' = scale * S' K`, `K' = scale * S'^T Q`.
///
/// All matrices are `[token_count, head_width]`; strides are in floats. Gradients must not overlap
/// the inputs or one another.
typedef struct clip_f32_attention_gradient_arguments {
  const float *CLIP_NONNULL query;
  size_t query_stride;
  const float *CLIP_NONNULL key;
  size_t key_stride;
  const float *CLIP_NONNULL value;
  size_t value_stride;
  /// The gradient of the attention's output.
  const float *CLIP_NONNULL upstream;
  size_t upstream_stride;
  size_t token_count;
  size_t head_width;
  /// Multiplies the products of queries and keys; usually `1 / sqrt(head_width)`.
  float scale;
  /// If true, query `i` sees the keys `0 ... i` only.
  bool causal;
  float *CLIP_NONNULL query_gradient;
  size_t query_gradient_stride;
  float *CLIP_NONNULL key_gradient;
  size_t key_gradient_stride;
  float *CLIP_NONNULL value_gradient;
  size_t value_gradient_stride;
} clip_f32_attention_gradient_arguments;

/// Floats of scratch that `f32_attention_gradient` needs, the same for every kernel set.
///
/// Saturates at `PTRDIFF_MAX` when the count does not fit.
size_t clip_f32_attention_gradient_scratch_count(size_t token_count, size_t head_width);

/// Computes all gradients of one head. `scratch` has `clip_f32_attention_gradient_scratch_count`
/// floats, its contents are not defined before or after; 64-byte alignment is fastest.
typedef void clip_f32_attention_gradient_function(
    const clip_f32_attention_gradient_arguments *CLIP_NONNULL arguments,
    float *CLIP_NONNULL scratch);

// MARK: Quantization

/// Two bounds: of integer codes, or of the values that they stand for.
typedef struct clip_code_range {
  /// At most `highest`.
  float lowest;
  float highest;
} clip_code_range;

/// `output[i] = rint(clamp(input[i] / scale, lowest, highest)) * scale`, rounding half to even;
/// `output` may be `input`. The bounds are integers of at most 22 bits, the scale is not zero. What
/// is not a number stays so.
typedef void clip_f32_round_to_codes_function(
    const float *CLIP_NONNULL input, size_t count, clip_code_range codes, float scale,
    float *CLIP_NONNULL output);

/// How gradients pass what was clipped.
typedef enum clip_clipping_gate {
  /// 1 within the bounds and 0 beyond.
  CLIP_CLIPPING_GATE_PIECEWISE_LINEAR = 0,
  /// 1 within the bounds and bound / input beyond.
  CLIP_CLIPPING_GATE_MAGNITUDE_AWARE = 1,
} clip_clipping_gate;

/// `output[i] = upstream[i] * gate(input[i])`; `output` may be `upstream` or `input`.
///
/// The bounds are values, `lowest <= 0 <= highest`, and belong to the inside.
typedef void clip_f32_clipping_gate_function(
    const float *CLIP_NONNULL input, const float *CLIP_NONNULL upstream, size_t count,
    clip_code_range bounds, clip_clipping_gate gate, float *CLIP_NONNULL output);

/// What lies within two bounds and beyond them.
typedef struct clip_clipping_sums {
  /// The sum of the elements of at most `lowest`.
  double below;
  /// The sum of the elements of at least `highest`.
  double above;
  /// Elements between the bounds that are not zero.
  int64_t inside_count;
  int64_t below_count;
  int64_t above_count;
} clip_clipping_sums;

/// Sorts `count` elements, less than 2^32, by two bounds and adds up what lies beyond.
///
/// Element `i` belongs to partial sum `i % 16`; partial sums are added in their order.
typedef void clip_f32_clipping_sums_function(
    const float *CLIP_NONNULL input, size_t count, clip_code_range bounds,
    clip_clipping_sums *CLIP_NONNULL sums);

// MARK: Optimization

/// One step of Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101) in place.
///
/// For each element, every operation rounded to float32 by itself, and `1 - x` of a scalar first:
/// `g = gradient * gradient_factor`, `m = m * beta1 + g * (1 - beta1)`,
/// `v = v * beta2 + g * g * (1 - beta2)`,
/// `p = (p - p * decay) - (m * first_correction * learning_rate)
///   / (sqrt(v * second_correction) + epsilon)`.
typedef struct clip_f32_adamw_arguments {
  /// p.
  float *CLIP_NONNULL parameter;
  const float *CLIP_NONNULL gradient;
  /// m, zero before the first step.
  float *CLIP_NONNULL first_moment;
  /// v, zero before the first step.
  float *CLIP_NONNULL second_moment;
  float learning_rate;
  float beta1;
  float beta2;
  /// Positive.
  float epsilon;
  /// Learning rate times weight decay.
  float decay;
  /// `1 / (1 - beta1^t)` in step t = 1, 2, ….
  float first_correction;
  /// `1 / (1 - beta2^t)`.
  float second_correction;
  /// Multiplies gradients before any use, to clip their norm or to take a mean.
  float gradient_factor;
} clip_f32_adamw_arguments;

/// Updates the elements in `elements`.
typedef void clip_f32_adamw_function(
    const clip_f32_adamw_arguments *CLIP_NONNULL arguments, clip_range elements);

/// `target[i] = target[i] * decay + source[i] * (1 - decay)`, for moving averages of weights.
typedef void clip_f32_average_function(
    float *CLIP_NONNULL target, const float *CLIP_NONNULL source, size_t count, float decay);

// MARK: Sums

/// Adds the sums over the rows in `rows` to `output[0 ..< width]`; `stride` is in floats.
///
/// Eight rows at a time, counted from `rows.begin`, are summed pairwise, then added.
typedef void clip_f32_column_sums_function(
    const float *CLIP_NONNULL input, size_t stride, size_t width, clip_range rows,
    float *CLIP_NONNULL output);

/// The sum of squares in double precision: element `i` belongs to partial sum `i % 16`, and
/// partial sums are added pairwise, those eight apart first.
typedef double clip_f32_square_sum_function(const float *CLIP_NONNULL input, size_t count);

// MARK: Operands of products

/// Writes `rows` rows of `columns` floats as `columns` rows of `rows` floats. Strides are in floats.
typedef void clip_f32_transposed_copy_function(
    const float *CLIP_NONNULL input, size_t stride, size_t rows, size_t columns,
    float *CLIP_NONNULL output, size_t output_stride);

/// Rounds a matrix `[K, N]` to bfloat16, in the panels of pairs that `f32_bf16w_gemm` multiplies with.
///
/// `stride` is in floats. Panel `i` of those in `panels` is written to `output + i * K' * 16`, where
/// K' is K rounded up to an even number; what lies beyond K or N is zero.
typedef void clip_f32_pack_pairs_function(
    const float *CLIP_NONNULL input, size_t stride, size_t input_count, size_t output_count,
    clip_range panels, uint16_t *CLIP_NONNULL output);

// MARK: Kernel sets

/// All kernels of training for one instruction set.
typedef struct clip_training_kernel_set {
  clip_f32_activation_gradient_function *CLIP_NONNULL f32_activation_gradient;
  clip_f32_dropout_function *CLIP_NONNULL f32_dropout;
  clip_f32_masked_layer_norm_function *CLIP_NONNULL f32_masked_layer_norm;
  clip_f32_layer_norm_gradient_function *CLIP_NONNULL f32_layer_norm_gradient;
  clip_f32_attention_gradient_function *CLIP_NONNULL f32_attention_gradient;
  clip_f32_adamw_function *CLIP_NONNULL f32_adamw;
  clip_f32_average_function *CLIP_NONNULL f32_average;
  clip_f32_column_sums_function *CLIP_NONNULL f32_column_sums;
  clip_f32_square_sum_function *CLIP_NONNULL f32_square_sum;
  clip_f32_transposed_copy_function *CLIP_NONNULL f32_transposed_copy;
  clip_f32_pack_pairs_function *CLIP_NONNULL f32_pack_pairs;
  clip_f32_round_to_codes_function *CLIP_NONNULL f32_round_to_codes;
  clip_f32_clipping_gate_function *CLIP_NONNULL f32_clipping_gate;
  clip_f32_clipping_sums_function *CLIP_NONNULL f32_clipping_sums;
} clip_training_kernel_set;

/// The training kernels of set `index`, in the order of `clip_kernel_sets_at`.
/// An index past the end gives `portable`.
const clip_training_kernel_set *CLIP_NONNULL clip_training_kernel_sets_at(size_t index);

#ifdef __cplusplus
}
#endif

#endif

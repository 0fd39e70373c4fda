// Vector primitives, one lane wide, in plain C. Their comments define the primitives of every set.
//
// A set defines `V_COUNT` lanes (a divisor of 16), the types `vf` and `vi`, the functions below,
// and the tile sizes at the end. Where the operands are the same, results are the same bits in
// every set; `v_fused` is the one exception, and only sums that may differ use it.

#ifndef CLIP_VECTOR_PORTABLE_H
#define CLIP_VECTOR_PORTABLE_H

#include "vector.h"

#define V_COUNT 1
#define V_TARGET
#define V_INLINE static inline __attribute__((always_inline, unused))

typedef float vf;
typedef int32_t vi;

V_INLINE vf v_set(float x) { return x; }
V_INLINE vf v_load(const float *p) { return *p; }
V_INLINE void v_store(float *p, vf x) { *p = x; }

// The first `n` lanes, `1 <= n < V_COUNT`; the others are zero and not touched in memory.
V_INLINE vf v_load_part(const float *p, size_t n) { return (void)n, *p; }
V_INLINE void v_store_part(float *p, vf x, size_t n) { (void)n, *p = x; }
V_INLINE vi v_load_int_part(const int32_t *p, size_t n) { return (void)n, *p; }
V_INLINE void v_store_codes_part(uint8_t *p, vi x, size_t n) { (void)n, *p = (uint8_t)x; }
// Lanes from `n` on replaced by `fill`'s.
V_INLINE vf v_first(vf x, vf fill, size_t n) { return n != 0 ? x : fill; }

V_INLINE vf v_add(vf a, vf b) { return a + b; }
V_INLINE vf v_subtract(vf a, vf b) { return a - b; }
V_INLINE vf v_multiply(vf a, vf b) { return a * b; }
V_INLINE vf v_divide(vf a, vf b) { return a / b; }
V_INLINE vf v_square_root(vf a) { return __builtin_sqrtf(a); }
// a * b + c, rounded once or twice.
V_INLINE vf v_fused(vf a, vf b, vf c) { return a * b + c; }
// The second operand when either is not a number.
V_INLINE vf v_maximum(vf a, vf b) { return a > b ? a : b; }
V_INLINE vf v_minimum(vf a, vf b) { return a < b ? a : b; }
V_INLINE vf v_absolute(vf a) { return clip_float_from_bits(clip_bits_of_float(a) & 0x7fffffffu); }
// The top bit of every byte flipped.
V_INLINE vf v_flip(vf a) { return clip_float_from_bits(clip_bits_of_float(a) ^ 0x80808080u); }
V_INLINE float v_sum(vf a) { return a; }
V_INLINE float v_largest(vf a) { return a; }

V_INLINE vi v_load_int(const int32_t *p) { return *p; }
V_INLINE vi v_set_int(int32_t x) { return x; }
// Modulo 2^32.
V_INLINE vi v_add_int(vi a, vi b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
V_INLINE vi v_subtract_int(vi a, vi b) { return (int32_t)((uint32_t)a - (uint32_t)b); }
V_INLINE vf v_float(vi a) { return (float)a; }
// Nearest integer, ties to even, for |a| <= 2^22.
V_INLINE vi v_round(vf a) {
  return (int32_t)(clip_bits_of_float(a + 0x1.8p23f) - clip_bits_of_float(0x1.8p23f));
}
// The bits of `a` plus the bits of `b` shifted left by 23: multiplies `a` by two to the power of
// the integer in the low bits of `b`.
V_INLINE vf v_scale_by_power(vf a, vf b) {
  return clip_float_from_bits(clip_bits_of_float(a) + (clip_bits_of_float(b) << 23));
}
V_INLINE vf v_load_codes(const int8_t *p) { return (float)*p; }
// Lanes are in 0...255.
V_INLINE void v_store_codes(uint8_t *p, vi x) { *p = (uint8_t)x; }

// From binary16, finite, and from the upper half of a binary32.
V_INLINE vf v_load_float16(const uint16_t *p) { return clip_float_from_float16(*p); }
V_INLINE vf v_load_bfloat16(const uint16_t *p) { return clip_float_from_bits((uint32_t)*p << 16); }

// To the nearest bfloat16, ties to even, as a float; what is not a number stays so.
V_INLINE vf v_round_bfloat16(vf x) {
  const uint32_t bits = clip_bits_of_float(x), half = 0x7fffu + (bits >> 16 & 1u);
  return clip_float_from_bits((x == x ? bits + half : bits | 0x400000u) & 0xffff0000u);
}

// Two neighbouring bfloat16 weights of each of V_COUNT channels of a panel of pairs.
//
// With `V_HAS_BFLOAT16` a set multiplies pairs: it has `h_pair`, which spreads a pair of activations
// over lanes, `h_dot`, which adds both products of each lane to its sum, rounded in any order, and
// `v_store_bfloat16`, which stores what is rounded already.
typedef uint32_t vh;
V_INLINE vh h_load(const uint16_t *p) { return p[0] | (uint32_t)p[1] << 16; }
V_INLINE vf h_first(vh x) { return clip_float_from_bits(x << 16); }
V_INLINE vf h_second(vh x) { return clip_float_from_bits(x & 0xffff0000u); }

// A block of 64 codes in `B_COUNT` vectors of bytes: vector `index` of their 4, 2 or 1 bits, which
// lie together: byte i of n has the bits of codes i, i + n, i + 2 n and so on, from the low end up.
#define B_COUNT 64
typedef uint8_t vb;
V_INLINE vb b_set(uint8_t x) { return x; }
V_INLINE vb b_fours(const uint8_t *p, int index) {
  return (uint8_t)(p[index % 32] >> (index / 32 * 4) & 15);
}
V_INLINE vb b_twos(const uint8_t *p, int index) {
  return (uint8_t)(p[index % 16] >> (index / 16 * 2) & 3);
}
V_INLINE vb b_ones(const uint8_t *p, int index) { return (uint8_t)(p[index % 8] >> (index / 8) & 1); }
// `high` in front of `low`, where together they fit a byte.
V_INLINE vb b_join(vb low, vb high, int shift) { return (uint8_t)(low | high << shift); }
// Two's complement whose sign is the one bit of `sign`.
V_INLINE vb b_signed(vb x, vb sign) { return (uint8_t)((x ^ sign) - sign); }
V_INLINE void b_store(int8_t *p, int index, vb x) { p[index] = (int8_t)x; }
// 16 columns from `column` on of four rows of codes, 128 less each: byte 4 i + r is of row r.
V_INLINE void b_interleave(const uint8_t *const rows[4], size_t column, int8_t *to) {
  for (size_t i = 0; i < 64; i += 1) to[i] = (int8_t)(rows[i % 4][column + i / 4] - 128);
}

// Four neighbouring weights of each of V_COUNT channels of an int8 panel; the first of them, and
// the others moved up by one.
typedef const int8_t *vq;
V_INLINE vq v_load_quads(const int8_t *p) { return p; }
V_INLINE vf v_quad_first(vq x) { return (float)x[0]; }
V_INLINE vq v_quad_rest(vq x) { return x + 1; }

// Row i, lane j becomes row j, lane i.
V_INLINE void v_transpose(vf rows[V_COUNT]) { (void)rows; }

V_INLINE void v_prefetch(const void *p) { (void)p; }

// Products of groups of four: `D_COUNT` accumulators cover the 16 channels of a panel.
#define D_COUNT 16
typedef int32_t vd;
typedef const uint8_t *va;
V_INLINE vd d_zero(void) { return 0; }
V_INLINE va d_activations(const uint8_t *p) { return p; }
V_INLINE vq d_weights(const int8_t *panel, int index) { return panel + 4 * index; }
V_INLINE vd d_dot(vd sum, va a, vq w) {
  return sum + (a[0] * w[0] + a[1] * w[1]) + (a[2] * w[2] + a[3] * w[3]);
}
// The densest product that the set has, of so many pairs a lane, where it is not the one above.
#define D_PEAK_DEPTH 4
#define d_peak d_dot
// Writes 16 sums. `row` is the row of activations, `depth` the number of groups of four.
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  (void)row, (void)depth;
  for (int i = 0; i < 16; i += 1) output[i] = sums[i];
}

// For each product, the rows of its best register tile, and all tiles as T(rows, most panels); for
// gradients, T(rows, most vectors).
#define QU8_QS8W_ROWS 2
#define QU8_QS8W_TILES(T) \
  T(1, 1) T(2, 1)
#define QU8_GROUPS_ROWS 2
#define QU8_GROUPS_TILES(T) \
  T(1, 1) T(2, 1)
#define F32_F32W_ROWS 2
#define F32_F32W_TILES(T) \
  T(1, 1) T(2, 1)
#define F32_BF16W_ROWS 2
#define F32_BF16W_TILES(T) \
  T(1, 1) T(2, 1)
#define F32_QS8W_ROWS 2
#define F32_QS8W_TILES(T) \
  T(1, 1) T(2, 1)
#define F32_GRADIENT_ROWS 4
#define F32_GRADIENT_VECTORS 1
#define F32_GRADIENT_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1)

#endif

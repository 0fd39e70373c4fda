// Vector primitives for Arm NEON with the dot product: 4 lanes. vector-portable.h says what each
// does.
//
// The dot product takes two operands of the same sign. Flipping the top bit of an int8 weight adds
// 128 to it, as uint8; 128 times the sum of the row of activations is taken off again at the end.
// With `V_HAS_I8MM` uint8 is multiplied by int8, even in whole matrices, and needs none of this.
// With `V_HAS_BFLOAT16` bfloat16 is multiplied as it is.

#ifndef CLIP_VECTOR_NEON_H
#define CLIP_VECTOR_NEON_H

#include <arm_neon.h>

#include "vector.h"

#define V_COUNT 4
#ifdef V_HAS_BFLOAT16
#define V_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm+bf16,tune=neoverse-v1")))
#elif defined(V_HAS_I8MM)
// For other processors, compilers load weights so far ahead that they run out of registers.
#define V_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm,tune=neoverse-v1")))
#else
#define V_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define V_INLINE static inline __attribute__((always_inline, unused)) V_TARGET

typedef float32x4_t vf;
typedef int32x4_t vi;

V_INLINE vf v_set(float x) { return vdupq_n_f32(x); }
V_INLINE vf v_load(const float *p) { return vld1q_f32(p); }
V_INLINE void v_store(float *p, vf x) { vst1q_f32(p, x); }

V_INLINE uint32x4_t v_mask(size_t n) {
  static const uint32_t lanes[4] = {0, 1, 2, 3};
  return vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)n));
}
// Four codes, one a byte.
V_INLINE uint32_t v_codes(vi x) {
  uint16x4_t words = vqmovun_s32(x);
  return vget_lane_u32(vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words))), 0);
}

V_INLINE vf v_load_part(const float *p, size_t n) {
  float lanes[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < n; i += 1) lanes[i] = p[i];
  return vld1q_f32(lanes);
}
V_INLINE void v_store_part(float *p, vf x, size_t n) {
  float lanes[4];
  vst1q_f32(lanes, x);
  for (size_t i = 0; i < n; i += 1) p[i] = lanes[i];
}
V_INLINE vi v_load_int_part(const int32_t *p, size_t n) {
  int32_t lanes[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < n; i += 1) lanes[i] = p[i];
  return vld1q_s32(lanes);
}
V_INLINE void v_store_codes_part(uint8_t *p, vi x, size_t n) {
  uint32_t codes = v_codes(x);
  for (size_t i = 0; i < n; i += 1) p[i] = (uint8_t)(codes >> (8 * i));
}
V_INLINE vf v_first(vf x, vf fill, size_t n) { return vbslq_f32(v_mask(n), x, fill); }

V_INLINE vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
V_INLINE vf v_subtract(vf a, vf b) { return vsubq_f32(a, b); }
V_INLINE vf v_multiply(vf a, vf b) { return vmulq_f32(a, b); }
V_INLINE vf v_divide(vf a, vf b) { return vdivq_f32(a, b); }
V_INLINE vf v_square_root(vf a) { return vsqrtq_f32(a); }
V_INLINE vf v_fused(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
// The instructions of that name hand on not-a-number from either side.
V_INLINE vf v_maximum(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
V_INLINE vf v_minimum(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
V_INLINE vf v_absolute(vf a) { return vabsq_f32(a); }
V_INLINE vf v_flip(vf a) {
  return vreinterpretq_f32_u8(veorq_u8(vreinterpretq_u8_f32(a), vdupq_n_u8(128)));
}
V_INLINE float v_sum(vf a) { return vaddvq_f32(a); }
V_INLINE float v_largest(vf a) { return vmaxvq_f32(a); }

V_INLINE vi v_load_int(const int32_t *p) { return vld1q_s32(p); }
V_INLINE vi v_set_int(int32_t x) { return vdupq_n_s32(x); }
V_INLINE vi v_add_int(vi a, vi b) { return vaddq_s32(a, b); }
V_INLINE vi v_subtract_int(vi a, vi b) { return vsubq_s32(a, b); }
V_INLINE vf v_float(vi a) { return vcvtq_f32_s32(a); }
V_INLINE vi v_round(vf a) { return vcvtnq_s32_f32(a); }
V_INLINE vf v_scale_by_power(vf a, vf b) {
  return vreinterpretq_f32_s32(
      vaddq_s32(vreinterpretq_s32_f32(a), vshlq_n_s32(vreinterpretq_s32_f32(b), 23)));
}
V_INLINE vf v_load_codes(const int8_t *p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  int16x8_t words = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}
V_INLINE void v_store_codes(uint8_t *p, vi x) {
  uint32_t codes = v_codes(x);
  __builtin_memcpy(p, &codes, 4);
}

V_INLINE vf v_load_float16(const uint16_t *p) {
  const uint32x4_t x = vmovl_u16(vld1_u16(p));
  const uint32x4_t magnitude = vshlq_n_u32(vandq_u32(x, vdupq_n_u32(0x7fff)), 13);
  const uint32x4_t sign = vshlq_n_u32(vandq_u32(x, vdupq_n_u32(0x8000)), 16);
  const vf y = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), 0x1p112f);
  return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(y), sign));
}
V_INLINE vf v_load_bfloat16(const uint16_t *p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

V_INLINE vf v_round_bfloat16(vf x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  const uint32x4_t y = vbslq_u32(vceqq_f32(x, x), rounded, quiet);
  return vreinterpretq_f32_u32(vandq_u32(y, vdupq_n_u32(0xffff0000)));
}

typedef uint32x4_t vh;
V_INLINE vh h_load(const uint16_t *p) { return vreinterpretq_u32_u16(vld1q_u16(p)); }
#ifdef V_HAS_BFLOAT16
V_INLINE vh h_pair(const uint16_t *p) {
  uint32_t two;
  __builtin_memcpy(&two, p, 4);
  return vdupq_n_u32(two);
}
V_INLINE vf h_dot(vf sum, vh a, vh w) {
  return vbfdotq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(w));
}
V_INLINE void v_store_bfloat16(uint16_t *p, vf x) {
  vst1_u16(p, vshrn_n_u32(vreinterpretq_u32_f32(x), 16));
}
#else
V_INLINE vf h_first(vh x) { return vreinterpretq_f32_u32(vshlq_n_u32(x, 16)); }
V_INLINE vf h_second(vh x) {
  return vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff0000)));
}
#endif

#define B_COUNT 4
typedef uint8x16_t vb;
V_INLINE vb b_set(uint8_t x) { return vdupq_n_u8(x); }
V_INLINE vb b_fours(const uint8_t *p, int index) {
  const uint8x16_t x = vld1q_u8(p + 16 * (index % 2));
  return index < 2 ? vandq_u8(x, b_set(15)) : vshrq_n_u8(x, 4);
}
V_INLINE vb b_twos(const uint8_t *p, int index) {
  const int8x16_t shift = vdupq_n_s8((int8_t)(-2 * index));
  return vandq_u8(vshlq_u8(vld1q_u8(p), shift), b_set(3));
}
V_INLINE vb b_ones(const uint8_t *p, int index) {
  const uint8x8_t x = vld1_u8(p);
  const int8x16_t shifts =
      vcombine_s8(vdup_n_s8((int8_t)(-2 * index)), vdup_n_s8((int8_t)(-2 * index - 1)));
  return vandq_u8(vshlq_u8(vcombine_u8(x, x), shifts), b_set(1));
}
V_INLINE vb b_join(vb low, vb high, int shift) {
  return vorrq_u8(low, vshlq_u8(high, vdupq_n_s8((int8_t)shift)));
}
V_INLINE vb b_signed(vb x, vb sign) { return vsubq_u8(veorq_u8(x, sign), sign); }
V_INLINE void b_store(int8_t *p, int index, vb x) {
  vst1q_s8(p + 16 * index, vreinterpretq_s8_u8(x));
}
V_INLINE void b_interleave(const uint8_t *const rows[4], size_t column, int8_t *to) {
  uint8x16x4_t bytes;
  for (int r = 0; r < 4; r += 1) {
    bytes.val[r] = veorq_u8(vld1q_u8(rows[r] + column), vdupq_n_u8(128));
  }
  vst4q_u8((uint8_t *)to, bytes);
}

typedef int32x4_t vq;
V_INLINE vq v_load_quads(const int8_t *p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
V_INLINE vf v_quad_first(vq x) { return vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(x, 24), 24)); }
V_INLINE vq v_quad_rest(vq x) { return vshrq_n_s32(x, 8); }

V_INLINE void v_transpose(vf rows[V_COUNT]) {
  float32x4x2_t low = vtrnq_f32(rows[0], rows[1]), high = vtrnq_f32(rows[2], rows[3]);
  rows[0] = vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0]));
  rows[1] = vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1]));
  rows[2] = vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0]));
  rows[3] = vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1]));
}

V_INLINE void v_prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }

#define D_COUNT 4
typedef uint8x16_t va;
V_INLINE va d_activations(const uint8_t *p) {
  uint32_t four;
  __builtin_memcpy(&four, p, 4);
  return vreinterpretq_u8_u32(vdupq_n_u32(four));
}

#ifdef V_HAS_I8MM
typedef int32x4_t vd;
V_INLINE vd d_zero(void) { return vdupq_n_s32(0); }
V_INLINE vq d_weights(const int8_t *panel, int index) { return v_load_quads(panel + 16 * index); }
V_INLINE vd d_dot(vd sum, va a, vq w) { return vusdotq_s32(sum, a, vreinterpretq_s8_s32(w)); }
#define D_PEAK_DEPTH 8
V_INLINE vd d_peak(vd sum, va a, vq w) { return vusmmlaq_s32(sum, a, vreinterpretq_s8_s32(w)); }
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  (void)row, (void)depth;
  for (int d = 0; d < 4; d += 1) vst1q_s32(output + 4 * d, sums[d]);
}

// Two groups of four of two rows meet those of two channels at a time, which makes a square of
// sums: those of the first row, then of the second. Interleaving two groups of a panel pairs
// channels; a row without another is paired with itself, a last group without another with zeros.
#define V_HAS_QU8_SUMS
// Of the tiles below, which have one panel.
#define MATRIX_ROWS_MAX 6

V_INLINE va matrix_rows(const uint8_t *first, const uint8_t *second, const bool is_whole) {
  uint64_t halves[2] = {0, 0};
  __builtin_memcpy(&halves[0], first, is_whole ? 8 : 4);
  __builtin_memcpy(&halves[1], second, is_whole ? 8 : 4);
  return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(halves[0]), vcreate_u64(halves[1])));
}

// One group, or both of two, of a whole tile.
V_INLINE void matrix_step(
    const uint8_t *a, const int8_t *w, size_t stride, size_t panel_stride, vd *squares,
    const int rows, const int panels, const bool is_whole) {
  const int pairs = (rows + 1) / 2, vectors = panels * D_COUNT;
  va x[MATRIX_ROWS_MAX / 2];
  V_UNROLL for (int r = 0; r < pairs; r += 1) {
    const uint8_t *row = a + (size_t)(2 * r) * stride;
    x[r] = matrix_rows(row, 2 * r + 1 < rows ? row + stride : row, is_whole);
  }
  V_UNROLL for (int v = 0; v < vectors; v += 1) {
    const int8_t *panel = w + (size_t)(v / D_COUNT) * panel_stride;
    const vq one = d_weights(panel, v % D_COUNT);
    const vq two = is_whole ? d_weights(panel + 64, v % D_COUNT) : vdupq_n_s32(0);
    const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(one, two));
    const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(one, two));
    V_UNROLL for (int r = 0; r < pairs; r += 1) {
      vd *square = &squares[2 * (r * vectors + v)];
      square[0] = vusmmlaq_s32(square[0], x[r], low);
      square[1] = vusmmlaq_s32(square[1], x[r], high);
    }
  }
}

V_INLINE vd matrix_first(vd a, vd b) {
  return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
V_INLINE vd matrix_second(vd a, vd b) {
  return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

// See gemm.inc.
V_INLINE void qu8_sums(
    const uint8_t **activations, const int8_t **weights, size_t stride, size_t panel_stride,
    size_t depth, vd *sums, const int rows, const int panels, const char **fetched) {
  const uint8_t *a = *activations;
  const int8_t *w = *weights;
  const int pairs = (rows + 1) / 2, vectors = panels * D_COUNT;
  vd squares[MATRIX_ROWS_MAX * D_COUNT];
  V_UNROLL for (int i = 0; i < 2 * pairs * vectors; i += 1) squares[i] = d_zero();
  for (size_t k = 0, fetch = 0; k + 2 <= depth; k += 2) {
    matrix_step(a, w, stride, panel_stride, squares, rows, panels, true);
    if (fetched) {
      V_UNROLL for (int p = 0; p < panels; p += 1) {
        v_prefetch(fetched[p] + fetch);
        v_prefetch(fetched[p] + fetch + 64);
      }
      fetch += 128;
    }
    a += 8;
    w += 128;
  }
  if (depth % 2 != 0) {
    matrix_step(a, w, stride, panel_stride, squares, rows, panels, false);
    a += 4;
    w += 64;
  }
  V_UNROLL for (int r = 0; r < rows; r += 1) {
    V_UNROLL for (int v = 0; v < vectors; v += 1) {
      const vd *square = &squares[2 * (r / 2 * vectors + v)];
      const vd row = r % 2 == 0 ? matrix_first(square[0], square[1])
                                : matrix_second(square[0], square[1]);
      sums[r * vectors + v] = vaddq_s32(sums[r * vectors + v], row);
    }
  }
  *activations = a;
  *weights = w;
}
#else
typedef uint32x4_t vd;
V_INLINE vd d_zero(void) { return vdupq_n_u32(0); }
V_INLINE vq d_weights(const int8_t *panel, int index) {
  uint8x16_t x = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(panel + 16 * index)), vdupq_n_u8(128));
  return vreinterpretq_s32_u8(x);
}
V_INLINE vd d_dot(vd sum, va a, vq w) { return vdotq_u32(sum, a, vreinterpretq_u8_s32(w)); }
#define D_PEAK_DEPTH 4
#define d_peak d_dot
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  uint32_t total = 0;
  size_t i = 0;
  uint32x4_t part = vdupq_n_u32(0);
  for (; i + 4 <= depth; i += 4) part = vdotq_u32(part, vld1q_u8(row + 4 * i), vdupq_n_u8(1));
  for (i *= 4; i < 4 * depth; i += 1) total += row[i];
  vd offset = vdupq_n_u32(128 * (total + vaddvq_u32(part)));
  for (int d = 0; d < 4; d += 1) {
    vst1q_s32(output + 4 * d, vreinterpretq_s32_u32(vsubq_u32(sums[d], offset)));
  }
}
#endif

#define QU8_QS8W_ROWS 6
#define QU8_QS8W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
#ifdef V_HAS_I8MM
#define QU8_GROUPS_ROWS 4
#define QU8_GROUPS_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1)
#else
#define QU8_GROUPS_ROWS 3
#define QU8_GROUPS_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1)
#endif
#define F32_F32W_ROWS 6
#define F32_F32W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
#define F32_BF16W_ROWS 6
#define F32_BF16W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
#define F32_QS8W_ROWS 4
#define F32_QS8W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1)
#define F32_GRADIENT_ROWS 12
#define F32_GRADIENT_VECTORS 2
#define F32_GRADIENT_TILES(T) \
  T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2) T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)

#endif

// Vector primitives for AVX-512 with VNNI: 16 lanes. vector-portable.h says what each does.
//
// With `V_HAS_BFLOAT16` bfloat16 is multiplied as it is.

#ifndef CLIP_VECTOR_AVX512_H
#define CLIP_VECTOR_AVX512_H

#include <immintrin.h>

#include "vector.h"

#define V_COUNT 16
#ifdef V_HAS_BFLOAT16
#define V_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,fma")))
#else
#define V_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))
#endif
#define V_INLINE static inline __attribute__((always_inline, unused)) V_TARGET

// Makes a pointer seem to depend on a value. With one register less, as where frame pointers are
// kept, compilers would load what all rows of a tile need before the first product, and move sums
// to the stack to make room.
#define V_AFTER(pointer, value) __asm__("" : "+r"(pointer) : "v"(value))

typedef __m512 vf;
typedef __m512i vi;

V_INLINE __mmask16 v_mask(size_t n) { return (__mmask16)((1u << n) - 1); }

V_INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
V_INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
V_INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }

V_INLINE vf v_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }
V_INLINE void v_store_part(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, v_mask(n), x); }
V_INLINE vi v_load_int_part(const int32_t *p, size_t n) {
  return _mm512_maskz_loadu_epi32(v_mask(n), p);
}
V_INLINE void v_store_codes_part(uint8_t *p, vi x, size_t n) {
  _mm_mask_storeu_epi8(p, v_mask(n), _mm512_cvtepi32_epi8(x));
}
V_INLINE vf v_first(vf x, vf fill, size_t n) { return _mm512_mask_blend_ps(v_mask(n), fill, x); }

V_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
V_INLINE vf v_subtract(vf a, vf b) { return _mm512_sub_ps(a, b); }
V_INLINE vf v_multiply(vf a, vf b) { return _mm512_mul_ps(a, b); }
V_INLINE vf v_divide(vf a, vf b) { return _mm512_div_ps(a, b); }
V_INLINE vf v_square_root(vf a) { return _mm512_sqrt_ps(a); }
V_INLINE vf v_fused(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
V_INLINE vf v_maximum(vf a, vf b) { return _mm512_max_ps(a, b); }
V_INLINE vf v_minimum(vf a, vf b) { return _mm512_min_ps(a, b); }
V_INLINE vf v_absolute(vf a) { return _mm512_abs_ps(a); }
V_INLINE vf v_flip(vf a) {
  return _mm512_xor_ps(a, _mm512_castsi512_ps(_mm512_set1_epi8((char)128)));
}
V_INLINE float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
V_INLINE float v_largest(vf a) { return _mm512_reduce_max_ps(a); }

V_INLINE vi v_load_int(const int32_t *p) { return _mm512_loadu_si512(p); }
V_INLINE vi v_set_int(int32_t x) { return _mm512_set1_epi32(x); }
V_INLINE vi v_add_int(vi a, vi b) { return _mm512_add_epi32(a, b); }
V_INLINE vi v_subtract_int(vi a, vi b) { return _mm512_sub_epi32(a, b); }
V_INLINE vf v_float(vi a) { return _mm512_cvtepi32_ps(a); }
V_INLINE vi v_round(vf a) { return _mm512_cvtps_epi32(a); }
V_INLINE vf v_scale_by_power(vf a, vf b) {
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(b), 23)));
}
V_INLINE vf v_load_codes(const int8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
V_INLINE void v_store_codes(uint8_t *p, vi x) {
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
}

V_INLINE __m512i v_load_words(const uint16_t *p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
V_INLINE vf v_load_float16(const uint16_t *p) {
  const __m512i x = v_load_words(p);
  const __m512i magnitude = _mm512_slli_epi32(_mm512_and_si512(x, _mm512_set1_epi32(0x7fff)), 13);
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(x, _mm512_set1_epi32(0x8000)), 16);
  const vf y = _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p112f));
  return _mm512_or_ps(y, _mm512_castsi512_ps(sign));
}
V_INLINE vf v_load_bfloat16(const uint16_t *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(v_load_words(p), 16));
}

V_INLINE vf v_round_bfloat16(vf x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i y = _mm512_mask_or_epi32(
      _mm512_add_epi32(bits, half), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), bits,
      _mm512_set1_epi32(0x400000));
  return _mm512_castsi512_ps(_mm512_and_si512(y, _mm512_set1_epi32((int)0xffff0000)));
}

typedef __m512i vh;
V_INLINE vh h_load(const uint16_t *p) { return _mm512_loadu_si512(p); }
#ifdef V_HAS_BFLOAT16
V_INLINE vh h_pair(const uint16_t *p) {
  int32_t two;
  __builtin_memcpy(&two, p, 4);
  return _mm512_set1_epi32(two);
}
V_INLINE vf h_dot(vf sum, vh a, vh w) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)w); }
V_INLINE void v_store_bfloat16(uint16_t *p, vf x) {
  const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(upper));
}
#else
V_INLINE vf h_first(vh x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
V_INLINE vf h_second(vh x) {
  return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000)));
}
#endif

#define B_COUNT 1
typedef __m512i vb;
V_INLINE vb b_set(uint8_t x) { return _mm512_set1_epi8((char)x); }
V_INLINE vb b_fours(const uint8_t *p, int index) {
  const __m512i x = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
  const __m512i shifts = _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4);
  return (void)index, _mm512_and_si512(_mm512_srlv_epi64(x, shifts), b_set(15));
}
V_INLINE vb b_twos(const uint8_t *p, int index) {
  const __m512i x = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
  const __m512i shifts = _mm512_setr_epi64(0, 0, 2, 2, 4, 4, 6, 6);
  return (void)index, _mm512_and_si512(_mm512_srlv_epi64(x, shifts), b_set(3));
}
V_INLINE vb b_ones(const uint8_t *p, int index) {
  int64_t x;
  __builtin_memcpy(&x, p, 8);
  const __m512i shifts = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  return (void)index,
         _mm512_and_si512(_mm512_srlv_epi64(_mm512_set1_epi64(x), shifts), b_set(1));
}
V_INLINE vb b_join(vb low, vb high, int shift) {
  return _mm512_or_si512(low, _mm512_slli_epi16(high, (unsigned)shift));
}
V_INLINE vb b_signed(vb x, vb sign) { return _mm512_sub_epi8(_mm512_xor_si512(x, sign), sign); }
V_INLINE void b_store(int8_t *p, int index, vb x) { (void)index, _mm512_storeu_si512(p, x); }
#include "vector-x86.inc"

typedef __m512i vq;
V_INLINE vq v_load_quads(const int8_t *p) { return _mm512_loadu_si512(p); }
V_INLINE vf v_quad_first(vq x) {
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24));
}
V_INLINE vq v_quad_rest(vq x) { return _mm512_srli_epi32(x, 8); }

V_INLINE void v_transpose(vf rows[V_COUNT]) {
  __m512 pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  // Now rows[4 i + j] has, in each quarter, lane j of that quarter of the four rows from 4 i.
  for (int i = 0; i < 16; i += 4) {
    for (int half = 0; half < 2; half += 1) {
      __m512d low = _mm512_castps_pd(pairs[i + half]), high = _mm512_castps_pd(pairs[i + half + 2]);
      rows[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      rows[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  for (int j = 0; j < 4; j += 1) {
    __m512 a = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0x88);
    __m512 b = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0x88);
    pairs[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    pairs[8 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
    a = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0xdd);
    b = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0xdd);
    pairs[4 + j] = _mm512_shuffle_f32x4(a, b, 0x88);
    pairs[12 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
  }
  for (int i = 0; i < 16; i += 1) rows[i] = pairs[i];
}

V_INLINE void v_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

#define D_COUNT 1
typedef __m512i vd;
typedef __m512i va;
V_INLINE vd d_zero(void) { return _mm512_setzero_si512(); }
V_INLINE va d_activations(const uint8_t *p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
V_INLINE vq d_weights(const int8_t *panel, int index) {
  return (void)index, _mm512_loadu_si512(panel);
}
V_INLINE vd d_dot(vd sum, va a, vq w) { return _mm512_dpbusd_epi32(sum, a, w); }
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  (void)row, (void)depth;
  _mm512_storeu_si512(output, sums[0]);
}

#define D_PEAK_DEPTH 4
#define d_peak d_dot

#define QU8_QS8W_ROWS 6
#define QU8_QS8W_TILES(T) \
  T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4) T(7, 3) T(8, 3) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)
#define QU8_GROUPS_ROWS 6
#define QU8_GROUPS_TILES(T) \
  T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)
#define F32_F32W_ROWS 12
#define F32_F32W_TILES(T) \
  T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4) T(7, 3) T(8, 3) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)
#ifdef V_HAS_BFLOAT16
#define F32_BF16W_ROWS 12
#define F32_BF16W_TILES(T) \
  T(1, 4) T(2, 4) T(3, 2) T(4, 2) T(5, 2) T(6, 2) T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)
#else
#define F32_BF16W_ROWS 6
#define F32_BF16W_TILES(T) \
  T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)
#endif
#define F32_QS8W_ROWS 12
#define F32_QS8W_TILES(T) \
  T(1, 4) T(2, 4) T(3, 4) T(4, 4) T(5, 4) T(6, 4) T(7, 3) T(8, 3) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)
#define F32_GRADIENT_ROWS 12
#define F32_GRADIENT_VECTORS 2
#define F32_GRADIENT_TILES(T) \
  T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2) T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2) \
  T(12, 2)

#endif

// Vector primitives for AVX2 with FMA: 8 lanes. vector-portable.h says what each does.
//
// With `V_HAS_VNNI` the dot product is the AVX-VNNI instruction; without, bytes are widened to 16
// bits first, since the byte multiply-add of AVX2 saturates.

#ifndef CLIP_VECTOR_AVX2_H
#define CLIP_VECTOR_AVX2_H

#include <immintrin.h>

#include "vector.h"

#define V_COUNT 8
#ifdef V_HAS_VNNI
#define V_TARGET __attribute__((target("avx2,fma,avxvnni")))
#else
#define V_TARGET __attribute__((target("avx2,fma")))
#endif
#define V_INLINE static inline __attribute__((always_inline, unused)) V_TARGET

typedef __m256 vf;
typedef __m256i vi;

V_INLINE __m256i v_mask(size_t n) {
  return _mm256_cmpgt_epi32(
      _mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

V_INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
V_INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
V_INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }

V_INLINE __m128i v_codes(vi x) {
  __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return _mm_packus_epi16(words, words);
}

V_INLINE vf v_load_part(const float *p, size_t n) { return _mm256_maskload_ps(p, v_mask(n)); }
V_INLINE void v_store_part(float *p, vf x, size_t n) { _mm256_maskstore_ps(p, v_mask(n), x); }
V_INLINE vi v_load_int_part(const int32_t *p, size_t n) {
  return _mm256_maskload_epi32((const int *)p, v_mask(n));
}
V_INLINE void v_store_codes_part(uint8_t *p, vi x, size_t n) {
  uint64_t codes = (uint64_t)_mm_cvtsi128_si64(v_codes(x));
  for (size_t i = 0; i < n; i += 1) p[i] = (uint8_t)(codes >> (8 * i));
}
V_INLINE vf v_first(vf x, vf fill, size_t n) {
  return _mm256_blendv_ps(fill, x, _mm256_castsi256_ps(v_mask(n)));
}

V_INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
V_INLINE vf v_subtract(vf a, vf b) { return _mm256_sub_ps(a, b); }
V_INLINE vf v_multiply(vf a, vf b) { return _mm256_mul_ps(a, b); }
V_INLINE vf v_divide(vf a, vf b) { return _mm256_div_ps(a, b); }
V_INLINE vf v_square_root(vf a) { return _mm256_sqrt_ps(a); }
V_INLINE vf v_fused(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
V_INLINE vf v_maximum(vf a, vf b) { return _mm256_max_ps(a, b); }
V_INLINE vf v_minimum(vf a, vf b) { return _mm256_min_ps(a, b); }
V_INLINE vf v_absolute(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
V_INLINE vf v_flip(vf a) {
  return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi8((char)128)));
}
V_INLINE float v_sum(vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
V_INLINE float v_largest(vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

V_INLINE vi v_load_int(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
V_INLINE vi v_set_int(int32_t x) { return _mm256_set1_epi32(x); }
V_INLINE vi v_add_int(vi a, vi b) { return _mm256_add_epi32(a, b); }
V_INLINE vi v_subtract_int(vi a, vi b) { return _mm256_sub_epi32(a, b); }
V_INLINE vf v_float(vi a) { return _mm256_cvtepi32_ps(a); }
V_INLINE vi v_round(vf a) { return _mm256_cvtps_epi32(a); }
V_INLINE vf v_scale_by_power(vf a, vf b) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(b), 23)));
}
V_INLINE vf v_load_codes(const int8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
V_INLINE void v_store_codes(uint8_t *p, vi x) { _mm_storel_epi64((__m128i *)p, v_codes(x)); }

V_INLINE __m256i v_load_bytes(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

V_INLINE __m256i v_load_words(const uint16_t *p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
V_INLINE vf v_load_float16(const uint16_t *p) {
  const __m256i x = v_load_words(p);
  const __m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0x7fff)), 13);
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0x8000)), 16);
  const vf y = _mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p112f));
  return _mm256_or_ps(y, _mm256_castsi256_ps(sign));
}
V_INLINE vf v_load_bfloat16(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(v_load_words(p), 16));
}

V_INLINE vf v_round_bfloat16(vf x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i y = _mm256_blendv_epi8(_mm256_add_epi32(bits, half), quiet, unordered);
  return _mm256_castsi256_ps(_mm256_and_si256(y, _mm256_set1_epi32((int)0xffff0000)));
}

typedef __m256i vh;
V_INLINE vh h_load(const uint16_t *p) { return v_load_bytes(p); }
V_INLINE vf h_first(vh x) { return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)); }
V_INLINE vf h_second(vh x) {
  return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000)));
}

#define B_COUNT 2
typedef __m256i vb;
V_INLINE vb b_set(uint8_t x) { return _mm256_set1_epi8((char)x); }
V_INLINE vb b_fours(const uint8_t *p, int index) {
  const __m256i x = v_load_bytes(p);
  return _mm256_and_si256(index == 0 ? x : _mm256_srli_epi16(x, 4), b_set(15));
}
V_INLINE vb b_twos(const uint8_t *p, int index) {
  const __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
  const __m256i shifts = _mm256_setr_epi64x(4 * index, 4 * index, 4 * index + 2, 4 * index + 2);
  return _mm256_and_si256(_mm256_srlv_epi64(x, shifts), b_set(3));
}
V_INLINE vb b_ones(const uint8_t *p, int index) {
  int64_t x;
  __builtin_memcpy(&x, p, 8);
  const __m256i shifts =
      _mm256_setr_epi64x(4 * index, 4 * index + 1, 4 * index + 2, 4 * index + 3);
  return _mm256_and_si256(_mm256_srlv_epi64(_mm256_set1_epi64x(x), shifts), b_set(1));
}
V_INLINE vb b_join(vb low, vb high, int shift) {
  return _mm256_or_si256(low, _mm256_slli_epi16(high, shift));
}
V_INLINE vb b_signed(vb x, vb sign) { return _mm256_sub_epi8(_mm256_xor_si256(x, sign), sign); }
V_INLINE void b_store(int8_t *p, int index, vb x) {
  _mm256_storeu_si256((__m256i *)(p + 32 * index), x);
}
#include "vector-x86.inc"

typedef __m256i vq;
V_INLINE vq v_load_quads(const int8_t *p) { return v_load_bytes(p); }
V_INLINE vf v_quad_first(vq x) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 24), 24));
}
V_INLINE vq v_quad_rest(vq x) { return _mm256_srli_epi32(x, 8); }

V_INLINE void v_transpose(vf rows[V_COUNT]) {
  __m256 pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  // Now rows[4 i + j] has, in each half, lane j of that half of the four rows from 4 i.
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; half += 1) {
      __m256d low = _mm256_castps_pd(pairs[i + half]), high = _mm256_castps_pd(pairs[i + half + 2]);
      rows[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      rows[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
  }
  for (int j = 0; j < 4; j += 1) {
    pairs[j] = _mm256_permute2f128_ps(rows[j], rows[4 + j], 0x20);
    pairs[4 + j] = _mm256_permute2f128_ps(rows[j], rows[4 + j], 0x31);
  }
  for (int i = 0; i < 8; i += 1) rows[i] = pairs[i];
}

V_INLINE void v_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

typedef __m256i vd;
typedef __m256i va;
V_INLINE vd d_zero(void) { return _mm256_setzero_si256(); }

#ifdef V_HAS_VNNI

#define D_COUNT 2
V_INLINE va d_activations(const uint8_t *p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
V_INLINE vq d_weights(const int8_t *panel, int index) { return v_load_bytes(panel + 32 * index); }
V_INLINE vd d_dot(vd sum, va a, vq w) { return _mm256_dpbusd_avx_epi32(sum, a, w); }
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  (void)row, (void)depth;
  _mm256_storeu_si256((__m256i *)output, sums[0]);
  _mm256_storeu_si256((__m256i *)(output + 8), sums[1]);
}
#define QU8_GROUPS_ROWS 3
#define QU8_GROUPS_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1)
#define QU8_QS8W_ROWS 6
#define QU8_QS8W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)

#else

// Each accumulator holds four channels, two partial sums a channel.
#define D_COUNT 4
V_INLINE va d_activations(const uint8_t *p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
}
V_INLINE vq d_weights(const int8_t *panel, int index) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(panel + 16 * index)));
}
V_INLINE vd d_dot(vd sum, va a, vq w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, w)); }
V_INLINE void d_store(const vd *sums, const uint8_t *row, size_t depth, int32_t *output) {
  (void)row, (void)depth;
  for (int i = 0; i < 4; i += 2) {
    __m256i pair = _mm256_hadd_epi32(sums[i], sums[i + 1]);
    pair = _mm256_permute4x64_epi64(pair, 0xd8);
    _mm256_storeu_si256((__m256i *)(output + 4 * i), pair);
  }
}
#define QU8_GROUPS_ROWS 2
#define QU8_GROUPS_TILES(T) \
  T(1, 1) T(2, 1)
#define QU8_QS8W_ROWS 3
#define QU8_QS8W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1)

#endif

#define D_PEAK_DEPTH 4
#define d_peak d_dot

#define F32_F32W_ROWS 6
#define F32_F32W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
#define F32_BF16W_ROWS 6
#define F32_BF16W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1)
#define F32_QS8W_ROWS 4
#define F32_QS8W_TILES(T) \
  T(1, 1) T(2, 1) T(3, 1) T(4, 1)
#define F32_GRADIENT_ROWS 6
#define F32_GRADIENT_VECTORS 2
#define F32_GRADIENT_TILES(T) \
  T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)

#endif

// What every kernel set includes before its vector primitives.

#ifndef CLIP_VECTOR_H
#define CLIP_VECTOR_H

#include "kernels.h"

// A product and a sum are two roundings unless a primitive says otherwise: otherwise sets would
// differ wherever one has a fused instruction and another has not.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define V_NO_UNROLL _Pragma("clang loop unroll(disable)")
#define V_UNROLL_FULLY _Pragma("clang loop unroll(full)")
#else
#pragma GCC optimize("fp-contract=off")
#define V_NO_UNROLL _Pragma("GCC unroll 1")
#define V_UNROLL_FULLY _Pragma("GCC unroll 16")
#endif

// Loops whose arrays are to be registers.
#ifdef V_IS_COMPACT
#define V_UNROLL V_NO_UNROLL
#else
#define V_UNROLL V_UNROLL_FULLY
#endif

#define V_PASTE_(a, b) a##b
#define V_PASTE(a, b) V_PASTE_(a, b)
// A kernel's full name in the set that is being compiled, see kernels.h.
#define V_NAME(kernel) V_PASTE(V_PASTE(clip_, kernel), V_PASTE(__, V_SET))

typedef union clip_float_bits {
  float value;
  uint32_t bits;
} clip_float_bits;

static inline __attribute__((always_inline, unused)) uint32_t clip_bits_of_float(float x) {
  clip_float_bits pun = {.value = x};
  return pun.bits;
}

static inline __attribute__((always_inline, unused)) float clip_float_from_bits(uint32_t x) {
  clip_float_bits pun = {.bits = x};
  return pun.value;
}

// A finite binary16, exactly: its exponent moves over by a multiplication.
static inline __attribute__((always_inline, unused)) float clip_float_from_float16(uint16_t x) {
  const float magnitude = clip_float_from_bits((x & 0x7fffu) << 13) * 0x1p112f;
  return clip_float_from_bits(clip_bits_of_float(magnitude) | (x & 0x8000u) << 16);
}

// 1 / sqrt(x) for positive normal x, to one part in 10^10, the same in all sets: a first guess by
// halving the exponent, then Newton's iteration, which doubles the digits.
static inline __attribute__((always_inline, unused)) double clip_reciprocal_square_root(double x) {
  union {
    double value;
    uint64_t bits;
  } pun = {.value = x};
  pun.bits = 0x5fe6eb50c7b537a9u - (pun.bits >> 1);
  double y = pun.value;
  for (int i = 0; i < 3; i += 1) y = y * (1.5 - 0.5 * x * y * y);
  return y;
}

#endif

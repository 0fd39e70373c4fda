// The table of kernel sets, and what the processor can do.

#include "architecture.h"
#include "kernels.h"

#ifdef CLIP_X86_64
#include <cpuid.h>

// These include that the system saves the registers (by xgetbv).
static bool clip_cpu_has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool clip_cpu_has_avx512_vnni(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

// Not among the names that every compiler's `__builtin_cpu_supports` knows.
static bool clip_cpu_has_leaf_7_1(int bit) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> bit & 1) != 0;
}

static bool clip_cpu_has_avx_vnni(void) { return clip_cpu_has_leaf_7_1(4); }

static bool clip_cpu_has_avx512_bf16(void) { return clip_cpu_has_leaf_7_1(5); }
#endif

#ifdef CLIP_ARM64
#ifdef CLIP_LINUX
#include <sys/auxv.h>

static bool clip_cpu_has_neon_dot(void) {
  const unsigned long dot_product = 1ul << 20;
  return (getauxval(AT_HWCAP) & dot_product) != 0;
}

static bool clip_cpu_has_neon_i8mm(void) {
  const unsigned long matrix_product = 1ul << 13;
  return (getauxval(AT_HWCAP2) & matrix_product) != 0;
}

static bool clip_cpu_has_neon_bf16(void) {
  const unsigned long bfloat16 = 1ul << 14;
  return (getauxval(AT_HWCAP2) & bfloat16) != 0;
}
#else
static bool clip_cpu_has_neon_dot(void) {
#ifdef __ARM_FEATURE_DOTPROD
  return true;
#else
  return false;
#endif
}

static bool clip_cpu_has_neon_i8mm(void) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  return true;
#else
  return false;
#endif
}

static bool clip_cpu_has_neon_bf16(void) {
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
  return true;
#else
  return false;
#endif
}
#endif
#endif

#define KERNEL_SET(name, supported) extern const clip_kernel_set clip_kernel_set__##name;
#include "kernel-sets.inc"
#undef KERNEL_SET

enum {
#define KERNEL_SET(name, supported) KERNEL_SET_INDEX_##name,
#include "kernel-sets.inc"
#undef KERNEL_SET
  KERNEL_SET_COUNT
};

size_t clip_kernel_sets_count(void) { return KERNEL_SET_COUNT; }

const clip_kernel_set *clip_kernel_sets_at(size_t index) {
  static const clip_kernel_set *const sets[] = {
#define KERNEL_SET(name, supported) &clip_kernel_set__##name,
#include "kernel-sets.inc"
#undef KERNEL_SET
  };
  return sets[index < KERNEL_SET_COUNT ? index : 0];
}

const char *clip_kernel_sets_name(size_t index) {
  static const char *const names[] = {
#define KERNEL_SET(name, supported) #name,
#include "kernel-sets.inc"
#undef KERNEL_SET
  };
  return names[index < KERNEL_SET_COUNT ? index : 0];
}

bool clip_kernel_sets_is_supported(size_t index) {
  switch (index) {
#define KERNEL_SET(name, supported) \
  case KERNEL_SET_INDEX_##name:     \
    return supported;
#include "kernel-sets.inc"
#undef KERNEL_SET
    default:
      return false;
  }
}

size_t clip_kernel_sets_best(void) {
  size_t index = KERNEL_SET_COUNT - 1;
  while (index > 0 && !clip_kernel_sets_is_supported(index)) index -= 1;
  return index;
}

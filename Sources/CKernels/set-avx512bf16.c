// The kernel set `avx512bf16`: `avx512vnni` with the bfloat16 dot product.

#include "architecture.h"

#ifdef CLIP_X86_64
#define V_HAS_BFLOAT16
#define V_FLOATS_OF avx512vnni
#define V_INTEGERS_OF avx512vnni
#include "vector-avx512.h"

#define V_SET avx512bf16
#include "kernel-set.inc"
#endif

// The kernel set `avx2`: AVX2 with FMA.

#include "architecture.h"

#ifdef CLIP_X86_64
#define V_LENDS_FLOATS
#include "vector-avx2.h"

#define V_SET avx2
#include "kernel-set.inc"
#endif

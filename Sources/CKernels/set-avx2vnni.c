// The kernel set `avx2vnni`: AVX2 with FMA and the 256-bit dot product of AVX-VNNI.

#include "architecture.h"

#ifdef CLIP_X86_64
#define V_HAS_VNNI
#define V_FLOATS_OF avx2
#include "vector-avx2.h"

#define V_SET avx2vnni
#include "kernel-set.inc"
#endif

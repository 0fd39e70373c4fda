// The kernel set `neonbf16`: `neoni8mm` with the bfloat16 dot product of Armv8.6.

#include "architecture.h"

#ifdef CLIP_ARM64
#define V_HAS_I8MM
#define V_HAS_BFLOAT16
#define V_FLOATS_OF neondot
#define V_INTEGERS_OF neoni8mm
#include "vector-neon.h"

#define V_SET neonbf16
#include "kernel-set.inc"
#endif

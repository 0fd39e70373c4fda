// The training kernels of the kernel set `neonbf16`.

#include "architecture.h"

#ifdef CLIP_ARM64
#define V_HAS_I8MM
#include "vector-neon.h"

#define V_SET neonbf16
#include "training-kernel-set.inc"
#endif

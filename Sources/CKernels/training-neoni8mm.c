// The training kernels of the kernel set `neoni8mm`.

#include "architecture.h"

#ifdef CLIP_ARM64
#define V_HAS_I8MM
#include "vector-neon.h"

#define V_SET neoni8mm
#include "training-kernel-set.inc"
#endif

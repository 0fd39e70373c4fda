// The training kernels of the kernel set `neondot`.

#include "architecture.h"

#ifdef CLIP_ARM64
#include "vector-neon.h"

#define V_SET neondot
#include "training-kernel-set.inc"
#endif

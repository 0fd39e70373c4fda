// The training kernels of the kernel set `avx2`.

#include "architecture.h"

#ifdef CLIP_X86_64
#include "vector-avx2.h"

#define V_SET avx2
#include "training-kernel-set.inc"
#endif

// The training kernels of the kernel set `avx2vnni`.

#include "architecture.h"

#ifdef CLIP_X86_64
#define V_HAS_VNNI
#include "vector-avx2.h"

#define V_SET avx2vnni
#include "training-kernel-set.inc"
#endif

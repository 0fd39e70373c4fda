// The training kernels of the kernel set `avx512bf16`.

#include "architecture.h"

#ifdef CLIP_X86_64
#include "vector-avx512.h"

#define V_SET avx512bf16
#include "training-kernel-set.inc"
#endif

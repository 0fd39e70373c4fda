// The training kernels of the kernel set `portable`.

// Where nothing is a vector register, unrolled loops are only larger.
#define V_IS_COMPACT
#include "vector-portable.h"

#define V_SET portable
#include "training-kernel-set.inc"

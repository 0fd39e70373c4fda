// The training kernels of the kernel set `portable`.

#include "vector-portable.h"

#define V_SET portable
#include "training-kernel-set.inc"

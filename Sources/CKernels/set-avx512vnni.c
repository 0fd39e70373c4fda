// The kernel set `avx512vnni`.

#include "architecture.h"

#ifdef CLIP_X86_64
#define V_LENDS_FLOATS
#define V_LENDS_INTEGERS
#include "vector-avx512.h"

#define V_SET avx512vnni
#include "kernel-set.inc"
#endif

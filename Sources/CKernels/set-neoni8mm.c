// The kernel set `neoni8mm`: Arm NEON with the integer matrix products of Armv8.6.

#include "architecture.h"

#ifdef CLIP_ARM64
#define V_HAS_I8MM
#define V_FLOATS_OF neondot
#define V_LENDS_INTEGERS
#include "vector-neon.h"

#define V_SET neoni8mm
#include "kernel-set.inc"
#endif

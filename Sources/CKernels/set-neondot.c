// The kernel set `neondot`: Arm NEON with the dot product of Armv8.2.

#include "architecture.h"

#ifdef CLIP_ARM64
#define V_LENDS_FLOATS
#include "vector-neon.h"

#define V_SET neondot
#include "kernel-set.inc"
#endif

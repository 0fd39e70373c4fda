// OpenBLAS, loaded on first use.
//
// It is opened at run time rather than linked so that the kernel set can be chosen first: released
// versions take newer processors for older ones, and read the choice only while they load. Programs
// that never multiply matrices then also start without its threads.
#ifndef CLIPC_OPENBLAS_H
#define CLIPC_OPENBLAS_H

#include <stdint.h>

// Opens the library, for calls that run on the caller's thread. Returns 0, or -1 when it is absent;
// then `clip_blas_error` says why.
int clip_blas_open(void);

// Why `clip_blas_open` failed, or an empty string.
const char *clip_blas_error(void);

// The kernel set in use, such as "SkylakeX", or an empty string before the library is open.
const char *clip_blas_core(void);

// C[m,n] = alpha * A * B + beta * C, row-major, with A stored as `[k,m]` when `transpose_a` else
// `[m,k]`, and B as `[n,k]` when `transpose_b` else `[k,n]`. May be called by several threads at once.
// Requires a successful `clip_blas_open`.
void clip_blas_sgemm(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                     const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                     int64_t ldc);

#endif

#include "openblas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { row_major = 101, no_transpose = 111, transpose = 112 };

typedef void sgemm_function(int order, int transpose_a, int transpose_b, int m, int n, int k,
                            float alpha, const float *a, int lda, const float *b, int ldb,
                            float beta, float *c, int ldc);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_function *sgemm;
static char *(*core_name)(void);
static char error_text[256];

static void choose_core(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    // Over what the environment says, too: images that fix an older core type are common.
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
  }
#endif
}

static void open_library(void) {
  choose_core();
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) library = dlopen("libopenblas.so", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    snprintf(error_text, sizeof error_text, "OpenBLAS cannot be opened: %s", dlerror());
    return;
  }
  void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
  core_name = (char *(*)(void))dlsym(library, "openblas_get_corename");
  sgemm_function *found = (sgemm_function *)dlsym(library, "cblas_sgemm");
  if (found == NULL || set_threads == NULL) {
    snprintf(error_text, sizeof error_text, "OpenBLAS lacks cblas_sgemm");
    return;
  }
  set_threads(1);
  sgemm = found;
}

int clip_blas_open(void) {
  pthread_once(&once, open_library);
  return sgemm == NULL ? -1 : 0;
}

const char *clip_blas_error(void) { return error_text; }

const char *clip_blas_core(void) {
  return sgemm != NULL && core_name != NULL ? core_name() : "";
}

void clip_blas_sgemm(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                     const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                     int64_t ldc) {
  sgemm(row_major, transpose_a ? transpose : no_transpose, transpose_b ? transpose : no_transpose,
        (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

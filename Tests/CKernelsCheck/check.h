// What the checks of the kernels share: memory, numbers, comparisons.
//
// A check makes its inputs from a seed, runs a set's kernels and hands over what they wrote. In the
// run of the first set, `portable`, results are kept; in the runs of the others they are compared
// with those, in the same order.

#ifndef CLIP_CHECK_H
#define CLIP_CHECK_H

#include "kernels.h"
#include "training-kernels.h"

typedef struct check {
  const char *set;
  const clip_kernel_set *kernels;
  const clip_training_kernel_set *training;
  bool is_reference;
  uint64_t random;
  // Results of the reference, one after another, and the next one to compare with.
  uint8_t *kept;
  size_t kept_count;
  size_t kept_capacity;
  size_t position;
  size_t comparison_count;
  size_t difference_count;
} check;

typedef void check_function(check *c);

/// Says which case runs, for messages.
void begin_case(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Frees all memory of the case.
void end_case(void);

/// `byte_count` bytes of 0x55 in front of a page that cannot be touched.
void *memory(size_t byte_count);

/// A copy in `memory`.
void *memory_of(const void *bytes, size_t byte_count);

uint64_t next_random(check *c);
float random_float(check *c, float lowest, float highest);

float *random_floats(check *c, size_t count, float lowest, float highest);
uint8_t *random_bytes(check *c, size_t count);

/// Codes of `bits` bits, 2 to 8; of 8 bits, -127 to 127.
int8_t *random_codes(check *c, size_t count, size_t bits);

/// Results that have the same bits in every set, what lies between and behind rows included.
void same(check *c, const void *result, size_t byte_count);

/// Results of additions in different orders: elements as far apart as their tolerances at most; a
/// tolerance of zero asks for the same bits.
void close_to(check *c, const float *result, const double *tolerance, size_t count);

/// A claim about results that needs no reference.
void hold(check *c, bool claim);

/// `[N, K]` as panels, in `memory`.
int8_t *code_panels(const int8_t *codes, size_t outputs, size_t inputs);
float *float_panels(const float *weights, size_t outputs, size_t inputs);

static inline clip_range all(size_t count) { return (clip_range){0, count}; }
static inline size_t panel_count(size_t outputs) { return (outputs + 15) / 16; }

/// Half the distance from 1 to the next float.
#define UNIT 0x1p-24

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

check_function check_integer_products, check_float_products, check_sparse_products,
    check_packed_products, check_packed_rows, check_rows, check_elements, check_patches,
    check_attention, check_integer_attention, check_tokens, check_training_elements,
    check_training_rows, check_training_attention;

#endif

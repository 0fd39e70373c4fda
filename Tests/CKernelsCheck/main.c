// Holds every kernel of every set against `portable`, on prime and edge shapes, in plain C: what is
// left where the tests of the package cannot run, as on a processor that is only emulated.
//
//   CKernelsCheck [SET]
//
// One line a set: its name, comparisons, differences; sets that the processor lacks are named.
// Fails where anything differs, or where the set that would be chosen is not SET. `portable` itself
// is held against plain definitions where they are short; the digest of all its results must be the
// same on every processor, where the package's tests hold it against all definitions.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

// A kernel that was added needs a check.
// Four of them only pass time.
_Static_assert(sizeof(clip_kernel_set) == 28 * sizeof(void *), "a kernel without a check");
_Static_assert(sizeof(clip_training_kernel_set) == 14 * sizeof(void *), "a kernel without a check");

static check_function *const checks[] = {
    check_integer_products, check_float_products, check_sparse_products, check_packed_products,
    check_packed_rows, check_rows, check_elements, check_patches, check_attention,
    check_integer_attention, check_tokens, check_training_elements, check_training_rows,
    check_training_attention,
};

// Runs all checks with one set; the number of differences.
static size_t run_set(check *c, size_t index) {
  c->set = clip_kernel_sets_name(index);
  c->kernels = clip_kernel_sets_at(index);
  c->training = clip_training_kernel_sets_at(index);
  c->is_reference = index == 0;
  c->position = c->comparison_count = c->difference_count = 0;
  for (size_t i = 0; i < COUNT_OF(checks); i += 1) {
    c->random = i;
    checks[i](c);
  }
  if (!c->is_reference && c->position != c->kept_count) {
    fprintf(stderr, "%s has fewer results than the reference\n", c->set);
    c->difference_count += 1;
  }
  printf(
      "%-10s %zu comparisons, %zu differences", c->set, c->comparison_count,
      c->difference_count);
  if (c->is_reference) {
    printf(", digest %08x", (unsigned)clip_crc32c(0, c->kept, c->kept_count));
  }
  printf("\n");
  return c->difference_count;
}

int main(int count, char **arguments) {
  check c = {0};
  bool is_right = true;
  for (size_t index = 0; index < clip_kernel_sets_count(); index += 1) {
    if (clip_kernel_sets_is_supported(index)) {
      if (run_set(&c, index) != 0) is_right = false;
    } else {
      printf("%-10s not on this processor\n", clip_kernel_sets_name(index));
    }
  }
  const char *best = clip_kernel_sets_name(clip_kernel_sets_best());
  if (count > 1 && strcmp(best, arguments[1]) != 0) {
    fprintf(stderr, "the set chosen is %s, expected %s\n", best, arguments[1]);
    is_right = false;
  }
  free(c.kept);
  return is_right ? 0 : 1;
}

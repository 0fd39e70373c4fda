// The table of training kernel sets, apart from kernel-sets.c so that a program which only runs
// models links none of them.

#include "architecture.h"
#include "training-kernels.h"

#define KERNEL_SET(name, supported) \
  extern const clip_training_kernel_set clip_training_kernel_set__##name;
#include "kernel-sets.inc"
#undef KERNEL_SET

const clip_training_kernel_set *clip_training_kernel_sets_at(size_t index) {
  static const clip_training_kernel_set *const sets[] = {
#define KERNEL_SET(name, supported) &clip_training_kernel_set__##name,
#include "kernel-sets.inc"
#undef KERNEL_SET
  };
  return sets[index < sizeof(sets) / sizeof(sets[0]) ? index : 0];
}

size_t clip_f32_attention_gradient_scratch_count(size_t token_count, size_t head_width) {
  // Two transposed matrices, three copies, probabilities and their gradients, in whole panels.
  size_t tokens, width, transposed, copied, squares, count;
  const bool is_too_large = __builtin_add_overflow(token_count, (size_t)15, &tokens) ||
                            __builtin_add_overflow(head_width, (size_t)15, &width) ||
                            __builtin_mul_overflow(tokens & ~(size_t)15, head_width, &transposed) ||
                            __builtin_mul_overflow(transposed, (size_t)2, &transposed) ||
                            __builtin_mul_overflow(token_count, width & ~(size_t)15, &copied) ||
                            __builtin_mul_overflow(copied, (size_t)3, &copied) ||
                            __builtin_mul_overflow(tokens & ~(size_t)15, token_count, &squares) ||
                            __builtin_mul_overflow(squares, (size_t)2, &squares) ||
                            __builtin_add_overflow(transposed, copied, &count) ||
                            __builtin_add_overflow(count, squares, &count);
  return is_too_large || count > PTRDIFF_MAX ? PTRDIFF_MAX : count;
}

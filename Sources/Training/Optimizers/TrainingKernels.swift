import CKernels

/// The C kernels of training of the best set that this processor has.
enum TrainingKernels {
  /// The set.
  static var best: clip_training_kernel_set { clip_training_kernel_sets_at(index).pointee }

  /// Asked once: see `Kernels` of the operators.
  private static let index = clip_kernel_sets_best()
}

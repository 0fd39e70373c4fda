import TensorCore

/// Tensors that a pass has worked out of a model and data and need not work out again for the same.
///
/// They belong to one model, one choice of data and one seed; whoever lends them sees to that.
package protocol TensorRecords: AnyObject {
  /// The tensors kept under `key`, by name.
  func tensors(for key: String) throws -> [String: Tensor]?

  /// Keeps `tensors` under `key`, in place of what was kept before.
  ///
  /// - Throws: when they cannot be stored.
  func keep(_ tensors: [String: Tensor], for key: String) throws
}

/// Numbers that a pass has worked out and would rather not work out again after an interruption.
///
/// They belong to one input, one set of options and one seed; whoever lends them sees to that.
package protocol WorkRecords: AnyObject {
  /// The numbers kept under `key`.
  func values(for key: String) -> [Double]?

  /// Keeps `values` under `key`, also beyond the end of the process.
  ///
  /// - Throws: when they cannot be stored.
  func keep(_ values: [Double], for key: String) throws
}

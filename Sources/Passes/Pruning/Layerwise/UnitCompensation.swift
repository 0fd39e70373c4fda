import GraphIR

/// Lets what stays in a graph make up for units that are about to go.
package protocol UnitCompensation: Sendable {
  /// The graph with weights and biases changed for the removal of `removals`.
  ///
  /// Nothing has left yet; the units in `removals` no longer have any influence.
  func compensated(
    _ graph: Graph, removing removals: [UnitRemoval], in context: borrowing PassContext
  ) throws(PassError) -> Graph
}

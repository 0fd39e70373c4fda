import GraphIR
import TensorCore

/// Units of one group that are taken out.
package struct UnitRemoval: Sendable {
  /// The group.
  package let group: DependencyGroup
  /// Which of its units go.
  package let units: Set<Int>

  /// Takes `units` out of `group`.
  package init(group: DependencyGroup, units: Set<Int>) {
    self.group = group
    self.units = units
  }
}

extension Graph {
  /// The graph with physically smaller parameters: without the units in `removals`.
  ///
  /// Masks and scales shrink along. The result computes what ``masking(_:)`` computes wherever no
  /// operation normalizes over a shortened axis.
  package func removing(_ removals: [UnitRemoval]) throws(GraphError) -> Graph {
    var graph = self
    for removal in removals where !removal.units.isEmpty {
      let group = removal.group
      let kept = group.indices(of: (0..<group.unitCount).filter { !removal.units.contains($0) })
      for member in group.members {
        guard let parameter = graph.parameter(member.parameter) else { continue }
        guard member.axis == 0 || parameter.quantization?.groupSize == nil else {
          throw .invariant(
            node: graph.name(of: member.parameter),
            "holds codes in groups along the axis that is to be shortened")
        }
        try graph.setParameter(
          member.parameter, parameter.selecting(kept, onAxis: member.axis))
      }
    }
    try graph.inferTypes()
    return graph
  }

  /// The graph with the units in `removals` hidden by masks: what a removal is measured against.
  ///
  /// - Throws: ``GraphError`` when an operation normalizes over an axis, since a hidden element
  ///   still counts in its statistics.
  package func masking(_ removals: [UnitRemoval]) throws(GraphError) -> Graph {
    var graph = self
    for removal in removals where !removal.units.isEmpty {
      guard removal.group.kind != .width else {
        throw .invariant(node: removal.group.name, "is normalized, so no mask equals a removal")
      }
      let hidden = removal.group.indices(of: removal.units)
      for member in removal.group.members {
        guard var parameter = graph.parameter(member.parameter) else { continue }
        parameter.mask = parameter.hiding(hidden, onAxis: member.axis)
        try graph.setParameter(member.parameter, parameter)
      }
    }
    return graph
  }
}

extension Parameter {
  /// The slices of `axis` at `indices`, with their part of mask and scales.
  func selecting(_ indices: [Int], onAxis axis: Int) -> Parameter {
    var result = self
    result.tensor = tensor.selecting(indices, onAxis: axis)
    result.mask = mask?.selecting(indices, onAxis: axis)
    if axis == 0, let quantization {
      result.quantization?.scales = quantization.scales.selecting(indices, onAxis: 0)
    }
    return result
  }

  /// The mask with zeros in the slices of `axis` at `indices` too.
  fileprivate func hiding(_ indices: [Int], onAxis axis: Int) -> Tensor {
    let outer = tensor.shape[..<axis].reduce(1, *)
    let inner = tensor.shape[(axis + 1)...].reduce(1, *)
    let extent = tensor.shape[axis]
    return Tensor(shape: tensor.shape, of: UInt8.self) { target in
      if let mask {
        mask.withElements(of: UInt8.self) { _ = target.update(from: $0) }
      } else {
        target.update(repeating: 1)
      }
      for block in 0..<outer {
        for index in indices {
          let start = (block * extent + index) * inner
          for place in start..<(start + inner) { target[place] = 0 }
        }
      }
    }
  }
}

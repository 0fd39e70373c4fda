import GraphIR
import Operators
import TensorCore

/// Says how much single elements of weights matter.
package protocol ElementImportance: Sendable {
  /// The importance of each element of `weight`, float32 of the same shape, none negative.
  ///
  /// May be asked for the same weight several times and answers the same each time.
  func importance(of weight: Value, in graph: Graph) throws(PassError) -> Tensor
}

/// Says how much the units of dependency groups matter.
package protocol UnitImportance: Sendable {
  /// The importance of each unit of each of `groups`, none of them NaN, the higher the better kept.
  func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]]
}

/// An element matters by its magnitude, a unit by the sum of squares of all that goes with it.
///
/// What belongs to an expert counts by the share of the experts that a token goes through.
package struct MagnitudeImportance: ElementImportance, UnitImportance {
  /// Makes the criterion.
  package init() {}

  package func importance(of weight: Value, in graph: Graph) throws(PassError) -> Tensor {
    let tensor = try graph.finiteElements(of: weight)
    return Tensor(shape: tensor.shape, of: Float.self) { target in
      tensor.withElements(of: Float.self) { source in
        for index in source.indices { target[index] = abs(source[index]) }
      }
    }
  }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    var importances: [[Double]] = []
    let weights = graph.expertWeights
    for group in groups {
      var sums = [Double](repeating: 0, count: group.unitCount)
      for member in group.members {
        let tensor = try graph.finiteElements(of: member.parameter)
        Self.addSquares(
          of: tensor, axis: member.axis, unit: group.unit, weights[member.parameter] ?? 1,
          to: &sums)
      }
      importances.append(sums)
    }
    return importances
  }

  private static func addSquares(
    of tensor: Tensor, axis: Int, unit: Int, _ weight: Double, to sums: inout [Double]
  ) {
    let outer = tensor.shape[..<axis].reduce(1, *)
    let inner = tensor.shape[(axis + 1)...].reduce(1, *) * unit
    tensor.withElements(of: Float.self) { elements in
      for block in 0..<outer {
        for index in sums.indices {
          let start = (block * sums.count + index) * inner
          for place in start..<(start + inner) {
            let element = Double(elements[place])
            sums[index] += weight * element * element
          }
        }
      }
    }
  }
}

extension Graph {
  /// How often a token meets each parameter that belongs to an expert, all experts alike.
  fileprivate var expertWeights: [Value: Double] {
    var weights: [Value: Double] = [:]
    for layer in expertLayers {
      guard let taken = layer.expertsPerToken else { continue }
      for value in layer.linears.flatMap({ $0.inputs.dropFirst(2) }) {
        weights[value] = Double(taken) / Double(layer.expertCount)
      }
    }
    return weights
  }
}

/// Everything matters by chance: what other criteria are compared with.
package struct RandomImportance: ElementImportance, UnitImportance {
  private let seed: UInt64

  /// Makes the criterion that `seed` determines.
  package init(seed: UInt64) { self.seed = seed }

  package func importance(of weight: Value, in graph: Graph) throws(PassError) -> Tensor {
    var generator = generator(for: graph.name(of: weight))
    let shape = try graph.finiteElements(of: weight).shape
    return Tensor(shape: shape, of: Float.self) { target in
      for index in target.indices { target[index] = Float(generator.nextUniform()) }
    }
  }

  package func importances(
    of groups: [DependencyGroup], in graph: Graph, context: borrowing PassContext
  ) throws(PassError) -> [[Double]] {
    groups.map { group in
      var generator = generator(for: "\(group.name) \(group.kind.rawValue)")
      return (0..<group.unitCount).map { _ in generator.nextUniform() }
    }
  }

  /// The sequence of a name, so that what one tensor gets does not depend on the others.
  private func generator(for name: String) -> SplitMix64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return SplitMix64(seed: hash ^ (seed &* 0x9E37_79B9_7F4A_7C15))
  }
}

extension Graph {
  /// The masked float32 elements of a parameter, all of which are finite.
  package func finiteElements(of value: Value) throws(PassError) -> Tensor {
    guard let tensor = parameter(value)?.materialized, tensor.dtype == .float32 else {
      throw .parameter(name: name(of: value), "does not hold real numbers")
    }
    let isFinite = tensor.withElements(of: Float.self) { elements in
      elements.allSatisfy(\.isFinite)
    }
    guard isFinite else {
      throw .parameter(name: name(of: value), "holds an infinite number or none at all")
    }
    return tensor
  }
}

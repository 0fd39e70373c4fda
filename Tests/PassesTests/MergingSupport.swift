import GraphIR
import Passes
import TensorCore
import TestSupport

extension Graph {
  /// The graph with `body` applied to every float parameter's elements.
  func changingElements(_ body: (String, inout [Float]) -> Void) throws -> Graph {
    var graph = self
    for value in parameterValues {
      guard var parameter = graph.parameter(value), parameter.tensor.dtype == .float32 else {
        continue
      }
      var elements = parameter.tensor.elements(of: Float.self)
      body(name(of: value), &elements)
      parameter.tensor = Tensor(shape: parameter.tensor.shape, elements)
      try graph.setParameter(value, parameter)
    }
    return graph
  }

  /// The graph with a little noise on every parameter, as after a short training.
  func disturbed(seed: UInt64, scale: Double = 0.02) throws -> Graph {
    var random = SplitMix64(seed: seed)
    return try changingElements { _, elements in
      for index in elements.indices { elements[index] += Float(random.nextNormal() * scale) }
    }
  }

  /// The graph with the units of every group in a random order, and the channels of heads too.
  func shuffled(seed: UInt64) throws -> Graph {
    var random = SplitMix64(seed: seed)
    var graph = self
    for group in permutableGroups() {
      let width = group.group.unit
      let units = Array(0..<group.group.unitCount).shuffled(using: &random)
      func channels() -> [Int] {
        units.flatMap { unit in
          Array(0..<width).shuffled(using: &random).map { unit * width + $0 }
        }
      }
      let order =
        group.permutesWithin
        ? ChannelOrder(units: units, scores: channels(), others: channels())
        : ChannelOrder(units: units, width: width)
      graph = try graph.permuting(group, by: order)
    }
    return graph
  }

  /// The largest difference of any parameter to that of `other`.
  func largestParameterDifference(to other: Graph) -> Float {
    parameterValues.reduce(0) { largest, value in
      guard let own = parameter(value)?.tensor, own.dtype == .float32,
        let theirs = other.parameter(named: name(of: value))?.tensor, own.shape == theirs.shape
      else { return .infinity }
      return max(
        largest,
        largestDifference(own.elements(of: Float.self), theirs.elements(of: Float.self)))
    }
  }
}

/// How far the embeddings of two graphs are apart at most.
func difference(
  of first: Graph, to second: Graph, _ inputs: [String: Tensor]
) throws -> Float {
  largestDifference(try outputs(first, inputs), try outputs(second, inputs))
}

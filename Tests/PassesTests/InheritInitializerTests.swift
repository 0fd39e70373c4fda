import GraphIR
import Passes
import TensorCore
import TestSupport
import Testing

/// Students that start from nothing but their teacher's shape.
@Suite struct InheritInitializerTests {
  private let extents = InheritSupport.teacher

  private func student(seed: UInt64, _ dimensions: InheritDimensions = .init()) throws -> Graph {
    var options = InheritManual.Options()
    options.image = dimensions
    options.initialization = .random
    return try InheritSupport.inherit(from: try extents.graph(seed: 6), options, seed: seed)
  }

  private func elements(_ graph: Graph) -> [String: [Float]] {
    Dictionary(
      uniqueKeysWithValues: graph.parameterValues.map {
        (graph.name(of: $0), graph.parameter($0)?.tensor.elements(of: Float.self) ?? [])
      })
  }

  @Test func theSeedDecides() throws {
    let first = elements(try student(seed: 7))
    #expect(first == elements(try student(seed: 7)))
    let other = elements(try student(seed: 8))
    let teacher = elements(try extents.graph(seed: 6))
    for (name, values) in first {
      let isConstant = Set(values).count == 1
      #expect(isConstant == (name.hasSuffix("bias") || name.contains("norm") || values.count == 1))
      if isConstant {
        #expect(values == other[name])
      } else {
        #expect(values != other[name] && values != teacher[name], "\(name)")
      }
    }
    #expect(first["logit_scale"] == teacher["logit_scale"])
  }

  /// Deviations by the published rules, for an image tower of two blocks of width 32.
  static let deviations: [(String, Double)] = [
    ("image.layers.1.attention.query.weight", 0.176_777),
    ("image.layers.0.attention.key.weight", 0.176_777),
    ("image.layers.0.attention.value.weight", 0.176_777),
    ("image.layers.1.attention.output.weight", 0.088_388),
    ("image.layers.0.mlp.fc1.weight", 0.125),
    ("image.layers.1.mlp.fc2.weight", 0.088_388),
    ("image.position_embedding", 0.176_777), ("image.projection.weight", 0.176_777),
    ("image.class_embedding", 0.176_777), ("image.patch_embedding.weight", 0.083_333),
    ("text.token_embedding", 0.02), ("text.position_embedding", 0.01),
    ("text.layers.0.attention.query.weight", 0.176_777),
    ("text.layers.2.mlp.fc2.weight", 0.072_169), ("text.projection.weight", 0.176_777),
  ]

  @Test func deviationsAreThePublishedOnes() throws {
    let graph = try student(
      seed: 1, InheritDimensions(layers: 2, heads: 4, neurons: 128, width: 32))
    let drawn = elements(graph)
    for (name, deviation) in Self.deviations {
      let values = try #require(drawn[name])
      let count = Double(values.count)
      let mean = values.reduce(0) { $0 + Double($1) } / count
      let square = values.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / count
      // Five standard errors.
      #expect(abs(mean) <= 5 * deviation / count.squareRoot(), "\(name)")
      let error = 5 / (2 * count).squareRoot()
      #expect(abs(square.squareRoot() / deviation - 1) <= error, "\(name)")
    }
    for (name, values) in drawn where name.contains("norm") && name.hasSuffix("weight") {
      #expect(values.allSatisfy { $0 == 1 }, "\(name)")
    }
    for (name, values) in drawn where name.hasSuffix("bias") {
      #expect(values.allSatisfy { $0 == 0 }, "\(name)")
    }
  }
}

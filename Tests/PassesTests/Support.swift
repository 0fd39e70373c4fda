import Execution
import Foundation
import GraphIR
import TensorCore

/// The distributions that tests draw from.
enum Distribution: CaseIterable {
  case gaussian
  case laplace
  case student
  case rounded
  case sparse

  func next(_ generator: inout SplitMix64) -> Double {
    switch self {
    case .gaussian: return Self.normal(&generator)
    case .laplace:
      let u = generator.nextUniform() - 0.5
      return -log(1 - 2 * abs(u)) * (u < 0 ? -1 : 1)
    case .student:
      let square = (0..<3).reduce(0.0) { sum, _ in
        let x = Self.normal(&generator)
        return sum + x * x
      }
      return Self.normal(&generator) / (square / 3).squareRoot()
    case .rounded: return (Self.normal(&generator) * 4).rounded() / 4
    case .sparse: return generator.nextUniform() < 0.6 ? 0 : Self.normal(&generator)
    }
  }

  /// The polar method: the tails are those of the normal distribution, as a sum of uniforms' are not.
  static func normal(_ generator: inout SplitMix64) -> Double {
    while true {
      let u = 2 * generator.nextUniform() - 1
      let v = 2 * generator.nextUniform() - 1
      let s = u * u + v * v
      if s > 0, s < 1 { return u * (-2 * log(s) / s).squareRoot() }
    }
  }

  func sample(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Float(next(&generator)) }
  }
}

/// Calibration inputs that are there from the start.
struct FixedBatches: BatchSource {
  let batches: [Batch]

  func forEachBatch(_ body: (Batch) throws -> Void) throws {
    for batch in batches { try body(batch) }
  }
}

/// Both outputs of `graph` by the operators' definitions, one after the other.
func outputs(_ graph: Graph, _ inputs: [String: Tensor]) throws -> [Float] {
  let results = try Executor(graph, arithmetic: .definitions).run(inputs)
  return ["image_embeds", "text_embeds"].flatMap { results[$0]?.elements(of: Float.self) ?? [] }
}

import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport

/// A small model with masks of all kinds, in numbers whose products float32 holds exactly.
struct MaskedFixture {
  var extents = RandomCLIP()
  let graph: Graph
  let plan: MaskPlan

  init(seed: UInt64, kinds: Set<MaskKind> = Set(MaskKind.allCases)) throws {
    extents.textLayers = 3
    extents.usesQuickGELU = seed % 2 == 0
    var graph = try extents.graph(seed: seed)
    for value in graph.parameterValues {
      guard let tensor = graph.parameter(value)?.tensor else { continue }
      let rounded = tensor.elements(of: Float.self).map { ($0 * 32).rounded() / 32 }
      try graph.setParameter(value, Parameter(Tensor(shape: tensor.shape, rounded)))
    }
    self.graph = graph
    plan = try MaskPlan(graph, learning: kinds)
  }

  /// Soft masks of sixteenths from 0.3 to 1, a part of them zero where `isClosed` says so.
  func masks(seed: UInt64, _ isClosed: (MaskPlan.Mask, Int, Double) -> Bool) -> [[Float]] {
    var random = SplitMix64(seed: seed)
    return plan.masks.map { mask in
      (0..<mask.count).map { element in
        let value = Float(5 + random.nextIndex(below: 12)) / 16
        return isClosed(mask, element, random.nextUniform()) ? 0 : value
      }
    }
  }

  /// The elements of the mask called `name`.
  func elements(_ name: String, of masks: [[Float]]) -> [Float] {
    plan.masks.firstIndex { $0.name == name }.map { masks[$0] } ?? []
  }

  /// The towers' parameters by the table of coupled structures, from counts per mask name.
  ///
  /// A branch without units counts nothing.
  func parameterCount(_ counts: (String) -> Double) -> Double {
    let towers = [
      (
        "image", extents.imageLayers, extents.imageWidth / extents.imageHeads,
        // Patches, class token, five positions, norms before and after, projection.
        Double(3 * 16 + 1 + 5 + 4 + extents.projection)
      ),
      (
        "text", extents.textLayers, extents.textWidth / extents.textHeads,
        Double(extents.context + 2 + extents.projection)
      ),
    ]
    return towers.reduce(0) { sum, tower in
      let width = counts("\(tower.0).width")
      return (0..<tower.1).reduce(sum + width * tower.3) { sum, layer in
        let name = "\(tower.0).layers.\(layer)"
        let heads = counts("\(name).attention.heads") * Double(tower.2)
        let neurons = counts("\(name).mlp.neurons")
        let attention = heads * (4 * width + 3) + 3 * width
        let feedForward = neurons * (2 * width + 1) + 3 * width
        return sum + (heads == 0 ? 0 : counts("\(name).attention.output.branch") * attention)
          + (neurons == 0 ? 0 : counts("\(name).mlp.fc2.branch") * feedForward)
      }
    }
  }
}

/// Both outputs in float64.
func wideOutputs(_ graph: Graph, _ inputs: [String: Tensor]) throws -> [Double] {
  let results = try Executor(graph, arithmetic: .float64).run(inputs)
  return ["image_embeds", "text_embeds"].flatMap { results[$0]?.elements(of: Double.self) ?? [] }
}

/// The largest absolute difference of two equally long sequences.
func largestGap(_ left: [Double], _ right: [Double]) -> Double {
  precondition(left.count == right.count && !left.isEmpty)
  return zip(left, right).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

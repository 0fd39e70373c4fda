import GraphIR
import Operators
import TensorCore
import Training

/// A student some of whose weights become sparse: its graph without masks, and the masks beside it.
struct SparseStudent {
  /// One weight that becomes sparse.
  struct Weight {
    let name: String
    let value: Value
    let shape: [Int]
    /// What was pruned before; it stays so.
    let hidden: [UInt8]?
  }

  /// The student as it came.
  let source: Graph
  /// The student with plain tensors in place of masked ones.
  let graph: Graph
  /// The float32 parameters that are trained.
  let trained: [String]
  /// The weights that become sparse.
  let weights: [Weight]
  /// Masks of other trained parameters, which only stay.
  private let held: [(name: String, mask: [UInt8])]

  init(
    pass: String, _ source: Graph, towers: [Tower], isTrained: (String) -> Bool
  ) throws(PassError) {
    let isQuantized = source.parameterValues.contains {
      source.parameter($0)?.quantization != nil
    }
    guard !isQuantized, !source.nodes.contains(where: { $0.op is FakeQuantize }) else {
      throw .unsuitable(
        pass: pass, "the student is quantized: make it sparse first, quantize then")
    }
    var graph = source
    var trained: [String] = []
    var held: [(name: String, mask: [UInt8])] = []
    let prunable = source.prunableWeights(of: towers)
    for value in source.parameterValues {
      let name = source.name(of: value)
      guard let parameter = source.parameter(value), parameter.type.dtype == .float32 else {
        continue
      }
      if isTrained(name) { trained.append(name) }
      guard let mask = parameter.mask else { continue }
      do { try graph.setParameter(value, Parameter(parameter.materialized)) } catch {
        throw .graph(pass: pass, error)
      }
      if !prunable.contains(value) { held.append((name, mask.elements(of: UInt8.self))) }
    }
    let names = Set(trained)
    weights = prunable.compactMap { value in
      guard let parameter = source.parameter(value), names.contains(source.name(of: value)) else {
        return nil
      }
      return Weight(
        name: source.name(of: value), value: value, shape: parameter.tensor.shape,
        hidden: parameter.mask?.elements(of: UInt8.self))
    }
    guard !weights.isEmpty else {
      throw .unsuitable(pass: pass, "the student has no weights between two of its layers")
    }
    self.source = source
    self.graph = graph
    self.trained = trained
    self.held = held
  }

  /// The elements of all weights that become sparse.
  var elementCount: Int { weights.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  /// The masks with which a run begins: what was pruned before.
  var initialMasks: [[UInt8]] {
    weights.map { $0.hidden ?? [UInt8](repeating: 1, count: $0.shape.reduce(1, *)) }
  }

  /// The share of the elements that `masks` hide.
  func sparsity(_ masks: [[UInt8]]) -> Double {
    let left = masks.reduce(0) { $0 + $1.reduce(0) { $0 + Int($1) } }
    return 1 - Double(left) / Double(max(elementCount, 1))
  }

  /// Clears in `block` what masks of other parameters hide.
  func clearHeld(_ block: ParameterBlock) {
    for (name, mask) in held {
      guard let elements = block[name] else { continue }
      for index in elements.indices where mask[index] == 0 { elements[index] = 0 }
    }
  }

  /// The student with trained weights under `masks`.
  func result(
    _ trained: ParameterBlock, masks: [[UInt8]],
    _ change: (Int, inout [Float]) -> Void = { _, _ in }
  ) throws(GraphError) -> Graph {
    var graph = source
    for entry in trained.entries {
      // What the losses train beside the student is not part of it.
      guard let value = graph.value(named: entry.name), var parameter = graph.parameter(value)
      else { continue }
      parameter.tensor = trained.tensor(of: entry)
      try graph.setParameter(value, parameter)
    }
    for (index, weight) in weights.enumerated() {
      guard var elements = graph.parameter(weight.value)?.tensor.elements(of: Float.self) else {
        continue
      }
      change(index, &elements)
      for place in elements.indices where masks[index][place] == 0 { elements[place] = 0 }
      try graph.setParameter(
        weight.value,
        Parameter(
          Tensor(shape: weight.shape, elements), mask: Tensor(shape: weight.shape, masks[index])))
    }
    return graph
  }

  /// The masks in a saved state.
  func state(_ masks: [[UInt8]]) -> [NamedTensor] {
    zip(weights, masks).map { ("mask/\($0.name)", PackedMask.words($1)) }
  }

  /// The masks that ``state(_:)`` saved.
  func masks(from saved: inout SavedTensors) throws(TrainingStateError) -> [[UInt8]] {
    var masks: [[UInt8]] = []
    for weight in weights {
      let count = weight.shape.reduce(1, *)
      let words = try saved.take("mask/\(weight.name)", .int32, [PackedMask.wordCount(count)])
      masks.append(PackedMask.mask(words, count: count))
    }
    return masks
  }
}

extension Graph {
  /// The share of the prunable weights of `towers` that masks hide.
  package func prunedShare(of towers: [Tower]) -> Double {
    var (count, left) = (0, 0)
    for value in prunableWeights(of: towers) {
      guard let parameter = parameter(value) else { continue }
      count += parameter.tensor.count
      left +=
        parameter.mask?.withElements(of: UInt8.self) { mask in mask.reduce(0) { $0 + Int($1) } }
        ?? parameter.tensor.count
    }
    return count > 0 ? 1 - Double(left) / Double(count) : 0
  }
}

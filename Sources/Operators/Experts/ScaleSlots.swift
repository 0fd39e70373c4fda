import GraphIR
import TensorCore

/// A token's row times the gate of each of its slots: the gradient of the rows that
/// ``CombineExperts`` sums.
///
/// - Shapes: `u`: `[..., d]`; `gates`: `[..., slots]`; result: `[..., slots, d]`.
package struct ScaleSlots: Op {
  package static let name = "scale_slots"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 1, rank: 1...3)
    let width = try requireBeside(inputs, 0, assignment: 1)
    return [TensorType(.float32, inputs[1].extents + [width])]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let width = inputs.shape(0).last ?? 1
    let slots = inputs.shape(1).last ?? 1
    let u = inputs.span(0, of: type)
    let gates = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for slot in 0..<gates.count {
      for k in 0..<width { y[slot * width + k] = gates[slot] * u[slot / slots * width + k] }
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    outputs[0].reduce(1, *)
  }
}

extension ScaleSlots: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let width = inputs.shape(0).last ?? 1
    let (_, slots) = matrixExtents(inputs.shape(1))
    let gates = inputs.pointer(1, of: Float.self)
    guard let u = inputs.pointer(0, of: Float.self).baseAddress,
      let y = outputs.pointer(0, of: Float.self).baseAddress
    else { return }
    forEachRange(of: gates.count, threadCount: outputs.threadCount, minimumCount: 64) { range in
      for slot in range {
        let (gate, source, target) = (gates[slot], u + slot / slots * width, y + slot * width)
        for k in 0..<width { target[k] = gate * source[k] }
      }
    }
  }
}

extension ScaleSlots: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (u, gates, g) = (node.inputs[0], node.inputs[1], node.gradient)
    return [
      node.isWanted[0] ? try builder.add(CombineExperts(), g, gates) : nil,
      node.isWanted[1] ? try builder.add(SlotProducts(), g, u) : nil,
    ]
  }
}

/// The product of each slot's row with the row of its token: the gradient of the gates of
/// ``CombineExperts``.
///
/// - Shapes: `rows`: `[..., slots, d]`; `u`: `[..., d]`; result: `[..., slots]`.
package struct SlotProducts: Op {
  package static let name = "slot_products"

  /// Makes the operation; it has no attributes.
  package init() {}

  package init(attributes: inout Attributes) throws(GraphError) {}

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 2...4)
    try requireFloats(
      inputs, 1, extents: inputs[0].extents.dropLast(2) + inputs[0].extents.suffix(1))
    return [TensorType(.float32, inputs[0].extents.dropLast())]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let width = inputs.shape(0).last ?? 1
    let slots = outputs.shape(0).last ?? 1
    let rows = inputs.span(0, of: type)
    let u = inputs.span(1, of: type)
    var y = outputs.span(0, of: type)
    for slot in 0..<y.count {
      var sum: Element = 0
      for k in 0..<width { sum += rows[slot * width + k] * u[slot / slots * width + k] }
      y[slot] = sum
    }
  }

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int {
    inputs[0].reduce(1, *)
  }
}

extension SlotProducts: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let width = inputs.shape(0).last ?? 1
    let slots = outputs.shape(0).last ?? 1
    let y = outputs.pointer(0, of: Float.self)
    guard let rows = inputs.pointer(0, of: Float.self).baseAddress,
      let u = inputs.pointer(1, of: Float.self).baseAddress, let target = y.baseAddress, width > 0
    else { return y.update(repeating: 0) }
    forEachRange(of: y.count, threadCount: outputs.threadCount, minimumCount: 64) { range in
      for slot in range {
        target[slot] = product(rows + slot * width, u + slot / slots * width, width)
      }
    }
  }

  private func product(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int
  ) -> Float {
    var sums = SIMD8<Float>.zero
    let whole = count / 8 * 8
    for k in stride(from: 0, to: whole, by: 8) {
      let left = UnsafeRawPointer(a + k).loadUnaligned(as: SIMD8<Float>.self)
      sums += left * UnsafeRawPointer(b + k).loadUnaligned(as: SIMD8<Float>.self)
    }
    var sum = sums.sum()
    for k in whole..<count { sum += a[k] * b[k] }
    return sum
  }
}

extension SlotProducts: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    let (rows, u, h) = (node.inputs[0], node.inputs[1], node.gradient)
    return [
      node.isWanted[0] ? try builder.add(ScaleSlots(), u, h) : nil,
      node.isWanted[1] ? try builder.add(CombineExperts(), rows, h) : nil,
    ]
  }
}

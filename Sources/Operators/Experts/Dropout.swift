import CKernels
import GraphIR
import TensorCore

/// Zeroes elements by chance and makes up for them: `y = x m / (1 - p)`, where `m` is 0 with
/// probability `p`, else 1.
///
/// - Shapes: `x`: any; `seed`: `[2]` int32; result: as `x`. The same seed and salt drop the same
///   elements, whatever the number of threads.
/// - Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
///   JMLR 2014.
package struct Dropout: Op {
  package static let name = "dropout"

  /// How many steps a probability has.
  private static let levels = 65_536.0

  /// How probable it is that an element is dropped, above 0 and below 1, in steps of 2^-16.
  package let probability: Double
  /// Tells operations with the same seed apart.
  package let salt: Int

  /// Makes the operation; the probability is rounded to its steps.
  ///
  /// - Precondition: the probability rounds to one above 0 and below 1.
  package init(probability: Double, salt: Int) {
    self.probability = (probability * Self.levels).rounded() / Self.levels
    self.salt = salt
    precondition(self.probability > 0 && self.probability < 1, "some are dropped, some stay")
  }

  package init(attributes: inout Attributes) throws(GraphError) {
    let found = Double(try attributes.real("probability"))
    let rounded = (found * Self.levels).rounded() / Self.levels
    guard rounded > 0, rounded < 1 else {
      throw .attribute(op: Self.name, name: "probability", expected: "a number between 0 and 1")
    }
    self.init(probability: found, salt: try attributes.integer("salt", in: 0...Int.max))
  }

  package var attributes: [(name: String, value: AttributeValue)] {
    [("probability", .real(Float(probability))), ("salt", .integer(salt))]
  }

  package func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try require(inputs, count: 2...2)
    try requireFloats(inputs, 0, rank: 0...4)
    guard inputs[1] == TensorType(.int32, [.fixed(2)]) else { throw mismatch(inputs, 1, "i32[2]") }
    return [inputs[0]]
  }

  package func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type
  ) {
    let x = inputs.span(0, of: type)
    var y = outputs.span(0, of: type)
    let draw = draw(seed: inputs.seed(1))
    let factor = Element(1 / (1 - probability))
    for index in 0..<x.count {
      y[index] = Self.number(index, draw.keys) < draw.least ? 0 : x[index] * factor
    }
  }

  /// What is drawn by `seed`.
  private func draw(seed: UInt64) -> clip_dropout {
    var random = SplitMix64(seed: seed ^ UInt64(salt) &* 0xD1B5_4A32_D192_ED03)
    let key = random.next()
    return clip_dropout(
      keys: (UInt32(truncatingIfNeeded: key), UInt32(key >> 32)),
      least: UInt32(probability * 0x1p32), factor: Float(1 / (1 - probability)))
  }

  /// The number of element `index`, uniform over 32 bits.
  private static func number(_ index: Int, _ keys: (UInt32, UInt32)) -> UInt32 {
    var x = UInt32(truncatingIfNeeded: index) &* 0x9E37_79B9 &+ keys.0
    x = (x ^ x >> 16) &* 0x21F0_AAAD
    x = (x ^ x >> 15 ^ keys.1) &* 0x735A_2D97
    return x ^ x >> 15
  }
}

extension Dropout: AcceleratedOp {
  package func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands) {
    let source = inputs.pointer(0, of: Float.self)
    guard let x = source.baseAddress, let y = outputs.pointer(0, of: Float.self).baseAddress else {
      return
    }
    let kernel = Kernels.training.f32_dropout
    let draw = draw(seed: inputs.seed(1))
    forEachRange(
      of: source.count, threadCount: outputs.threadCount, minimumCount: 1 << 15
    ) { range in
      kernel(x, clip_range(begin: range.lowerBound, end: range.upperBound), draw, y)
    }
  }
}

/// What is drawn for a row follows its place among those that are left: other numbers, as fair.
extension Dropout: RowwiseOp {
  package var rowInputs: [Int] { [0] }
}

extension Dropout: DifferentiableOp {
  package func pullback(
    _ node: Pullback, _ builder: inout GraphBuilder
  ) throws(GraphError) -> [Value?] {
    [try builder.add(self, node.gradient, node.inputs[1]), nil]
  }
}

extension Graph {
  /// The graph in which what an activation function hands to a product whose weight `isWanted` names
  /// goes through ``Dropout``, whose draws follow the input `seed`.
  ///
  /// - Throws: ``GraphError`` when the name of the input is taken.
  package func droppingOut(
    _ probability: Double, seed name: String, where isWanted: (String) -> Bool
  ) throws(GraphError) -> Graph {
    var seed: Value?
    var salt = 0
    return try rewritten { node, rewriter throws(GraphError) in
      guard let weight = Self.secondWeight(of: node, in: self), isWanted(self.name(of: weight))
      else { return try rewriter.copy(node) }
      let made: Value
      if let seed {
        made = seed
      } else {
        made = try rewriter.result.addInput(name, TensorType(.int32, [.fixed(2)]))
        seed = made
      }
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      inputs[0] = try rewriter.result.add(
        "\(node.name).dropout", Dropout(probability: probability, salt: salt), inputs[0], made)
      salt += 1
      let outputs = try rewriter.result.addNode(node.name, node.op, inputs)
      for (old, new) in zip(node.outputs, outputs) { rewriter.setImage(of: old, to: new) }
    }
  }

  /// The first weight of a product that reads what an activation function made; nil for others.
  private static func secondWeight(of node: Node, in graph: Graph) -> Value? {
    let index: Int
    switch node.op {
    case is Linear: index = 1
    case let op as GroupedLinear: index = op.weightRange.lowerBound
    default: return nil
    }
    guard case .node(let place) = graph.origin(of: node.inputs[0]) else { return nil }
    let maker = graph.nodes[place].op
    return maker is QuickGELU || maker is GELU ? node.inputs[index] : nil
  }
}

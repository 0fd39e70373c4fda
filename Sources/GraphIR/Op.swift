import TensorCore

/// What the compiler knows about one kind of operation.
///
/// A conforming type lives in one file with all its capabilities; ``evaluate(_:_:as:)`` defines
/// the operation, and anything faster is tested against it.
package protocol Op: Hashable, Sendable {
  /// The operator's name in snake case, as in the graph text.
  static var name: String { get }

  /// The constants of this operation by name, in a fixed order.
  var attributes: [(name: String, value: AttributeValue)] { get }

  /// Makes the operation that `attributes` describes.
  init(attributes: inout Attributes) throws(GraphError)

  /// The types of the results for inputs of the given types.
  func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType]

  /// Computes the results in the precision of `type`; integer inputs are `Int32`.
  func evaluate<Element: FloatingElement>(
    _ inputs: borrowing InputOperands, _ outputs: inout OutputOperands, as type: Element.Type)

  /// Throws when extents that were symbols in the graph turn out not to fit together.
  func checkBound(inputs: [[Int]]) throws(GraphError)

  /// Multiply-accumulate operations for inputs of the given extents.
  func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int
}

extension Op {
  package var attributes: [(name: String, value: AttributeValue)] { [] }

  package func checkBound(inputs: [[Int]]) throws(GraphError) {}

  package func multiplyAccumulateCount(inputs: [[Int]], outputs: [[Int]]) -> Int { 0 }
}

/// An operation with a fast float32 path beside its definition.
package protocol AcceleratedOp: Op {
  /// Computes in float32 what ``Op/evaluate(_:_:as:)`` defines, within rounding.
  func evaluateFast(_ inputs: borrowing InputOperands, _ outputs: inout OutputOperands)
}

/// An axis of one operand of an operation.
package struct OperandAxis: Hashable, Sendable {
  /// Which operand of a node.
  package enum Operand: Hashable, Sendable {
    case input(Int)
    case output(Int)
  }

  /// The operand.
  package let operand: Operand
  /// The axis, counted from the outermost.
  package let axis: Int

  /// Names axis `axis` of input `index`.
  package static func input(_ index: Int, _ axis: Int) -> OperandAxis {
    OperandAxis(operand: .input(index), axis: axis)
  }

  /// Names axis `axis` of output `index`.
  package static func output(_ index: Int, _ axis: Int) -> OperandAxis {
    OperandAxis(operand: .output(index), axis: axis)
  }
}

/// Axes of an operation's operands that lose the same indices together.
package struct AxisLink: Hashable, Sendable {
  /// The coupled axes.
  package var members: [OperandAxis]
  /// How many neighbouring indices can only go together, such as the width of a head.
  package var unit: Int
  /// Whether the operation computes statistics over the axis, so that removing indices changes
  /// what it does to the others.
  package var isNormalized: Bool

  /// Couples `members`.
  package init(_ members: [OperandAxis], unit: Int = 1, isNormalized: Bool = false) {
    self.members = members
    self.unit = unit
    self.isNormalized = isNormalized
  }
}

/// An operation that tells how its operands' axes are coupled.
///
/// - Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900.
package protocol PrunableOp: Op {
  /// The coupled axes; an axis of an operand that no link names must keep its extent.
  func axisLinks(inputs: [TensorType], outputs: [TensorType]) -> [AxisLink]
}

/// An operation that computes each row, along the last axis, from the same row of its operands; a
/// token may have several rows in a result, one for each of its experts.
///
/// Rows that nothing reads then need not be computed.
package protocol RowwiseOp: Op {
  /// The inputs that have a row for each row of the result; the others serve all rows. None where
  /// rows depend on each other after all.
  var rowInputs: [Int] { get }
}

/// An operation that integer kernels can compute.
package protocol QuantizableOp: Op {
  /// The inputs whose parameter may become integer codes with a scale for each slice of axis 0.
  var weightInputs: [Int] { get }
  /// The inputs that integer kernels read as 8-bit codes.
  var activationInputs: [Int] { get }
}

/// The operators that graph text can name.
package struct OperatorRegistry: Sendable {
  private let makers: [String: @Sendable (inout Attributes) throws(GraphError) -> any Op]

  /// Registers the given operators.
  ///
  /// - Precondition: no two share a name.
  package init(_ types: [any Op.Type]) {
    var makers: [String: @Sendable (inout Attributes) throws(GraphError) -> any Op] = [:]
    for type in types {
      precondition(makers[type.name] == nil, "two operators are named \(type.name)")
      makers[type.name] = Self.maker(type)
    }
    self.makers = makers
  }

  private static func maker<T: Op>(
    _ type: T.Type
  ) -> @Sendable (inout Attributes) throws(GraphError) -> any Op {
    { attributes throws(GraphError) in try T(attributes: &attributes) }
  }

  /// The registered names, sorted.
  package var names: [String] { makers.keys.sorted() }

  /// Makes operator `name` from its attributes, all of which it must take.
  package func make(
    _ name: String, _ values: [String: AttributeValue]
  ) throws(GraphError) -> any Op {
    guard let maker = makers[name] else { throw .unknownOperator(name) }
    var attributes = Attributes(op: name, values)
    let op = try maker(&attributes)
    try attributes.finish()
    return op
  }
}

import Execution
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// What the elements of an operand are like.
enum OperandKind: Sendable {
  /// Standard normal numbers.
  case normal
  /// Numbers above 0.3.
  case positive
  /// Normal numbers, none within 0.05 of these places, where the operator has kinks.
  case clear(of: [Double])
  /// Int32 ids below this bound; nothing is differentiated with respect to them.
  case ids(below: Int)
  /// Slots of this many experts, some of them full, some empty.
  case slots(experts: Int)
  /// Zeros and ones, a constant of the operator: it has no gradient by its contract.
  case mask
  /// Positive numbers that have no gradient by the operator's contract.
  case constants

  /// Whether the gradient is checked.
  var isDifferentiated: Bool {
    switch self {
    case .normal, .positive, .clear: true
    case .ids, .slots, .mask, .constants: false
    }
  }

  /// Whether the elements are integers.
  var isInteger: Bool {
    switch self {
    case .ids, .slots: true
    default: false
    }
  }

  /// Elements for `shape`.
  func tensor(_ shape: [Int], _ random: inout SplitMix64) -> Tensor {
    let count = shape.reduce(1, *)
    switch self {
    case .normal:
      return Tensor(shape: shape, (0..<count).map { _ in random.nextNormal() })
    case .positive, .constants:
      return Tensor(shape: shape, (0..<count).map { _ in 0.3 + 2 * random.nextUniform() })
    case .clear(let places):
      let elements = (0..<count).map { _ in
        var x = random.nextNormal()
        while places.contains(where: { abs(x - $0) < 0.05 }) { x = random.nextNormal() }
        return x
      }
      return Tensor(shape: shape, elements)
    case .ids(let bound):
      return random.idTensor(shape, below: bound)
    case .slots(let experts):
      return random.slotTensor(shape, experts: experts)
    case .mask:
      return Tensor(shape: shape, (0..<count).map { $0 % 3 == 1 ? 0.0 : 1.0 })
    }
  }
}

/// An operand of an operator under test.
struct GradientOperand: Sendable {
  let extents: [Extent]
  let kind: OperandKind

  init(_ extents: [Extent], _ kind: OperandKind = .normal) {
    self.extents = extents
    self.kind = kind
  }
}

extension Extent {
  /// Items of a batch, whose number graphs do not know.
  static let batch = Extent.symbol("batch")
}

/// What stands for the symbols of gradient cases.
let gradientSymbols = ["batch": 3, "tokens": 4]

/// A graph that computes a scalar from inputs, and tensors for these.
struct ScalarGraph {
  var graph = Graph()
  var inputs: [String: Tensor] = [:]
  var random: SplitMix64
  var scalar: Value?

  init(seed: UInt64) { random = SplitMix64(seed: seed) }

  /// Adds an input and its elements.
  mutating func addInput(_ name: String, _ operand: GradientOperand) throws -> Value {
    let type = TensorType(operand.kind.isInteger ? .int32 : .float32, operand.extents)
    let shape = try #require(type.shape(binding: gradientSymbols))
    inputs[name] = operand.kind.tensor(shape, &random)
    return try graph.addInput(name, type)
  }

  /// Makes the scalar the sum of the products of `values` with random constants, and returns the
  /// constants.
  @discardableResult mutating func contract(_ values: [Value], _ name: String) throws -> [Value] {
    var total: Value?
    var constants: [Value] = []
    for (index, value) in values.enumerated() {
      let extents = graph.tensorType(of: value).extents
      let constant = try addInput("\(name).\(index)", GradientOperand(extents))
      constants.append(constant)
      let product = try graph.add("\(name).\(index).product", Multiply(), value, constant)
      let sum = try graph.add("\(name).\(index).sum", Sum(over: .all), product)
      if let before = total {
        total = try graph.add("\(name).\(index).total", Add(), before, sum)
      } else {
        total = sum
      }
    }
    scalar = total
    return constants
  }

  /// The largest distance of the gradients by ``Graph/addGradients(of:withRespectTo:keeping:)`` from
  /// differences of the scalar, relative to the largest of these.
  func deviation(of values: [Value]) throws -> Double {
    let scalar = try #require(scalar)
    var differentiated = graph
    let gradients = try differentiated.addGradients(of: scalar, withRespectTo: values)
    for (value, gradient) in zip(values, gradients) {
      guard let gradient else { continue }
      #expect(
        differentiated.tensorType(of: gradient) == graph.tensorType(of: value), "type of gradient")
    }
    try differentiated.verify()
    let names = Set(gradients.compactMap { $0.map(differentiated.name(of:)) }).sorted()
    let found = try Executor(differentiated, outputs: names, arithmetic: .float64).run(inputs)
    let differences = try Differences(self, scalar)
    var (error, scale) = (0.0, 1e-3)
    for (value, gradient) in zip(values, gradients) {
      let expected = try differences.gradient(of: graph.name(of: value))
      let zeros = [Double](repeating: 0, count: expected.count)
      let name = gradient.map(differentiated.name(of:)) ?? ""
      let elements = found[name]?.elements(of: Double.self) ?? zeros
      error = max(error, distance(elements, expected))
      scale = expected.reduce(scale) { max($0, abs($1)) }
    }
    return error / scale
  }
}

/// Central differences of a scalar, extrapolated once to the fourth order.
private struct Differences {
  let executor: Executor
  let name: String
  let inputs: [String: Tensor]

  init(_ source: ScalarGraph, _ scalar: Value) throws {
    name = source.graph.name(of: scalar)
    executor = try Executor(source.graph, outputs: [name], arithmetic: .float64)
    inputs = source.inputs
  }

  private func value(_ input: String, _ elements: [Double], _ shape: [Int]) throws -> Double {
    var changed = inputs
    changed[input] = Tensor(shape: shape, elements)
    let result = try executor.run(changed)[name]
    return try #require(result?.elements(of: Double.self).first)
  }

  func gradient(of input: String) throws -> [Double] {
    let tensor = try #require(inputs[input])
    let x = tensor.elements(of: Double.self)
    guard executor.graph.value(named: input) != nil else { return x.map { _ in 0 } }
    return try x.indices.map { index in
      func slope(_ step: Double) throws -> Double {
        var moved = x
        moved[index] = x[index] + step
        let above = try value(input, moved, tensor.shape)
        moved[index] = x[index] - step
        return (above - (try value(input, moved, tensor.shape))) / (2 * step)
      }
      return try (4 * slope(1e-3) - slope(2e-3)) / 3
    }
  }
}

extension Graph {
  /// The same graph with inputs in place of the parameters, which thereby can be float64.
  func withInputsForParameters() throws -> Graph {
    var result = Graph()
    var images: [Value: Value] = [:]
    for value in values {
      if case .node = origin(of: value) { continue }
      images[value] = try result.addInput(name(of: value), tensorType(of: value))
    }
    for node in nodes {
      let inputs = try node.inputs.map { try #require(images[$0]) }
      let outputs = try result.addNode(node.name, node.op, inputs)
      for (old, new) in zip(node.outputs, outputs) { images[old] = new }
    }
    for output in outputs {
      try result.addOutput(output.name, try #require(images[output.value]))
    }
    return result
  }
}

/// The largest distance of two equally long sequences; infinite where one is not a number.
func distance(_ left: [Double], _ right: [Double]) -> Double {
  guard left.count == right.count else { return .infinity }
  return zip(left, right).reduce(0) { largest, pair in
    let distance = abs(pair.0 - pair.1)
    return distance.isFinite ? max(largest, distance) : .infinity
  }
}

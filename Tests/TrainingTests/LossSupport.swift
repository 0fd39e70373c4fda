import Execution
import Glibc
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// What losses are made of, in float64 and without graphs.
enum LossMathematics {
  /// `softmax(logits)`.
  static func probabilities(_ logits: [Double]) -> [Double] {
    let largest = logits.reduce(-.infinity) { max($0, $1) }
    let powers = logits.map { exp($0 - largest) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
  }

  /// `-Σ p ln p` of `softmax(logits)`.
  static func entropy(_ logits: [Double]) -> Double {
    probabilities(logits).reduce(0) { $0 - ($1 > 0 ? $1 * log($1) : 0) }
  }

  /// `Σ p ln (p / q)` of the softmax of both.
  static func divergence(_ teacher: [Double], _ student: [Double]) -> Double {
    zip(probabilities(teacher), probabilities(student)).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) }
  }

  /// The rows of `elements`, scaled to length one.
  static func unitRows(_ elements: [Double], width: Int) -> [[Double]] {
    stride(from: 0, to: elements.count, by: width).map { start in
      let row = elements[start..<(start + width)]
      let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { $0 / length }
    }
  }

  /// `scale * left rightᵀ` by rows.
  static func logits(_ left: [[Double]], _ right: [[Double]], scale: Double) -> [[Double]] {
    left.map { a in right.map { b in scale * zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } } }
  }
}

/// A graph that normalizes the embeddings of a student and a teacher, and tensors for it.
///
/// Inputs are `student.image`, `student.text`, `teacher.image`, `teacher.text` (embeddings before
/// they are normalized), `student.scale` and `teacher.scale` (scalars), `directions` and `classes`
/// (normalized in the graph).
struct LossFixture {
  static let itemCount = 5
  static let classCount = 7

  var builder: GraphBuilder
  var operands: LossOperands
  var inputs: [String: Tensor] = [:]

  /// Random embeddings of these widths; the student's are the teacher's where `isAlike`.
  init(studentWidth: Int = 6, teacherWidth: Int = 6, isAlike: Bool = false, seed: UInt64) throws {
    var graph = Graph()
    var random = SplitMix64(seed: seed)
    var inputs: [String: Tensor] = [:]
    func add(_ name: String, _ extents: [Extent], _ shape: [Int]) throws -> Value {
      let elements = (0..<shape.reduce(1, *)).map { _ in random.nextNormal() }
      inputs[name] = Tensor(shape: shape, elements)
      return try graph.addInput(name, TensorType(.float32, extents))
    }
    func pair(_ name: String, _ width: Int) throws -> PairEmbeddings {
      let shape = [Self.itemCount, width]
      let image = try add(name + ".image", [.symbol("batch"), .fixed(width)], shape)
      let text = try add(name + ".text", [.symbol("texts"), .fixed(width)], shape)
      return PairEmbeddings(
        image: try graph.add(name + ".image.unit", L2Normalize(), image),
        text: try graph.add(name + ".text.unit", L2Normalize(), text), rawImage: image,
        rawText: text)
    }
    func unit(_ name: String, _ rows: Extent, _ count: Int) throws -> Value {
      let value = try add(name, [rows, .fixed(teacherWidth)], [count, teacherWidth])
      return try graph.add(name + ".unit", L2Normalize(), value)
    }
    let student = try pair("student", studentWidth)
    operands = LossOperands(student: student, studentScale: try add("student.scale", [], []))
    operands.teacher = try pair("teacher", teacherWidth)
    operands.teacherScale = try add("teacher.scale", [], [])
    operands.directions = try unit("directions", .symbol("batch"), Self.itemCount)
    operands.classes = try unit("classes", .fixed(Self.classCount), Self.classCount)
    if studentWidth == teacherWidth { operands.projected = student }
    inputs["student.scale"] = Tensor(shape: [], [9.0])
    inputs["teacher.scale"] = Tensor(shape: [], [isAlike ? 9.0 : 7.0])
    if isAlike {
      for part in ["image", "text"] { inputs["student." + part] = inputs["teacher." + part] }
    }
    self.inputs = inputs
    builder = GraphBuilder(graph, scope: "loss")
  }

  /// The normalized rows of input `name`.
  func unitRows(_ name: String) throws -> [[Double]] {
    let tensor = try #require(inputs[name])
    return LossMathematics.unitRows(tensor.doubles, width: tensor.shape[1])
  }

  /// The values of scalars, and the gradients of the first with respect to the student's inputs.
  func run(_ scalars: [Value]) throws -> (values: [Double], gradients: [[Double]]) {
    var graph = builder.graph
    let names = ["student.image", "student.text", "student.scale"]
    let students = try names.map { try #require(graph.value(named: $0)) }
    let gradients = try graph.addGradients(
      of: try #require(scalars.first), withRespectTo: students)
    let gradientNames = gradients.compactMap { $0.map(graph.name(of:)) }
    let scalarNames = scalars.map(graph.name(of:))
    let outputs = Set(gradientNames + scalarNames).sorted()
    let result = try Executor(graph, outputs: outputs, arithmetic: .float64).run(inputs)
    return (
      try scalarNames.map { try #require(result[$0]).doubles[0] },
      try gradientNames.map { try #require(result[$0]).doubles }
    )
  }
}

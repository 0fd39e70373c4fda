import Execution
import GraphIR
import Operators
import TensorCore

/// The graph of a whole step: both models, the losses and the gradients.
package struct TrainingGraph: Sendable {
  /// The graph; ``outputs`` are its values that a step asks for.
  package let graph: Graph
  /// The value of the loss.
  package let loss: String
  /// The value of each term of the mixture, without its weight.
  package let terms: [String]
  /// The student's embeddings of images and of texts.
  package let embeddings: [String]
  /// The teacher's embeddings of images and of texts; empty where there is none.
  package let teacherEmbeddings: [String]
  /// The value that holds each trained parameter's gradient, by the parameter's name.
  package let gradients: [String: String]
  /// Parameters that the objective added and trains.
  package let added: [(name: String, tensor: Tensor)]

  /// Builds the graph.
  ///
  /// - Parameters:
  ///   - form: the student.
  ///   - objective: what is minimized.
  ///   - recomputes: whether the backward half computes the insides of blocks anew.
  ///   - gradientBitCount: bits an element of gradients that linears pass on; nil for float32.
  /// - Throws: ``GraphError`` when the models or the losses do not fit together.
  package init(
    _ form: any TrainedForm, _ objective: Objective, recomputes: Bool,
    gradientBitCount: Int? = nil
  ) throws(GraphError) {
    let own = try form.graph.pairing()
    let student = try own.pairEmbeddings()
    var builder = GraphBuilder(own, scope: "loss")
    let teacher = try Self.addTeacher(objective.teacher, like: student, &builder)
    let operands = try objective.operands(student: student, teacher: teacher, &builder)
    let (mixture, terms) = try objective.losses.value(of: operands, &builder)
    var total = mixture
    if let penalty = try form.penalty(&builder) { total = try builder.sum(total, penalty) }
    var names = form.weights + form.controls.map(\.name)
    var added: [(name: String, tensor: Tensor)] = []
    for (name, isTrained) in [
      (TrainingName.projection, true), (TrainingName.logitScale, objective.trainsScale),
    ] where isTrained {
      guard let tensor = builder.graph.parameter(named: name)?.tensor else { continue }
      guard !names.contains(name) else { continue }
      names.append(name)
      added.append((name, tensor))
    }
    var graph = builder.graph
    let values = names.compactMap { graph.value(named: $0) }
    let kept = recomputes ? Self.blockValues(of: own) : nil
    let made = try graph.addGradients(of: total, withRespectTo: values, keeping: kept)
    builder = GraphBuilder(graph, scope: "gradient")
    let gradients = try Self.gradientNames(of: names, made, &builder)
    graph = builder.graph
    loss = graph.name(of: total)
    self.terms = terms.map { graph.name(of: $0) }
    embeddings = [student.image, student.text].map { graph.name(of: $0) }
    teacherEmbeddings = teacher.map { [$0.image, $0.text].map { graph.name(of: $0) } } ?? []
    if let gradientBitCount {
      graph = try graph.quantizingLinearGradients(bitCount: gradientBitCount)
    }
    self.graph = graph
    self.gradients = gradients
    self.added = added
  }

  /// The name of the value that holds each gradient that there is, by the name of what it is of.
  ///
  /// Every gradient is left in memory of its own: where two are one value, `builder` adds a copy.
  static func gradientNames(
    of names: [String], _ gradients: [Value?], _ builder: inout GraphBuilder
  ) throws(GraphError) -> [String: String] {
    var found: [String: String] = [:]
    var taken = Set<Value>()
    for (name, value) in zip(names, gradients) {
      guard var value else { continue }
      if !taken.insert(value).inserted { value = try builder.add(Scale(by: 1), value) }
      found[name] = builder.graph.name(of: value)
    }
    return found
  }

  /// Adds the teacher beside a student; `givesRaw` asks for stored embeddings before they were
  /// normalized, too.
  static func addTeacher(
    _ teacher: Objective.Teacher, like student: PairEmbeddings, givesRaw: Bool = false,
    _ builder: inout GraphBuilder
  ) throws(GraphError) -> PairEmbeddings? {
    let prefix = TrainingName.teacherPrefix
    switch teacher {
    case .none: return nil
    case .graph(let graph):
      let early = try graph.pairing()
      let pair = try early.pairEmbeddings()
      return try pair.mapped(by: try builder.graph.merge(early, prefix: prefix))
    case .stored(let width):
      let images = builder.graph.tensorType(of: student.image).extents[0]
      let texts = builder.graph.tensorType(of: student.text).extents[0]
      func input(_ name: String, _ rows: Extent) throws(GraphError) -> Value {
        try builder.graph.addInput(
          prefix + name, TensorType(.float32, [rows, .fixed(width)]))
      }
      let image = try input("image_embeds", images)
      let text = try input("text_embeds", texts)
      guard givesRaw else {
        return PairEmbeddings(image: image, text: text, rawImage: image, rawText: text)
      }
      return PairEmbeddings(
        image: image, text: text, rawImage: try input("raw_image", images),
        rawText: try input("raw_text", texts))
    }
  }

  /// The results of the blocks of both towers, between which activations can be computed anew.
  static func blockValues(of graph: Graph) -> Set<Value> {
    Set(
      graph.nodes.compactMap { node in
        let parts = node.name.split(separator: ".")
        let isBlock = parts.count == 3 && parts[1] == "layers" && Int(parts[2]) != nil
        return isBlock || node.name.hasSuffix(".embeddings") ? node.outputs[0] : nil
      })
  }
}

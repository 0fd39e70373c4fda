import Checkpoints
import Execution
import Foundation
import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing
import Training

/// A graph with a loss and gradients, by the names of their values.
struct DifferentiatedLoss {
  var graph: Graph
  let loss: String
  let gradients: [(parameter: String, gradient: String)]
}

/// The recorded models, batch and results of `scripts/training-reference`.
struct Reference {
  let file: HDF5File
  let student: Graph
  let teacher: Graph
  let inputs: [String: Tensor]

  init() throws {
    file = try HDF5File(
      opening: Shared.packageRoot.appendingPathComponent(
        "Tests/TrainingTests/Resources/training-reference.h5"
      ).path)
    student = try Self.model(
      file, "", Self.architecture(width: 12, layers: 2, mlp: 18, projection: 10))
    teacher = try Self.model(
      file, "teacher/", Self.architecture(width: 8, layers: 1, mlp: 12, projection: 8))
    inputs = [
      "pixel_values": try file.floats("inputs/pixel_values"),
      "input_ids": try file.integers("inputs/input_ids"),
    ]
  }

  private static func architecture(
    width: Int, layers: Int, mlp: Int, projection: Int
  ) -> CLIPArchitecture {
    let tower = CLIPTower(
      width: width, layerCount: layers, headCount: 2, mlpWidth: mlp, activation: .quickGELU,
      blockEpsilon: 1e-5, finalEpsilon: 1e-5)
    return CLIPArchitecture(
      image: tower, text: tower, imageHeight: 16, imageWidth: 16, patchSize: 8,
      imagePreEpsilon: 1e-5, contextLength: 12, vocabularySize: 32, endTokenRule: .first(31),
      projectionWidth: projection)
  }

  private static func model(
    _ file: HDF5File, _ prefix: String, _ architecture: CLIPArchitecture
  ) throws -> Graph {
    var tensors: [String: Tensor] = [:]
    for (name, shape) in architecture.tensorShapes {
      tensors[name] = try file.floats(prefix + name, shape: shape)
    }
    return try CLIPGraphBuilder.graph(architecture, tensors)
  }

  /// The recorded loss called `name`.
  func loss(_ name: String) throws -> Double {
    try #require(file.elements("loss/\(name)", of: Double.self).elements(of: Double.self).first)
  }

  /// The parameters that the reference has gradients of.
  func gradientNames(_ name: String) -> Set<String> {
    let prefix = "gradients/\(name)/"
    return Set(
      file.datasets.map(\.name).filter { $0.hasPrefix(prefix) }.map {
        String($0.dropFirst(prefix.count))
      })
  }

  /// CLIP's loss with the student's learned scale.
  func contrastive() throws -> DifferentiatedLoss {
    var graph = student
    let loss = try addContrastiveLoss(&graph)
    return try differentiated(graph, loss)
  }

  /// The affinity loss of student and teacher, both logits multiplied with `multiplier`.
  func affinity(multiplier: Float) throws -> DifferentiatedLoss {
    var graph = student
    var images: [Value: Value] = [:]
    for value in teacher.values {
      let name = teacher.name(of: value)
      switch teacher.origin(of: value) {
      case .input: images[value] = graph.value(named: name)
      case .parameter:
        let parameter = try #require(teacher.parameter(value))
        images[value] = try graph.addParameter("teacher." + name, parameter)
      case .node: continue
      }
    }
    for node in teacher.nodes {
      let operands = try node.inputs.map { try #require(images[$0]) }
      let made = try graph.addNode("teacher." + node.name, node.op, operands)
      for (old, new) in zip(node.outputs, made) { images[old] = new }
    }
    func pair(_ embeddings: (String) throws -> Value) throws -> PairEmbeddings {
      let (image, text) = (try embeddings("image_embeds"), try embeddings("text_embeds"))
      return PairEmbeddings(image: image, text: text, rawImage: image, rawText: text)
    }
    let scale = try graph.addParameter("multiplier", Parameter(Tensor(scalar: multiplier)))
    var operands = LossOperands(
      student: try pair { try #require(graph.output(named: $0)) }, studentScale: scale)
    operands.teacher = try pair { name in
      let output = try #require(teacher.output(named: name))
      return try #require(images[output])
    }
    operands.teacherScale = scale
    var builder = GraphBuilder(graph, scope: "loss")
    let loss = try AffinityLoss().value(of: operands, &builder)
    return try differentiated(builder.graph, loss)
  }

  /// `graph` with the gradients of `loss` with respect to those of the student's parameters that it
  /// depends on.
  private func differentiated(_ graph: Graph, _ loss: Value) throws -> DifferentiatedLoss {
    var graph = graph
    let names = student.parameterValues.map(student.name(of:))
    let values = try names.map { try #require(graph.value(named: $0)) }
    let made = try graph.addGradients(of: loss, withRespectTo: values)
    var gradients: [(parameter: String, gradient: String)] = []
    for (name, gradient) in zip(names, made) {
      if let gradient { gradients.append((name, graph.name(of: gradient))) }
    }
    return DifferentiatedLoss(graph: graph, loss: graph.name(of: loss), gradients: gradients)
  }

  /// The mean over images and texts of the entropy of the teacher's probabilities, in float64.
  func teacherEntropy(multiplier: Double) throws -> Double {
    let result = try Executor(teacher, arithmetic: .float64).run(inputs)
    let images = try #require(result["image_embeds"])
    let (count, width) = (images.shape[0], images.shape[1])
    let (a, b) = (images.doubles, try #require(result["text_embeds"]).doubles)
    var total = 0.0
    for (left, right) in [(a, b), (b, a)] {
      for row in 0..<count {
        let logits = (0..<count).map { column in
          (0..<width).reduce(0) { $0 + left[row * width + $1] * right[column * width + $1] }
            * multiplier
        }
        total += LossMathematics.entropy(logits)
      }
    }
    return total / Double(2 * count)
  }
}

extension Tensor {
  /// The elements of a float tensor in float64.
  var doubles: [Double] {
    dtype == .float64 ? elements(of: Double.self) : elements(of: Float.self).map { Double($0) }
  }
}

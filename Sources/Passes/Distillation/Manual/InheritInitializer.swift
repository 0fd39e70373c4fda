import GraphIR
import Operators
import TensorCore

/// Draws the weights of a model anew, as for a training from nothing.
///
/// Masks and the logit scale stay.
///
/// - Source: Radford et al., ICML 2021, arXiv:2103.00020, the released model's initialization; its
///   patch embedding has the deviation of a convolution's default.
struct InheritInitializer {
  private let graph: Graph
  private let towers: [Tower]
  /// Parameters that stand for a gain or a shift, by the constant they start from.
  private var constants: [Value: Float] = [:]

  /// Draws the parameters of `towers` of `graph`.
  init(graph: Graph, towers: [Tower]) {
    self.graph = graph
    self.towers = towers
    for node in graph.nodes where node.op is Linear || node.op is LayerNorm {
      if node.op is LayerNorm { constants[node.inputs[1]] = 1 }
      if node.inputs.count > 2 { constants[node.inputs[2]] = 0 }
    }
  }

  /// The graph with weights of the normal distribution that `seed` determines.
  ///
  /// - Throws: ``PassError`` when it is unknown how a parameter starts.
  func initialized(seed: UInt64, pass: String) throws(PassError) -> Graph {
    var result = graph
    var random = SplitMix64(seed: seed)
    let wanted = graph.values(of: towers)
    for value in graph.parameterValues where wanted.contains(value) {
      guard var parameter = graph.parameter(value) else { continue }
      let shape = parameter.tensor.shape
      if let constant = constants[value] {
        parameter.tensor = Tensor(shape: shape, of: Float.self) { $0.update(repeating: constant) }
      } else {
        guard let deviation = deviation(of: graph.name(of: value), shape) else {
          throw .unsuitable(
            pass: pass, "nothing is known of how \(graph.name(of: value)) starts")
        }
        parameter.tensor = Tensor(shape: shape, of: Float.self) { target in
          for index in target.indices { target[index] = Float(random.nextNormal() * deviation) }
        }
      }
      do { try result.setParameter(value, parameter) } catch {
        throw .graph(pass: pass, error)
      }
    }
    return result
  }

  /// The standard deviation that the weight `name` starts with.
  private func deviation(of name: String, _ shape: [Int]) -> Double? {
    let inputs = Double(shape.last ?? 1)
    for tower in towers {
      guard let layer = InheritBlocks.index(of: name, tower) else { continue }
      let prefix = InheritBlocks.name(tower, layer)
      switch name.dropFirst(prefix.count) {
      case ".attention.query.weight", ".attention.key.weight", ".attention.value.weight":
        return 1 / inputs.squareRoot()
      case ".attention.output.weight", ".mlp.fc2.weight":
        return 1 / (Double(shape[0]) * 2 * Double(depth(of: tower))).squareRoot()
      case ".mlp.fc1.weight": return 1 / (2 * inputs).squareRoot()
      default: return nil
      }
    }
    switch name {
    case "image.patch_embedding.weight": return 1 / (3 * inputs).squareRoot()
    case "image.class_embedding", "image.position_embedding", "image.projection.weight",
      "text.projection.weight":
      return 1 / inputs.squareRoot()
    case "text.token_embedding": return 0.02
    case "text.position_embedding": return 0.01
    default: return nil
    }
  }

  private func depth(of tower: Tower) -> Int {
    var count = 0
    while graph.value(named: InheritBlocks.name(tower, count)) != nil { count += 1 }
    return count
  }
}
